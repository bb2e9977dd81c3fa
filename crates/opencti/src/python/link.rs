//! The socket that Python processes connect to.
//!
//! It is an abstract socket (Linux): it needs no file, so a read-only file system will do. Each process shows a secret
//! that it was given on its standard input.

use std::collections::HashMap;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::child::Lines;
use super::protocol::Hello;

/// How long a connection may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing is accepted after a failure to accept.
const PAUSE: Duration = Duration::from_millis(100);

/// A process that has connected.
pub(super) struct Arrival {
    pub(super) hello: Hello,
    pub(super) lines: Lines,
}

#[derive(Default)]
struct Expected(Mutex<HashMap<String, oneshot::Sender<Arrival>>>);

/// The listening socket.
pub(super) struct Link {
    /// The name of the abstract socket.
    pub(super) address: String,
    /// What processes have to show.
    pub(super) secret: String,
    expected: Arc<Expected>,
    listener: Mutex<Option<StdListener>>,
    accepting: Mutex<Option<tokio_util::task::AbortOnDropHandle<()>>>,
}

impl Link {
    pub(super) fn listen() -> std::io::Result<Self> {
        let word = || format!("{:032x}", rand::random::<u128>());
        let address = format!("tidegate-{}-{}", std::process::id(), word());
        let listener = StdListener::bind_addr(&SocketAddr::from_abstract_name(&address)?)?;
        listener.set_nonblocking(true)?;
        Ok(Self {
            address,
            secret: word(),
            expected: Arc::default(),
            listener: Mutex::new(Some(listener)),
            accepting: Mutex::default(),
        })
    }

    /// Resolves when a process of this name has connected.
    pub(super) fn expect(&self, name: &str) -> std::io::Result<oneshot::Receiver<Arrival>> {
        self.accept()?;
        let (sender, receiver) = oneshot::channel();
        lock(&self.expected.0).insert(name.to_owned(), sender);
        Ok(receiver)
    }

    /// A process of this name will not connect any more.
    pub(super) fn forget(&self, name: &str) {
        lock(&self.expected.0).remove(name);
    }

    /// Begins to accept; needs a runtime, so not before the first process.
    fn accept(&self) -> std::io::Result<()> {
        let Some(listener) = lock(&self.listener).take() else {
            return Ok(());
        };
        let listener = UnixListener::from_std(listener)?;
        let (expected, secret) = (Arc::clone(&self.expected), self.secret.clone());
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let (expected, secret) = (Arc::clone(&expected), secret.clone());
                        tokio::spawn(greet(stream, expected, secret));
                    }
                    Err(error) => {
                        warn!(%error, "cannot accept a Python process");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        });
        *lock(&self.accepting) = Some(tokio_util::task::AbortOnDropHandle::new(task));
        Ok(())
    }
}

/// Takes a connection for what it says it is, if it knows the secret and its process is ours.
async fn greet(stream: UnixStream, expected: Arc<Expected>, secret: String) {
    let peer = stream
        .peer_cred()
        .ok()
        .and_then(|credentials| credentials.pid());
    let mut lines = Lines::new(stream);
    let Ok(Ok(line)) = timeout(HELLO_TIMEOUT, lines.next()).await else {
        debug!("a connection said nothing");
        return;
    };
    let hello = serde_json::from_slice::<Hello>(&line)
        .ok()
        .filter(|hello| hello.secret == secret && peer == Some(hello.pid));
    let Some(hello) = hello else {
        warn!(pid = peer, "a process that is none of ours has connected");
        return;
    };
    let sender = lock(&expected.0).remove(&hello.name);
    if let Some(sender) = sender {
        // If nobody waits any more, the connection closes, and the process ends.
        let _gone = sender.send(Arrival { hello, lines });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

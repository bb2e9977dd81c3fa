//! Reads that run the AMQP runtime while they wait.

use std::io::Write as _;
use std::net::TcpListener;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::task::{Wake, Waker};
use std::thread;

use futures_util::io::AsyncRead as _;

use super::*;
use crate::broker::AmqpRuntime;

/// A heartbeat of AMQP.
const FRAME: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, 0xCE];

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A socket whose reads run the tasks of a runtime, as the client library's thread uses it.
struct Reader {
    runtime: AmqpRuntime,
    socket: Socket,
    broker: std::net::TcpStream,
    wakes: Arc<Wakes>,
}

impl Reader {
    fn new() -> Self {
        let runtime = AmqpRuntime::start().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (broker, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let handle = runtime.executor().handle().unwrap();
        let entered = handle.enter();
        let stream = TcpStream::from_std(stream).unwrap();
        drop(entered);
        let mut socket = Socket::new(Stream::Plain(stream), 131_072);
        socket.borrow(runtime.borrower());
        Self {
            runtime,
            socket,
            broker,
            wakes: Arc::default(),
        }
    }

    fn poll(&mut self) -> Poll<io::Result<usize>> {
        let waker = Waker::from(Arc::clone(&self.wakes));
        let mut buffer = [0; 8 * 1024];
        Pin::new(&mut self.socket).poll_read(&mut Context::from_waker(&waker), &mut buffer)
    }

    /// Reads until something is here; every answer that says otherwise asks for another read.
    fn read(&mut self) -> io::Result<usize> {
        loop {
            let before = self.wakes.0.load(Ordering::Relaxed);
            if let Poll::Ready(read) = self.poll() {
                return read;
            }
            assert_eq!(self.wakes.0.load(Ordering::Relaxed), before + 1);
        }
    }
}

#[test]
fn a_read_that_waits_runs_the_tasks() {
    let mut reader = Reader::new();
    for round in 0..20 {
        // The bytes come only when a task has run, and it runs only in a read.
        let mut broker = reader.broker.try_clone().unwrap();
        reader.runtime.spawn_unwatched(async move {
            tokio::task::yield_now().await;
            broker.write_all(&FRAME).unwrap();
        });
        assert_eq!(reader.read().unwrap(), FRAME.len(), "round {round}");
    }
}

#[test]
fn what_was_read_is_handled_before_the_next_wait() {
    let mut reader = Reader::new();
    reader.broker.write_all(&FRAME).unwrap();
    assert_eq!(reader.read().unwrap(), FRAME.len());
    // Nothing will ever happen: a turn would block here.
    assert!(reader.poll().is_pending());
}

#[test]
fn a_connection_that_is_given_up_ends_the_wait() {
    let mut reader = Reader::new();
    let handle = reader.socket.handle();
    let (sender, first) = mpsc::channel();
    let giving_up = thread::spawn(move || {
        first.recv().unwrap();
        handle.abandon();
    });
    assert!(reader.poll().is_pending());
    sender.send(()).unwrap();
    let error = reader.read().unwrap_err();
    assert!(
        error.to_string().contains("gave the connection up"),
        "{error}"
    );
    giving_up.join().unwrap();
}

#[test]
fn the_end_of_the_runtime_leaves_a_socket_that_does_not_block() {
    let Reader {
        runtime,
        mut socket,
        broker: _broker,
        wakes,
    } = Reader::new();
    let waker = Waker::from(Arc::clone(&wakes));
    let mut context = Context::from_waker(&waker);
    let mut buffer = [0; 8 * 1024];
    assert!(
        Pin::new(&mut socket)
            .poll_read(&mut context, &mut buffer)
            .is_pending()
    );
    drop(runtime);
    // The turn ends, and what tokio says of a socket without a runtime is passed on.
    let read = Pin::new(&mut socket).poll_read(&mut context, &mut buffer);
    assert!(!matches!(read, Poll::Ready(Ok(_))), "{read:?}");
}

//! A thread that starts children, and lives as long as they do.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;

use nix::sys::signal::SigSet;
use tokio::sync::oneshot;

use super::child::Child;
use super::keeper::Keeper;
use super::program::{Program, Variables};
use super::start::{self, Stack, Started};

/// Stack of a starter's thread, in bytes: the children's stacks are apart.
const THREAD_STACK: usize = 128 * 1024;

/// Starts children of one handler, one after the other, on a thread of its own.
///
/// The thread begins with the first child and ends when the starter and all its children are gone: the kernel
/// kills a child when the thread that started it ends. A program on a file system that hangs holds up this
/// starter alone, so each handler has its own.
#[derive(Clone, Default)]
pub(crate) struct Starter(Arc<Mutex<Option<Running>>>);

/// The parts that start with the first child.
struct Running {
    requests: mpsc::Sender<Request>,
    /// It is told of an end in order once this is gone.
    _keeper: Option<Arc<Keeper>>,
}

struct Request {
    program: Arc<Program>,
    variables: Variables,
    descriptors: Vec<(OwnedFd, RawFd)>,
    answer: oneshot::Sender<io::Result<Unclaimed>>,
}

/// A child on its way to whoever asked for it; killed if nobody takes it.
pub(super) struct Unclaimed(Option<Started>);

impl Unclaimed {
    fn claim(mut self) -> Started {
        self.0.take().expect("only claim and drop take the child")
    }
}

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(started) = self.0.take() {
            super::child::end_now(&started);
        }
    }
}

impl Starter {
    /// Starts `program` with `variables` beside its own environment and with `descriptors`: each of ours becomes
    /// the child's of that number, and is closed here. Dropping the future kills the child that it would
    /// have given.
    ///
    /// # Errors
    /// See [`is_shortage`](super::is_shortage) for those that may pass by themselves.
    pub(crate) async fn start(
        &self,
        program: &Arc<Program>,
        variables: Variables,
        descriptors: Vec<(OwnedFd, RawFd)>,
    ) -> io::Result<Child> {
        let (answer, started) = oneshot::channel();
        let request = Request {
            program: Arc::clone(program),
            variables,
            descriptors,
            answer,
        };
        self.requests()?
            .send(request)
            .expect("a starter's thread ends after its last sender");
        let started = started
            .await
            .expect("a starter answers every request")?
            .claim();
        Child::new(started, self.clone())
    }

    fn requests(&self) -> io::Result<mpsc::Sender<Request>> {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            return Ok(running.requests.clone());
        }
        start::keep_exit_statuses();
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("tidegate-starter".into())
            .stack_size(THREAD_STACK)
            .spawn(move || serve(&receiver))?;
        *running = Some(Running {
            requests: sender.clone(),
            _keeper: Keeper::of_this_process(),
        });
        Ok(sender)
    }
}

fn serve(requests: &mpsc::Receiver<Request>) {
    // Children must not run this process's handlers, and its signals are for other threads.
    if let Err(error) = SigSet::all().thread_block() {
        tracing::error!(%error, "the thread that starts children cannot block signals");
    }
    let mut stack = Stack::new();
    while let Ok(request) = requests.recv() {
        let Request {
            program,
            variables,
            descriptors,
            answer,
        } = request;
        let started = start::start(&program, &variables, &descriptors, &mut stack);
        // The child's ends of the pipes must be closed here before anybody waits for their end.
        drop(descriptors);
        // Nobody there: the child is killed as it is dropped.
        let _ = answer.send(started.map(|started| Unclaimed(Some(started))));
    }
}

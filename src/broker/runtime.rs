//! A runtime of its own for everything that speaks AMQP.

mod loan;
mod turn;

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio_executor_trait::Tokio;

use crate::lifecycle::{Tasks, WatchedTask};

use loan::Shared;
pub(super) use loan::{Borrower, Turn};
pub(super) use turn::tracked;

/// One thread that runs the client library's tasks, the settle loops and the status publisher.
///
/// Handlers run elsewhere, so that a handler that blocks its thread cannot stop AMQP heartbeats: with
/// both on one runtime, blocked threads lose the connection and with it every acknowledgement.
///
/// The client library has a thread of its own for each connection. The one that consumes may borrow the runtime
/// and run its tasks while it would otherwise sleep: see `loan::Borrower`.
#[derive(Debug)]
pub struct AmqpRuntime {
    handle: Handle,
    tasks: Tasks,
    /// Dropping it ends the thread.
    shared: Arc<Shared>,
}

impl AmqpRuntime {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the operating system refuses a thread or an event queue.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_park(turn::before_sleep)
            .build()?;
        let handle = runtime.handle().clone();
        let shared = Arc::new(Shared::new(runtime));
        let owner = Arc::clone(&shared);
        thread::Builder::new()
            .name("tidegate-amqp".to_owned())
            .spawn(move || owner.run())?;
        Ok(Self {
            handle,
            tasks: Tasks::default(),
            shared,
        })
    }

    /// Spawns a long-lived task on the thread, watched under its name: see [`Tasks`].
    pub fn spawn<F>(&self, name: impl Into<String>, future: F) -> WatchedTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(name, &self.handle, tracked(future))
    }

    /// Spawns a task on the thread that nobody watches.
    pub fn spawn_unwatched<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.handle.spawn(tracked(future))
    }

    /// The watch over every long-lived task of this runtime's owner.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The runtime in the form that travels between executor-agnostic crates. Its tasks are to be [`tracked`].
    pub(super) fn executor(&self) -> Tokio {
        Tokio::default().with_handle(self.handle.clone())
    }

    /// What lets another thread run the tasks.
    pub(super) fn borrower(&self) -> Borrower {
        Borrower::new(Arc::clone(&self.shared))
    }
}

impl Drop for AmqpRuntime {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

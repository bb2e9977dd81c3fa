//! A runtime of its own for everything that speaks AMQP.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio_executor_trait::Tokio;

use crate::lifecycle::{Tasks, WatchedTask};

/// One thread that runs the client library, the settle loops and the status publisher.
///
/// Handlers run elsewhere, so that a handler that blocks its thread cannot stop AMQP heartbeats: with
/// both on one runtime, blocked threads lose the connection and with it every acknowledgement.
#[derive(Debug)]
pub struct AmqpRuntime {
    handle: Handle,
    tasks: Tasks,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl AmqpRuntime {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the operating system refuses a thread or an event queue.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new()
            .name("tidegate-amqp".to_owned())
            .spawn(move || {
                // An error says that the owner is gone: the same as being told to stop.
                let _ = runtime.block_on(stopped);
                runtime.shutdown_background();
            })?;
        Ok(Self {
            handle,
            tasks: Tasks::default(),
            _stop: stop,
        })
    }

    /// Spawns a long-lived task on the thread, watched under its name: see [`Tasks`].
    pub fn spawn<F>(&self, name: impl Into<String>, future: F) -> WatchedTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tasks.spawn(name, &self.handle, future)
    }

    /// The watch over every long-lived task of this runtime's owner.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The thread's runtime, for short tasks.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The runtime in the form that travels between executor-agnostic crates.
    pub(crate) fn executor(&self) -> Tokio {
        Tokio::default().with_handle(self.handle.clone())
    }
}

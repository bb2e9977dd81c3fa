//! A runtime of its own for everything that speaks AMQP.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// One thread that runs the client library, the settle loops and the status publisher.
///
/// Handlers run elsewhere, so that a handler that blocks its thread cannot stop AMQP heartbeats: with
/// both on one runtime, blocked threads lose the connection and with it every acknowledgement.
#[derive(Debug)]
pub struct AmqpRuntime {
    handle: Handle,
    /// Dropping it ends the thread.
    _stop: oneshot::Sender<()>,
}

impl AmqpRuntime {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the operating system refuses a thread or an event queue.
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
            _stop: stop,
        })
    }

    /// Where to spawn tasks that speak AMQP.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }
}

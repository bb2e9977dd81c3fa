//! A runtime on a thread of its own.

use std::convert::Infallible;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A runtime with one thread, which begins with its first use and ends with the last clone of this. All that a task of it
/// does with another costs no switch between threads.
#[derive(Clone)]
pub(crate) struct OwnRuntime {
    name: &'static str,
    prepare: fn(),
    running: Arc<Mutex<Option<Running>>>,
}

struct Running {
    thread: ThreadId,
    handle: Handle,
    /// The thread ends once this is gone.
    _end: oneshot::Sender<Infallible>,
}

impl OwnRuntime {
    /// A runtime whose thread has this `name`, and runs `prepare` before anything else.
    pub(crate) fn new(name: &'static str, prepare: fn()) -> Self {
        Self {
            name,
            prepare,
            running: Arc::default(),
        }
    }

    /// The handle of the runtime, and whether this is its thread.
    ///
    /// # Errors
    /// The system lacks what a thread or a runtime needs.
    pub(crate) fn handle(&self) -> io::Result<(Handle, bool)> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let there = match running.take() {
            Some(there) => there,
            None => self.start()?,
        };
        let there = running.insert(there);
        let is_here = there.thread == thread::current().id();
        Ok((there.handle.clone(), is_here))
    }

    /// The handle for a handler's runs. Without a thread, which is logged, they have to run elsewhere.
    pub(crate) fn for_runs(&self) -> Option<Handle> {
        match self.handle() {
            Ok((handle, _)) => Some(handle),
            Err(error) => {
                tracing::warn!(%error, "no thread for {}: its handler runs on the worker's", self.name);
                None
            }
        }
    }

    fn start(&self) -> io::Result<Running> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (sender, end) = oneshot::channel::<Infallible>();
        let prepare = self.prepare;
        let spawned = thread::Builder::new()
            .name(self.name.into())
            .spawn(move || {
                prepare();
                // The sender never sends; it is gone at the end.
                let _ = runtime.block_on(end);
            })?;
        Ok(Running {
            thread: spawned.thread().id(),
            handle,
            _end: sender,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_begins_with_the_first_use_and_ends_with_the_last_clone() {
        let runtime = OwnRuntime::new("own", || {});
        let other = runtime.clone();
        let (handle, is_here) = runtime.handle().expect("a thread starts");
        assert!(!is_here);
        let (sent, received) = std::sync::mpsc::channel::<Infallible>();
        let inner = runtime.clone();
        let there = handle.spawn(async move { inner.handle().expect("it runs").1 });
        handle.spawn(async move {
            let _until_the_end = sent;
            std::future::pending::<()>().await;
        });
        let mine = Builder::new_current_thread().build().expect("it starts");
        assert!(mine.block_on(there).expect("no panic"), "it is its thread");
        drop(runtime);
        let (again, _) = other.handle().expect("it runs");
        assert_eq!(again.id(), handle.id());
        drop(other);
        assert!(received.recv().is_err(), "its tasks end with it");
    }
}

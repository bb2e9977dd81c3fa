//! A thread that starts children, and lives as long as they do.

use std::io;
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{SigSet, Signal};
use tokio::runtime::Handle;

use super::child::Child;
use super::keeper::Keeper;
use super::pipe::Inherited;
use super::program::{Program, Variables};
use super::start::{self, Started};
use crate::own_runtime::OwnRuntime;

/// Starts children of one handler, one after the other, on a thread of its own, which is a runtime, too: a child that is
/// started from a task of that [`runtime`](Self::runtime), and awaited there, costs no switch between threads.
///
/// The thread begins with its first use and ends when the starter and all its children are gone: the kernel
/// kills a child when the thread that started it ends. A program on a file system that hangs holds up this
/// starter alone, so each handler has its own.
#[derive(Clone)]
pub(crate) struct Starter {
    runtime: OwnRuntime,
    /// Begins with the first child, and is told of an end in order when the last holder is gone.
    keeper: Arc<OnceLock<Option<Arc<Keeper>>>>,
}

/// A child on its way to whoever asked for it; killed if nobody takes it.
struct Unclaimed(Option<Started>);

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

impl Default for Starter {
    fn default() -> Self {
        Self {
            runtime: OwnRuntime::new("tidegate-starter", leave_signals_to_others),
            keeper: Arc::default(),
        }
    }
}

impl Starter {
    /// The runtime of its thread, which ends with the starter and its children; see [`OwnRuntime::for_runs`].
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.runtime.for_runs()
    }

    /// Starts `program` with `variables` beside its own environment and with the child's ends of pipes, which are dropped
    /// here afterwards. Dropping the future kills the child that it would have given.
    ///
    /// # Errors
    /// See [`is_shortage`](super::is_shortage) for those that may pass by themselves.
    pub(crate) async fn start(
        &self,
        program: &Arc<Program>,
        variables: Variables,
        inherited: Vec<Inherited>,
    ) -> io::Result<Child> {
        let (runtime, is_here) = self.runtime.handle()?;
        self.keeper.get_or_init(|| {
            start::keep_exit_statuses();
            Keeper::of_this_process()
        });
        let started = if is_here {
            start::start(program, &variables, &inherited)?
        } else {
            let program = Arc::clone(program);
            let start = async move {
                let started = start::start(&program, &variables, &inherited)?;
                io::Result::Ok(Unclaimed(Some(started)))
            };
            let started = runtime.spawn(start).await;
            started.expect("a start does not panic")?.claim()
        };
        Child::new(started, self.clone())
    }
}

/// Blocks every signal but SIGCHLD: the system discards that one at once, and would wake another thread for it if the
/// thread that started the child blocked it.
fn leave_signals_to_others() {
    let mut signals = SigSet::all();
    signals.remove(Signal::SIGCHLD);
    if let Err(error) = signals.thread_block() {
        tracing::error!(%error, "the thread that starts children cannot block signals");
    }
}

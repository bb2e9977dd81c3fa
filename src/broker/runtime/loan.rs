//! Who runs the tasks of the AMQP runtime: its own thread, or one that has borrowed it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::turn;

/// What the runtime's own thread and a borrower share.
#[derive(Debug)]
pub(super) struct Shared {
    place: Mutex<Place>,
    changed: Condvar,
    /// Tells the runtime's own thread that the place has changed.
    recalled: Notify,
    /// Tells the borrower so.
    borrower: AtomicWaker,
}

#[derive(Debug)]
struct Place {
    /// None after the end of its thread.
    runtime: Option<Arc<Runtime>>,
    is_lent: bool,
    is_stopped: bool,
}

impl Shared {
    pub(super) fn new(runtime: Runtime) -> Self {
        Self {
            place: Mutex::new(Place {
                runtime: Some(Arc::new(runtime)),
                is_lent: false,
                is_stopped: false,
            }),
            changed: Condvar::new(),
            recalled: Notify::new(),
            borrower: AtomicWaker::new(),
        }
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the runtime on this thread whenever nobody has borrowed it, until it is stopped.
    pub(super) fn run(&self) {
        let mut place = self.place();
        let Some(runtime) = place.runtime.clone() else {
            return;
        };
        while place.is_lent || !place.is_stopped {
            if place.is_lent {
                place = self
                    .changed
                    .wait(place)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(place);
            runtime.block_on(self.recalled.notified());
            place = self.place();
        }
        place.runtime = None;
        drop(place);
        if let Some(runtime) = Arc::into_inner(runtime) {
            runtime.shutdown_background();
        }
    }

    /// Has the runtime's own thread end, and the borrower give the runtime back.
    pub(super) fn stop(&self) {
        self.place().is_stopped = true;
        self.changed.notify_one();
        self.recalled.notify_one();
        self.borrower.wake();
    }

    fn lend(&self) -> Option<Arc<Runtime>> {
        let mut place = self.place();
        if place.is_lent || place.is_stopped {
            return None;
        }
        let runtime = place.runtime.clone()?;
        place.is_lent = true;
        self.recalled.notify_one();
        Some(runtime)
    }

    fn is_stopped(&self) -> bool {
        self.place().is_stopped
    }

    fn give_back(&self) {
        self.place().is_lent = false;
        self.changed.notify_one();
    }
}

/// Lets the client library's thread run the AMQP runtime while it waits for its socket.
///
/// The library reads and writes a socket on a thread of its own. Were the tasks to stay on another thread, each arrival
/// would wake both, several times: for the socket, for the delivery, for its acknowledgement. One thread does all of it
/// without a switch.
///
/// It may be used only if nothing but [`tracked`](turn::tracked) tasks of this runtime calls the library about the
/// connection: a call of anything else does not end the wait.
#[derive(Debug)]
pub(in crate::broker) struct Borrower {
    shared: Arc<Shared>,
    runtime: Option<Arc<Runtime>>,
}

impl Borrower {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            runtime: None,
        }
    }

    /// Borrows the runtime if nobody else has, and runs one turn of it, which `poll` ends at once when it is ready. The
    /// first turn does not sleep: its tasks may have run on the runtime's own thread since the library last looked.
    pub(in crate::broker) fn turn<T>(
        &mut self,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Turn<T> {
        let is_new = self.runtime.is_none();
        if is_new {
            self.runtime = self.shared.lend();
        }
        let Some(runtime) = &self.runtime else {
            return Turn::NotLent;
        };
        let shared = &self.shared;
        let ended = turn::run(runtime, !is_new, |context| {
            shared.borrower.register(context.waker());
            if shared.is_stopped() {
                return Poll::Ready(None);
            }
            poll(context).map(Some)
        });
        match ended {
            Some(Some(value)) => Turn::Ready(value),
            Some(None) => {
                self.give_back();
                Turn::NotLent
            }
            None => Turn::Over,
        }
    }

    /// Gives the runtime back to its own thread.
    pub(in crate::broker) fn give_back(&mut self) {
        if self.runtime.take().is_some() {
            self.shared.give_back();
        }
    }
}

impl Drop for Borrower {
    fn drop(&mut self) {
        self.give_back();
    }
}

/// The end of a turn.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::broker) enum Turn<T> {
    /// There was none: the runtime is elsewhere, or at its end.
    NotLent,
    /// What was waited for is here.
    Ready(T),
    /// Something happened, and its tasks have run.
    Over,
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::mpsc;
    use std::thread;

    use super::super::AmqpRuntime;
    use super::*;

    /// The name of the thread that runs the tasks now; `turns` runs them if it has borrowed the runtime.
    fn thread_of_tasks(runtime: &AmqpRuntime, turns: &mut Borrower) -> Option<String> {
        let (sender, name) = mpsc::channel();
        runtime.spawn_unwatched(async move {
            let name = thread::current().name().map(str::to_owned);
            sender.send(name).unwrap();
        });
        while turns.runtime.is_some() {
            assert_eq!(idle_turn(turns), Turn::Over);
            if let Ok(name) = name.try_recv() {
                return name;
            }
        }
        name.recv().unwrap()
    }

    /// A borrower that is never lent anything.
    fn never() -> Borrower {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let shared = Shared::new(runtime);
        shared.stop();
        Borrower::new(Arc::new(shared))
    }

    fn idle_turn(borrower: &mut Borrower) -> Turn<()> {
        borrower.turn(|_| Poll::Pending)
    }

    #[test]
    fn one_thread_at_a_time_runs_the_tasks() {
        let runtime = AmqpRuntime::start().unwrap();
        let mut nobody = never();
        let own = Some("tidegate-amqp".to_owned());
        assert_eq!(thread_of_tasks(&runtime, &mut nobody), own);

        let mut borrower = runtime.borrower();
        assert_eq!(idle_turn(&mut borrower), Turn::Over, "it does not sleep");
        let here = thread::current().name().map(str::to_owned);
        assert_eq!(thread_of_tasks(&runtime, &mut borrower), here);
        let mut second = runtime.borrower();
        assert_eq!(idle_turn(&mut second), Turn::NotLent);
        assert_eq!(thread_of_tasks(&runtime, &mut borrower), here);

        drop(borrower);
        assert_eq!(thread_of_tasks(&runtime, &mut nobody), own);
        assert_eq!(idle_turn(&mut second), Turn::Over);
        assert_eq!(thread_of_tasks(&runtime, &mut second), here);
        second.give_back();
        assert_eq!(thread_of_tasks(&runtime, &mut nobody), own);
    }

    #[test]
    fn the_end_of_the_runtime_ends_a_turn_and_drops_the_tasks() {
        struct Told(mpsc::Sender<()>);
        impl Drop for Told {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let runtime = AmqpRuntime::start().unwrap();
        let (sender, dropped) = mpsc::channel();
        let told = Told(sender);
        runtime.spawn_unwatched(async move {
            let _told = told;
            pending::<()>().await;
        });
        let mut borrower = runtime.borrower();
        let (first, begun) = mpsc::channel();
        let borrowed = thread::spawn(move || {
            while idle_turn(&mut borrower) == Turn::Over {
                let _ = first.send(());
            }
        });
        begun.recv().unwrap();
        drop(runtime);
        borrowed.join().unwrap();
        dropped.recv().unwrap();
    }

    #[test]
    fn a_panic_gives_the_runtime_back() {
        let runtime = AmqpRuntime::start().unwrap();
        let mut borrower = runtime.borrower();
        let panicked = thread::spawn(move || borrower.turn(|_| -> Poll<()> { panic!("broken") }));
        panicked.join().unwrap_err();
        let mut nobody = never();
        let own = Some("tidegate-amqp".to_owned());
        assert_eq!(thread_of_tasks(&runtime, &mut nobody), own);
    }
}

//! One turn of a runtime: it sleeps until something happens, and runs all tasks that became ready.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Runtime;

thread_local! {
    static PROGRESS: RefCell<Option<Progress>> = const { RefCell::new(None) };
}

/// How far the turn is that this thread runs.
struct Progress {
    waker: Waker,
    /// Whether the runtime has slept, or looked for events without a need to sleep.
    has_slept: bool,
    is_over: bool,
}

/// For [`Builder::on_thread_park`](tokio::runtime::Builder::on_thread_park): ends a turn before it sleeps again.
pub(super) fn before_sleep() {
    PROGRESS.with_borrow_mut(|turn| {
        let Some(turn) = turn else { return };
        if turn.has_slept {
            turn.is_over = true;
            // Tokio does not sleep if the hook has woken the future that it blocks on.
            turn.waker.wake_by_ref();
        }
        turn.has_slept = true;
    });
}

/// Runs `runtime` on this thread until `poll` is ready, or until it has slept once and nothing is left to run; if it
/// does not `sleep`, until nothing is left to run. `None` means the latter.
///
/// A task that another thread woke after the last sleep has cut the next one short in advance: so no task runs in a
/// turn whose sleep lasts.
///
/// # Panics
/// If this thread is in a runtime already.
pub(super) fn run<T>(
    runtime: &Runtime,
    sleep: bool,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let _end = End;
    runtime.block_on(poll_fn(|context| {
        if let Poll::Ready(value) = poll(context) {
            return Poll::Ready(Some(value));
        }
        PROGRESS.with_borrow_mut(|turn| match turn {
            Some(turn) if turn.is_over => Poll::Ready(None),
            Some(turn) => {
                // It has another one while it waits for the thread that ran the runtime before.
                turn.waker.clone_from(context.waker());
                Poll::Pending
            }
            None => {
                *turn = Some(Progress {
                    waker: context.waker().clone(),
                    has_slept: !sleep,
                    is_over: false,
                });
                Poll::Pending
            }
        })
    }))
}

/// Forgets the turn, even if a task's panic ends it.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        PROGRESS.with_borrow_mut(|turn| *turn = None);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use tokio::runtime::Builder;
    use tokio::sync::mpsc;

    use super::*;

    fn runtime() -> Runtime {
        Builder::new_current_thread()
            .enable_all()
            .on_thread_park(before_sleep)
            .build()
            .unwrap()
    }

    #[test]
    fn what_is_ready_ends_it_at_once() {
        let runtime = runtime();
        assert_eq!(run(&runtime, true, |_| Poll::Ready(7)), Some(7));
    }

    #[test]
    fn it_runs_all_that_became_ready_and_then_ends() {
        let runtime = runtime();
        let (sender, mut receiver) = mpsc::unbounded_channel::<usize>();
        let (done, mut ended) = mpsc::unbounded_channel();
        runtime.spawn(async move {
            while let Some(number) = receiver.recv().await {
                // Each number needs another task, which becomes ready while this one runs.
                let done = done.clone();
                tokio::spawn(async move { done.send(number).unwrap() });
            }
        });
        for number in 0..200 {
            sender.send(number).unwrap();
            assert_eq!(run(&runtime, true, |_| Poll::<()>::Pending), None);
            assert_eq!(ended.try_recv(), Ok(number));
        }
    }

    #[test]
    fn no_task_runs_in_a_turn_that_sleeps_afterwards() {
        const COUNT: usize = 2_000;
        let runtime = runtime();
        let (sender, mut receiver) = mpsc::channel(1);
        let ran = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&ran);
        runtime.spawn(async move {
            while receiver.recv().await.is_some() {
                counter.fetch_add(1, Ordering::Relaxed);
            }
        });
        // The other thread sends the next only when a turn has told of the last: a turn that slept on would never end.
        let (told, tell) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            for _ in 0..COUNT {
                sender.blocking_send(()).unwrap();
                tell.recv().unwrap();
            }
        });
        for expected in 1..=COUNT {
            while ran.load(Ordering::Relaxed) < expected {
                assert_eq!(run(&runtime, true, |_| Poll::<()>::Pending), None);
            }
            told.send(()).unwrap();
        }
        other.join().unwrap();
    }

    #[test]
    fn a_timer_ends_its_sleep() {
        let runtime = runtime();
        let task = runtime.spawn(async {
            let limit = std::time::Duration::from_millis(5);
            let _ = tokio::time::timeout(limit, std::future::pending::<()>()).await;
        });
        while !task.is_finished() {
            assert_eq!(run(&runtime, true, |_| Poll::<()>::Pending), None);
        }
    }

    #[test]
    fn without_sleep_it_ends_when_nothing_is_left_to_run() {
        let runtime = runtime();
        let task = runtime.spawn(tokio::task::yield_now());
        assert_eq!(run(&runtime, false, |_| Poll::<()>::Pending), None);
        assert!(task.is_finished());
        assert_eq!(run(&runtime, false, |_| Poll::<()>::Pending), None);
    }

    #[test]
    fn a_wake_of_its_own_is_looked_at_before_it_ends() {
        let runtime = runtime();
        let polls = Cell::new(0);
        let ended = run(&runtime, true, |context| {
            polls.set(polls.get() + 1);
            if polls.get() == 3 {
                return Poll::Ready("here");
            }
            context.waker().wake_by_ref();
            Poll::Pending
        });
        assert_eq!(ended, Some("here"));
    }
}

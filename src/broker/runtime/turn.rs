//! One turn of a runtime: it sleeps until something happens, and runs all tasks that became ready.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Runtime;

thread_local! {
    static PROGRESS: RefCell<Option<Progress>> = const { RefCell::new(None) };
    /// Whether this thread's current turn has run a tracked task.
    static HAS_RUN: Cell<bool> = const { Cell::new(false) };
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
        if turn.has_slept || HAS_RUN.get() {
            turn.is_over = true;
            // Tokio does not sleep if the hook has woken the future that it blocks on.
            turn.waker.wake_by_ref();
        }
        turn.has_slept = true;
    });
}

/// Has the turn that runs `future` end without another sleep.
///
/// Tokio looks for events at other times than in a sleep, too: the tasks that this wakes may run only in the next turn,
/// and nothing but their own polls tells of it. A turn that ran them and then slept would keep from the client library what
/// they asked of it.
pub(in crate::broker) async fn tracked<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        HAS_RUN.set(true);
        future.as_mut().poll(context)
    })
    .await
}

/// Runs `runtime` on this thread until `poll` is ready, or until nothing is left to run and it has slept once or run a
/// [`tracked`] task; if it does not `sleep`, until nothing is left to run. `None` means the latter.
///
/// So no tracked task runs in a turn that sleeps afterwards.
///
/// # Panics
/// If this thread is in a runtime already.
pub(super) fn run<T>(
    runtime: &Runtime,
    sleep: bool,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let _end = End;
    HAS_RUN.set(false);
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
    use std::io::Write as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;
    use std::time::Duration;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;
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

    /// A pair of sockets of which the first is the runtime's.
    fn half_registered() -> (UnixStream, std::os::unix::net::UnixStream) {
        let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        (UnixStream::from_std(near).unwrap(), far)
    }

    /// Two sockets in one runtime: a task waits for the first, the turns' own future for the second.
    #[test]
    fn a_task_that_was_woken_without_a_sleep_ends_the_next_turn() {
        for sleeps_first in [false, true] {
            let runtime = runtime();
            let entered = runtime.enter();
            let (mut near, mut far) = half_registered();
            let (other, mut other_far) = half_registered();
            // So that a turn that sleeps in vain ends at all.
            let end = Duration::from_secs(1);
            runtime.spawn(tokio::time::timeout(end, std::future::pending::<()>()));
            drop(entered);
            let task = runtime.spawn(tracked(async move {
                near.read_u8().await.unwrap();
                // To drop it would end the turn.
                near
            }));
            let mut second = |context: &mut Context<'_>| other.poll_read_ready(context);
            if sleeps_first {
                // The task has looked at its socket, and the turn's end at both.
                assert!(run(&runtime, false, &mut second).is_none());
                far.write_all(b"1").unwrap();
                other_far.write_all(b"1").unwrap();
                // One sleep ends with both, and what it waited for comes first.
                assert!(run(&runtime, true, &mut second).is_some());
            } else {
                far.write_all(b"1").unwrap();
                // The task finds nothing, and the look for events at the turn's end wakes it.
                assert!(run(&runtime, false, &mut second).is_none());
            }
            assert!(!task.is_finished());
            let sleeps = runtime.metrics().worker_park_count(0);
            assert!(run(&runtime, true, |_| Poll::<()>::Pending).is_none());
            assert!(task.is_finished());
            assert_eq!(runtime.metrics().worker_park_count(0), sleeps);
        }
    }

    #[test]
    fn a_timer_ends_its_sleep() {
        let runtime = runtime();
        let task = runtime.spawn(async {
            let limit = Duration::from_millis(5);
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

//! The one place where long-lived tasks are spawned, and the watch over them: nothing dies alone.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};

use futures_util::FutureExt as _;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Spawns long-lived tasks and notices when one ends before it should. Cheap to clone; all clones watch together.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    failure: watch::Sender<Option<TaskFailure>>,
    ending: CancellationToken,
}

/// A long-lived task that ended before it should have: by a panic, or by returning.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the task {task:?} {cause}")]
pub struct TaskFailure {
    /// The task's name.
    pub task: String,
    /// What happened to it, with the words of the panic if there was one.
    pub cause: String,
}

/// A handle to a watched task. Dropping it aborts the task, which counts as no failure.
#[derive(Debug)]
pub struct WatchedTask<T> {
    task: AbortOnDropHandle<T>,
    may_end: CancellationToken,
}

impl Tasks {
    /// Spawns `future` on `runtime` under a name that a failure is reported with. A panic is always a failure; a
    /// return is one until [`Tasks::expect_ends`] or [`WatchedTask::expect_end`] was called.
    pub fn spawn<F>(
        &self,
        name: impl Into<String>,
        runtime: &Handle,
        future: F,
    ) -> WatchedTask<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let may_end = self.ending.child_token();
        let name = name.into();
        let (tasks, ends) = (self.clone(), may_end.clone());
        let watched = async move {
            match AssertUnwindSafe(future).catch_unwind().await {
                Ok(value) => {
                    if !ends.is_cancelled() {
                        tasks.report(name, "ended early".to_owned());
                    }
                    value
                }
                Err(panic) => {
                    tasks.report(name, format!("panicked: {}", words(panic.as_ref())));
                    resume_unwind(panic)
                }
            }
        };
        WatchedTask {
            task: AbortOnDropHandle::new(runtime.spawn(watched)),
            may_end,
        }
    }

    /// From now on a task that returns has not failed. One that panics still has.
    pub fn expect_ends(&self) {
        self.ending.cancel();
    }

    /// The first failure, if there was one.
    pub fn failure(&self) -> Option<TaskFailure> {
        self.failure.borrow().clone()
    }

    /// Resolves with the first failure, at once if there was one already. Cancel safe.
    pub async fn failed(&self) -> TaskFailure {
        let mut failure = self.failure.subscribe();
        let first = failure.wait_for(Option::is_some).await;
        let first = first.expect("this value holds a sender");
        first.clone().expect("it was waited for")
    }

    fn report(&self, task: String, cause: String) {
        tracing::error!(task, cause, "a task of this process failed");
        self.failure.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(TaskFailure { task, cause });
            }
            is_first
        });
    }
}

impl<T> WatchedTask<T> {
    /// From now on the task may return without having failed.
    pub fn expect_end(&self) {
        self.may_end.cancel();
    }

    /// Ends the task at its next await.
    pub fn abort(&self) {
        self.task.abort();
    }

    /// Resolves with what the task returned.
    ///
    /// # Errors
    /// When the task panicked or was aborted.
    pub async fn join(self) -> Result<T, JoinError> {
        self.task.await
    }
}

/// What a panic says, if it says it in words.
pub(crate) fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without words").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_a_failure_with_the_task_s_name_and_words() {
        let tasks = Tasks::default();
        let task = tasks.spawn("node orders", &Handle::current(), async {
            panic!("a delay of {} s", "NaN")
        });
        let failure = tasks.failed().await;
        assert_eq!(failure.task, "node orders");
        assert_eq!(failure.cause, "panicked: a delay of NaN s");
        let joined: Result<(), _> = task.join().await;
        assert!(joined.is_err_and(|error| error.is_panic()));
    }

    #[tokio::test]
    async fn a_return_is_a_failure_until_it_is_expected() {
        let tasks = Tasks::default();
        let runtime = Handle::current();
        tasks.spawn("told", &runtime, async {}).expect_end();
        let told = tasks.spawn("told", &runtime, std::future::ready(1));
        told.expect_end();
        assert_eq!(told.join().await.ok(), Some(1));
        assert_eq!(tasks.failure(), None);
        let early = tasks.spawn("early", &runtime, async {});
        assert!(early.join().await.is_ok());
        assert_eq!(
            tasks.failed().await.to_string(),
            "the task \"early\" ended early"
        );
    }

    #[tokio::test]
    async fn in_a_drain_a_return_is_no_failure_but_a_panic_is() {
        let tasks = Tasks::default();
        tasks.expect_ends();
        let runtime = Handle::current();
        assert!(tasks.spawn("calm", &runtime, async {}).join().await.is_ok());
        assert_eq!(tasks.failure(), None);
        let broken = tasks.spawn("broken", &runtime, async { panic!("oh") });
        let _: Result<(), _> = broken.join().await;
        assert_eq!(tasks.failed().await.task, "broken");
    }
}

//! One run of the handler on one delivery.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::line::{Line, Waiting};
use crate::delivery::Delivery;
use crate::handler::{AnyHandler, Context, Outcome, Reason};
use crate::settlement::Identity;

/// What a run reports when it is over.
#[derive(Debug)]
pub(crate) struct Completion {
    /// The run.
    pub run: u64,
    /// What the handler decided; `None` where it was cancelled before it decided.
    pub outcome: Option<Outcome>,
    /// What its slot has gone on with.
    pub next: Option<Next>,
}

/// A run that follows another in its slot.
#[derive(Debug)]
pub(crate) struct Next {
    /// The run.
    pub run: u64,
    /// What it works on.
    pub waiting: Waiting,
    /// When it began.
    pub started: Instant,
}

/// A delivery's place: its tag means nothing but on the channel of its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// The channel.
    pub generation: u64,
    /// The tag.
    pub tag: u64,
}

/// A delivery, and which message it is.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    /// The delivery.
    pub delivery: Arc<Delivery>,
    /// The message.
    pub identity: Identity,
}

/// A run that has not reported yet.
#[derive(Debug)]
pub(crate) struct Run {
    /// The delivery that its outcome settles: the one that began it, or one that was adopted since.
    pub claim: Claim,
    /// What it works on.
    pub held: Held,
    /// When it began.
    pub started: Instant,
    /// Cancels the handler.
    pub abort: AbortHandle,
}

/// Reports a run's outcome exactly once, whatever happens to the task that runs it, and frees its slot
/// first, unless that goes on with the next delivery.
#[must_use]
struct Guard {
    run: u64,
    outcome: Option<Outcome>,
    slot: Option<OwnedSemaphorePermit>,
    completions: mpsc::UnboundedSender<Completion>,
    line: Option<Arc<Line>>,
}

impl Guard {
    /// Reports `outcome`, and goes on with the next delivery in line, where there is one.
    fn report(&mut self, outcome: Outcome) -> Option<Arc<Delivery>> {
        self.outcome = Some(outcome);
        let line = self.line.clone()?;
        let next = line.go_on(|run, waiting| {
            let finished = std::mem::replace(&mut self.run, run);
            // Without a receiver the node has ended, and the broker has both deliveries back.
            let _ = self.completions.send(Completion {
                run: finished,
                outcome: self.outcome.take(),
                next: Some(Next {
                    run,
                    waiting: waiting.clone(),
                    started: Instant::now(),
                }),
            });
        })?;
        Some(next.held.delivery)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.slot.take());
        // Without a receiver the node has ended, and the broker has the delivery back.
        let _ = self.completions.send(Completion {
            run: self.run,
            outcome: self.outcome.take(),
            next: None,
        });
    }
}

/// Everything a run needs.
pub(crate) struct Start {
    pub run: u64,
    pub claim: Claim,
    pub held: Held,
    pub slot: OwnedSemaphorePermit,
    pub handler: AnyHandler,
    pub context: Context,
    pub timeout: Duration,
    pub completions: mpsc::UnboundedSender<Completion>,
    /// What its slot goes on with; nothing where others wait for the slot.
    pub line: Option<Arc<Line>>,
}

/// Runs the handler on `work` within its time-out and reports its outcome; then on what is in line.
pub(crate) fn start(start: Start, work: &Handle) -> Run {
    let mut guard = Guard {
        run: start.run,
        outcome: None,
        slot: Some(start.slot),
        completions: start.completions,
        line: start.line,
    };
    let mut delivery = Arc::clone(&start.held.delivery);
    let task = work.spawn(async move {
        loop {
            let handled = start.handler.handle(delivery, start.context.clone());
            let outcome = within(start.timeout, handled).await;
            let Some(next) = guard.report(outcome) else {
                return;
            };
            delivery = next;
            // Handlers that never wait must let others have the thread.
            tokio::task::consume_budget().await;
        }
    });
    Run {
        claim: start.claim,
        held: start.held,
        started: Instant::now(),
        abort: task.abort_handle(),
    }
}

async fn within(limit: Duration, handled: impl Future<Output = Outcome>) -> Outcome {
    let caught = AssertUnwindSafe(handled).catch_unwind();
    match tokio::time::timeout(limit, caught).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(panic)) => Outcome::Retry {
            delay: None,
            reason: Reason::Crash,
            error: format!("the handler panicked: {}", panic_text(panic.as_ref())),
        },
        Err(_elapsed) => Outcome::Retry {
            delay: None,
            reason: Reason::Timeout,
            error: format!(
                "the handler did not finish within {}",
                humantime::format_duration(limit)
            ),
        },
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

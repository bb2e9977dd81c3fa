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

use crate::delivery::Delivery;
use crate::handler::{AnyHandler, Context, Outcome, Reason};
use crate::settlement::Identity;

/// What a run reports when it is over.
#[derive(Debug)]
pub struct Completion {
    /// The run.
    pub run: u64,
    /// What the handler decided; `None` where it was cancelled before it decided.
    pub outcome: Option<Outcome>,
}

/// A delivery's place: its tag means nothing but on the channel of its generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The channel.
    pub generation: u64,
    /// The tag.
    pub tag: u64,
}

/// A delivery, and which message it is.
#[derive(Debug, Clone)]
pub struct Held {
    /// The delivery.
    pub delivery: Arc<Delivery>,
    /// The message.
    pub identity: Identity,
}

/// A run that has not reported yet.
#[derive(Debug)]
pub struct Run {
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
/// first.
#[must_use]
struct Guard {
    run: u64,
    outcome: Option<Outcome>,
    slot: Option<OwnedSemaphorePermit>,
    completions: mpsc::UnboundedSender<Completion>,
}

impl Guard {
    /// Reports `outcome`.
    fn report(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.slot.take());
        // Without a receiver the node has ended, and the broker has the delivery back.
        let _ = self.completions.send(Completion {
            run: self.run,
            outcome: self.outcome.take(),
        });
    }
}

/// Everything a run needs.
pub struct Start {
    pub run: u64,
    pub claim: Claim,
    pub held: Held,
    pub slot: OwnedSemaphorePermit,
    pub handler: AnyHandler,
    pub context: Context,
    pub timeout: Duration,
    pub completions: mpsc::UnboundedSender<Completion>,
}

/// Runs the handler on `work` within its time-out, and reports its outcome.
pub fn start(start: Start, work: &Handle) -> Run {
    let guard = Guard {
        run: start.run,
        outcome: None,
        slot: Some(start.slot),
        completions: start.completions,
    };
    let delivery = Arc::clone(&start.held.delivery);
    let task = work.spawn(async move {
        let handled = start.handler.handle(delivery, start.context);
        let caught = AssertUnwindSafe(handled).catch_unwind();
        guard.report(match tokio::time::timeout(start.timeout, caught).await {
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
                    humantime::format_duration(start.timeout)
                ),
            },
        });
    });
    Run {
        claim: start.claim,
        held: start.held,
        started: Instant::now(),
        abort: task.abort_handle(),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

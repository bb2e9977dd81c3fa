//! One run of the handler on one delivery.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, coop};
use tokio::time::Instant;

use super::lease::Lease;
use super::line::{Line, Tell, Waiting};
use super::slots::Slot;
use crate::delivery::Delivery;
use crate::handler::{AnyHandler, Context, Outcome, Reason, Surroundings};
use crate::settlement::RunEnd;

/// A message from a run to the node's task.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "the large one is the usual one")]
pub(crate) enum RunEvent {
    /// The run has given its slot back for a while.
    Held(u64),
    /// The run goes on, or is about to end.
    Resumed(u64),
    /// The run is over.
    Completed(Completion),
    /// A run is over, and its slot has gone on: its end is in the [`Line`].
    WentOn,
}

/// The end of a run.
#[derive(Debug)]
pub(crate) struct Completion {
    /// The run.
    pub run: u64,
    /// The way it ended.
    pub end: RunEnd,
    /// When.
    pub ended: Instant,
    /// The work that its slot has gone on with.
    pub next: Option<Next>,
}

/// A run that follows another in its slot.
#[derive(Debug)]
pub(crate) struct Next {
    /// The run.
    pub run: u64,
    /// The delivery that it works on.
    pub waiting: Waiting,
    /// When it began.
    pub started: Instant,
}

/// A run that has not reported yet.
#[derive(Debug)]
pub(crate) struct Run {
    /// When it began.
    pub started: Instant,
    /// Whether it has given its slot back for a while.
    pub on_hold: bool,
    /// Cancels the handler.
    pub abort: AbortHandle,
}

/// Reports a run's end exactly once, whatever happens to the task that runs it, and frees its slot
/// first, unless that goes on with the next delivery.
#[must_use]
struct Guard {
    run: u64,
    end: RunEnd,
    lease: Arc<Lease>,
    events: mpsc::UnboundedSender<RunEvent>,
    /// The next work for the slot; nothing if others wait for the slot.
    line: Option<Arc<Line>>,
    hold_max: Duration,
}

impl Guard {
    /// Reports `end`, and goes on with the next delivery in line if there is one.
    ///
    /// A task that has to let others have the thread does not: the delivery would wait with it, and so would the
    /// acknowledgement of all that came after.
    fn report(&mut self, end: RunEnd) -> Option<Arc<Delivery>> {
        self.end = end;
        let may_go_on = self.lease.has_slot() && coop::has_budget_remaining();
        let line = self.line.clone().filter(|_| may_go_on)?;
        let (delivery, tell) = line.go_on(|run, waiting| {
            let started = Instant::now();
            let hold_until = waiting.work.arrived + self.hold_max;
            self.lease.begin(run, None, started, hold_until);
            let delivery = Arc::clone(waiting.work.delivery());
            let completion = Completion {
                run: std::mem::replace(&mut self.run, run),
                end: std::mem::replace(&mut self.end, RunEnd::Cancelled),
                ended: started,
                next: Some(Next {
                    run,
                    waiting,
                    started,
                }),
            };
            (completion, delivery)
        })?;
        if tell == Tell::Now {
            // Without a receiver the node has ended, and the broker has both deliveries back.
            let _ = self.events.send(RunEvent::WentOn);
        }
        Some(delivery)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.lease.end();
        // Without a receiver the node has ended, and the broker has the delivery back.
        let _ = self.events.send(RunEvent::Completed(Completion {
            run: self.run,
            end: std::mem::replace(&mut self.end, RunEnd::Cancelled),
            ended: Instant::now(),
            next: None,
        }));
    }
}

/// Everything a run needs.
pub(crate) struct Start {
    pub run: u64,
    pub began: Instant,
    pub delivery: Arc<Delivery>,
    /// When its holds end at the latest.
    pub hold_until: Instant,
    pub slot: Slot,
    pub lease: Lease,
    pub handler: AnyHandler,
    pub surroundings: Arc<Surroundings>,
    pub timeout: Duration,
    pub hold_max: Duration,
    pub events: mpsc::UnboundedSender<RunEvent>,
    /// The next work for its slot; nothing if others wait for the slot.
    pub line: Option<Arc<Line>>,
}

/// Runs the handler on `runtime` within its time-out and reports how it ended; then on what is in line.
pub(crate) fn start(start: Start, runtime: &Handle) -> Run {
    let lease = Arc::new(start.lease);
    lease.begin(start.run, Some(start.slot), start.began, start.hold_until);
    let mut guard = Guard {
        run: start.run,
        end: RunEnd::Cancelled,
        lease: Arc::clone(&lease),
        events: start.events,
        line: start.line,
        hold_max: start.hold_max,
    };
    let mut delivery = start.delivery;
    let task = runtime.spawn(async move {
        loop {
            let slot = Arc::clone(&lease) as Arc<_>;
            let context = Context::of_run(Arc::clone(&start.surroundings), slot, guard.run);
            let starved = context.starved();
            let handled = start.handler.handle(delivery, context);
            let end = within(start.timeout, &lease, &starved, handled).await;
            let Some(next) = guard.report(end) else {
                return;
            };
            delivery = next;
            coop::consume_budget().await;
        }
    });
    Run {
        started: start.began,
        on_hold: false,
        abort: task.abort_handle(),
    }
}

async fn within(
    limit: Duration,
    lease: &Lease,
    starved: &AtomicBool,
    handled: impl Future<Output = Outcome>,
) -> RunEnd {
    let caught = AssertUnwindSafe(handled).catch_unwind();
    tokio::select! {
        biased;
        outcome = caught => match outcome {
            Ok(outcome) => RunEnd::Decided(outcome),
            Err(panic) => RunEnd::Failed(Outcome::Retry {
                delay: None,
                reason: Reason::Crash,
                error: format!("the handler panicked: {}", panic_text(panic.as_ref())),
            }),
        },
        // A lack of the worker is not charged to the message.
        () = lease.ran_for(limit) => if starved.load(Ordering::Relaxed) {
            RunEnd::Decided(Outcome::HandBack)
        } else {
            RunEnd::Failed(Outcome::Retry {
                delay: None,
                reason: Reason::Timeout,
                error: format!(
                    "the handler did not finish within {}",
                    humantime::format_duration(limit)
                ),
            })
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

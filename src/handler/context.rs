//! A handler's view of the worker while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::hold::{Hold, HoldEnd};
use super::shortage::{ShortageWait, Shortages};
use crate::lifecycle::{DrainSignal, DrainTrigger};

/// A handler's view of the worker while it runs. Cheap to clone.
///
/// In a test, [`Context::detached`] gives one of no worker.
#[derive(Debug, Clone)]
pub struct Context {
    surroundings: Arc<Surroundings>,
    /// The slot of this run, and the run's number; `None` outside a worker.
    slot: Option<(Arc<dyn Hold>, u64)>,
    /// Whether the run waits for something that the worker lacks, and has not begun.
    starved: Arc<AtomicBool>,
}

/// What all runs of a node share.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub drain: DrainSignal,
    pub shortages: Shortages,
}

impl Context {
    /// A context that observes `drain`, for a handler that runs outside a worker, in a test for example.
    pub fn new(drain: DrainSignal) -> Self {
        let surroundings = Surroundings {
            drain,
            shortages: Shortages::default(),
        };
        Self {
            surroundings: Arc::new(surroundings),
            slot: None,
            starved: Arc::default(),
        }
    }

    /// The context of run `run`, which has a slot in `slot`.
    pub(crate) fn of_run(surroundings: Arc<Surroundings>, slot: Arc<dyn Hold>, run: u64) -> Self {
        Self {
            surroundings,
            slot: Some((slot, run)),
            starved: Arc::default(),
        }
    }

    /// A context of no worker, and what begins a drain in it: for tests of handlers.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::handler::Context;
    /// use tokio::time::Instant;
    ///
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let (context, drain) = Context::detached();
    /// assert!(!context.is_draining());
    /// drain.begin(Instant::now() + Duration::from_secs(25));
    /// context.draining().await;
    /// assert!(context.is_draining());
    /// # }
    /// ```
    pub fn detached() -> (Self, DrainTrigger) {
        let trigger = DrainTrigger::new();
        (Self::new(trigger.signal()), trigger)
    }

    /// Waits for `delay` without a slot, so that other deliveries can run meanwhile. The delivery stays
    /// unacknowledged, and so keeps its place in the queue.
    ///
    /// The time on hold does not count towards the node's `timeout`. The hold ends early, without a slot, when a drain
    /// begins; the handler should then answer [`Outcome::HandBack`](super::Outcome::HandBack) at once. It also ends once
    /// the delivery has been with the worker for the node's `hold_max`, 25 minutes by default. In a node with a single
    /// active consumer the slot is kept: no other delivery may overtake this one.
    ///
    /// Cancel safe, but a hold that is dropped early leaves the delivery without a slot until it ends.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::handler::HoldEnd;
    /// use tidegate::{Context, Outcome};
    ///
    /// /// Waits while the shop is closed.
    /// async fn ship(context: Context, is_open: impl AsyncFn() -> bool) -> Outcome {
    ///     while !is_open().await {
    ///         if context.hold(Duration::from_secs(10)).await != HoldEnd::Elapsed {
    ///             return Outcome::HandBack;
    ///         }
    ///     }
    ///     Outcome::Done
    /// }
    /// # #[tokio::main(flavor = "current_thread")] async fn main() {
    /// let (context, _drain) = Context::detached();
    /// assert_eq!(ship(context, async || true).await, Outcome::Done);
    /// # }
    /// ```
    pub async fn hold(&self, delay: Duration) -> HoldEnd {
        if let Some((slot, run)) = &self.slot {
            return slot.hold(*run, delay).await;
        }
        tokio::select! {
            biased;
            _deadline = self.surroundings.drain.begun() => HoldEnd::Draining,
            () = tokio::time::sleep(delay) => HoldEnd::Elapsed,
        }
    }

    /// Whether the worker is draining. The delivery may still finish; it ought not to begin long work.
    pub fn is_draining(&self) -> bool {
        self.surroundings.drain.deadline().is_some()
    }

    /// Resolves when a drain begins, at once if it has begun; then is the time to checkpoint.
    ///
    /// Cancel safe.
    pub async fn draining(&self) {
        self.surroundings.drain.begun().await;
    }

    /// When the drain will interrupt what still runs; `None` while there is no drain.
    pub fn deadline(&self) -> Option<Instant> {
        self.surroundings.drain.deadline()
    }

    /// Whether the run has not begun because the worker lacks something. A run that its time-out ends in this
    /// state is handed back: it is no run of the message.
    pub(crate) fn starved(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.starved)
    }

    pub(super) fn set_starved(&self, starved: bool) {
        let was_starved = self.starved.swap(starved, Ordering::Relaxed);
        if was_starved
            && !starved
            && let Some((slot, run)) = &self.slot
        {
            slot.begin_anew(*run);
        }
    }

    pub(super) fn shortages(&self) -> &Shortages {
        &self.surroundings.shortages
    }

    /// The waits of one run for what the worker lacks.
    pub(super) fn shortage_wait(&self) -> ShortageWait<'_> {
        ShortageWait::new(self)
    }
}

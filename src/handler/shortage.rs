//! Waiting for what the worker itself lacks: descriptors, memory, processes, a network.
//!
//! A handler that cannot begin for such a reason waits in its slot and tries again. That is no run of the
//! message: nothing is counted, and a drain or the node's time-out hands the delivery back.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::{Instant, sleep};

use super::Context;

/// The first wait.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The interval of log lines of one node about a shortage that lasts.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// One node's figures of shortages. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shortages {
    /// Attempts to begin that a shortage refused.
    refused: Counter,
    /// Deliveries that wait now.
    waiting: Gauge,
    logged: Arc<Mutex<Option<Instant>>>,
}

impl Shortages {
    /// Counts in these metrics.
    pub(crate) fn new(refused: Counter, waiting: Gauge) -> Self {
        Self {
            refused,
            waiting,
            logged: Arc::default(),
        }
    }

    /// Whether it is time for a line in the log.
    fn is_news(&self, now: Instant) -> bool {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = logged.is_none_or(|last| now.duration_since(last) >= LOG_INTERVAL);
        if is_news {
            *logged = Some(now);
        }
        is_news
    }
}

/// The waits of one run, each longer than the one before. Dropping it ends the shortage for this run, unless a
/// time-out is what drops it: then the run stays marked as not begun.
pub(super) struct ShortageWait<'a> {
    context: &'a Context,
    next: Duration,
    waits: bool,
}

impl<'a> ShortageWait<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self {
            context,
            next: FIRST_WAIT,
            waits: false,
        }
    }

    /// Waits before the next attempt, since `error` kept `what` from beginning. Breaks when a drain begins: the
    /// delivery is to be handed back.
    pub(super) async fn pause(&mut self, what: &str, error: &impl fmt::Display) -> ControlFlow<()> {
        let shortages = self.context.shortages();
        self.context.set_starved(true);
        shortages.refused.inc();
        if !self.waits {
            self.waits = true;
            shortages.waiting.inc();
        }
        if shortages.is_news(Instant::now()) {
            let waiting = shortages.waiting.get();
            tracing::warn!(waiting, %error, "the worker lacks something, and {what} cannot begin; it waits and tries again");
        }
        let jittered = self.next.mul_f64(rand::random_range(0.5..1.0));
        self.next = (self.next * 2).min(LONGEST_WAIT);
        tokio::select! {
            biased;
            () = self.context.draining() => ControlFlow::Break(()),
            () = sleep(jittered) => ControlFlow::Continue(()),
        }
    }

    /// The run has begun, or is over.
    pub(super) fn end(self) {
        self.context.set_starved(false);
    }
}

impl Drop for ShortageWait<'_> {
    fn drop(&mut self) {
        if self.waits {
            self.context.shortages().waiting.dec();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::handler::testing;

    #[tokio::test(start_paused = true)]
    async fn waits_grow_to_a_limit_and_are_counted() {
        let context = testing::context();
        let mut wait = context.shortage_wait();
        let began = Instant::now();
        for _ in 0..20 {
            assert!(wait.pause("a test", &"no descriptors").await.is_continue());
        }
        let took = began.elapsed();
        assert!(
            took > LONGEST_WAIT * 5 && took < LONGEST_WAIT * 20,
            "{took:?}"
        );
        assert_eq!(context.shortages().refused.get(), 20);
        assert_eq!(context.shortages().waiting.get(), 1);
        assert!(context.starved().load(Ordering::Relaxed));
        wait.end();
        assert_eq!(context.shortages().waiting.get(), 0);
        assert!(!context.starved().load(Ordering::Relaxed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_the_wait_at_once() {
        let (context, drain) = Context::detached();
        let mut wait = context.shortage_wait();
        drain.begin(Instant::now());
        let began = Instant::now();
        assert!(wait.pause("a test", &"no descriptors").await.is_break());
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_cut_off_while_it_waits_stays_marked_as_not_begun() {
        let context = testing::context();
        let never = async {
            let mut wait = context.shortage_wait();
            while wait.pause("a test", &"no descriptors").await.is_continue() {}
        };
        assert!(
            tokio::time::timeout(Duration::from_secs(5), never)
                .await
                .is_err()
        );
        assert!(context.starved().load(Ordering::Relaxed));
        assert_eq!(context.shortages().waiting.get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_log_tells_of_a_shortage_once_in_a_while() {
        let shortages = Shortages::default();
        let now = Instant::now();
        assert!(shortages.is_news(now));
        assert!(!shortages.is_news(now + LOG_INTERVAL / 2));
        assert!(shortages.is_news(now + LOG_INTERVAL));
    }
}

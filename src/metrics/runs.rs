//! The runs of one node as others may look at them: how long the oldest has run, and how busy the node was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What runs now, and how much has. The node's task writes, once when a run begins and once when it ends;
/// whoever publishes or shows figures reads. Cheap to clone.
///
/// The lock is held for a look-up and never across an await; writer and readers live on one thread, so that
/// none waits for it.
#[derive(Debug, Clone, Default)]
pub struct Runs(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// When each run began, by its number. Numbers grow with time: the first is the oldest.
    running: BTreeMap<u64, Instant>,
    /// How long all runs that have ended took together.
    ended: Duration,
}

impl Runs {
    /// Notes that run `run` began at `at`.
    pub fn began(&self, run: u64, at: Instant) {
        self.inner().running.insert(run, at);
    }

    /// Notes that run `run` ended at `at`. A run that is not known changes nothing.
    pub fn ended(&self, run: u64, at: Instant) {
        let mut inner = self.inner();
        if let Some(began) = inner.running.remove(&run) {
            inner.ended += at.saturating_duration_since(began);
        }
    }

    /// How long the oldest run has run; zero if none does.
    pub fn oldest(&self, now: Instant) -> Duration {
        let inner = self.inner();
        let oldest = inner.running.first_key_value();
        oldest.map_or(Duration::ZERO, |(_, began)| {
            now.saturating_duration_since(*began)
        })
    }

    /// How long slots have been taken, all together, until `now`. Of two such figures the difference, divided by
    /// the time between them, is how many ran on average.
    pub fn slot_time(&self, now: Instant) -> Duration {
        let inner = self.inner();
        let running = inner.running.values();
        inner.ended
            + running
                .map(|began| now.saturating_duration_since(*began))
                .sum::<Duration>()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_run_and_the_time_that_slots_were_taken_are_known() {
        let runs = Runs::default();
        let second = Duration::from_secs(1);
        let begin = Instant::now();
        assert_eq!(runs.oldest(begin), Duration::ZERO);
        runs.began(7, begin);
        runs.began(8, begin + second);
        assert_eq!(runs.oldest(begin + second * 3), second * 3);
        runs.ended(7, begin + second * 4);
        assert_eq!(runs.oldest(begin + second * 5), second * 4);
        assert_eq!(runs.slot_time(begin + second * 5), second * 8);
        runs.ended(8, begin + second * 5);
        runs.ended(8, begin + second * 9);
        assert_eq!(runs.slot_time(begin + second * 9), second * 8);
    }
}

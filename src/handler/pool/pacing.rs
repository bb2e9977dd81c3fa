//! The pause before a child that follows a failed one.

use std::time::Duration;

use tokio::time::Instant;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_millis(100);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// Spaces the starts of children: each failure in a row doubles the wait for the next start.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    failures: u32,
    not_before: Option<Instant>,
}

impl Pacing {
    /// A child has answered.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// A child has failed. Several that fail within one wait count once. `random`: from 0 to 1, for the jitter.
    pub(super) fn failed(&mut self, now: Instant, random: f64) {
        if self.next_start(now).is_some() {
            return;
        }
        let wait = FIRST
            .saturating_mul(1 << self.failures.min(16))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait.mul_f64(0.5 + random / 2.0));
    }

    /// When the next child may start; `None` for now.
    pub(super) fn next_start(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|at| *at > now)
    }

    /// Children in a row that have failed.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_wait_doubles_up_to_a_limit_and_ends_with_an_answer() {
        let mut now = Instant::now();
        let mut pacing = Pacing::default();
        assert_eq!(pacing.next_start(now), None);
        for expected_ms in [100, 200, 400, 800] {
            pacing.failed(now, 1.0);
            let expected = now + Duration::from_millis(expected_ms);
            assert_eq!(pacing.next_start(now), Some(expected));
            pacing.failed(now, 1.0);
            assert_eq!(pacing.next_start(now), Some(expected), "it counts once");
            now = expected;
            assert_eq!(pacing.next_start(now), None);
        }
        for _ in 0..100 {
            now += LONGEST;
            pacing.failed(now, 0.0);
        }
        assert_eq!(pacing.next_start(now), Some(now + LONGEST / 2));
        pacing.succeeded();
        assert_eq!(pacing.next_start(now), None);
        assert_eq!(pacing.failures(), 0);
    }
}

//! How long to wait between attempts: exponential, with full jitter above a floor, without a limit on attempts.

use std::time::Duration;

/// The first wait's ceiling.
const FIRST: Duration = Duration::from_millis(250);
/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(15);
/// No wait is shorter, so that no loop is hot.
const SHORTEST: Duration = Duration::from_millis(50);

/// Waits between attempts. Pure: it is told a random number and says a duration.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait: between `SHORTEST` and a ceiling that doubles from `FIRST` to `LONGEST`.
    /// `unit` is a random number in `[0, 1)`; jitter keeps a fleet from reconnecting in step.
    pub fn next(&mut self, unit: f64) -> Duration {
        let ceiling = FIRST
            .saturating_mul(1 << self.attempts.min(16))
            .min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        SHORTEST
            + ceiling
                .saturating_sub(SHORTEST)
                .mul_f64(unit.clamp(0.0, 1.0))
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many waits there have been since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_ceiling_and_are_never_hot() {
        let mut backoff = Backoff::default();
        let longest: Vec<_> = (0..40).map(|_| backoff.next(1.0)).collect();
        assert_eq!(longest[0], FIRST);
        assert_eq!(longest[1], FIRST * 2);
        assert_eq!(longest[39], LONGEST);
        assert!(longest.is_sorted());
        backoff.reset();
        assert_eq!(backoff.next(0.0), SHORTEST);
    }
}

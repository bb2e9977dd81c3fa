//! The wait between attempts: exponential, with full jitter above a floor. The attempts have no limit.

use std::time::Duration;

/// The first wait's ceiling.
const FIRST: Duration = Duration::from_millis(250);
/// The ceiling while the broker does not answer. An attempt then costs nobody much, and the first one after an outage is
/// to come soon: within 1.2 s in the median, 4 s at most.
const LONGEST: Duration = Duration::from_secs(4);
/// The ceiling if the broker answers: it refuses, or closes connections soon after they were made. Then an attempt
/// costs the broker something.
const LONGEST_ANSWERED: Duration = Duration::from_secs(15);
/// No wait is shorter, so that no loop is hot.
const SHORTEST: Duration = Duration::from_millis(50);
/// A connection that lasted this long was a success. One that died before adds to the backoff.
const STABLE: Duration = Duration::from_secs(30);

/// The result of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Nobody answered.
    Unanswered,
    /// The broker answered, and it came to nothing.
    Refused,
    /// It succeeded. The network has ended the connection after this time.
    CutAfter(Duration),
    /// It succeeded. The broker has closed the connection after this time, because of an error.
    ClosedAfter(Duration),
}

/// Waits between attempts. Pure: it is told a random number and says a duration.
#[derive(Debug, Clone, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The next wait: between `SHORTEST` and a ceiling that doubles from `FIRST` to `LONGEST`.
    /// `unit` is a random number in `[0, 1)`; jitter keeps a fleet from reconnecting in step.
    pub fn next(&mut self, unit: f64) -> Duration {
        self.after(Attempt::Unanswered, unit)
    }

    /// The next wait after `attempt`.
    pub(crate) fn after(&mut self, attempt: Attempt, unit: f64) -> Duration {
        let (longest, lasted) = match attempt {
            Attempt::Unanswered => (LONGEST, Duration::ZERO),
            Attempt::Refused => (LONGEST_ANSWERED, Duration::ZERO),
            Attempt::CutAfter(time) => (LONGEST, time),
            Attempt::ClosedAfter(time) => (LONGEST_ANSWERED, time),
        };
        if lasted >= STABLE {
            self.reset();
        }
        let ceiling = FIRST
            .saturating_mul(1 << self.attempts.min(16))
            .min(longest);
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
    use rand::rngs::StdRng;
    use rand::{RngExt as _, SeedableRng as _};

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

    #[test]
    fn a_broker_that_answers_is_asked_less_often() {
        let mut backoff = Backoff::default();
        let waits = (0..40).map(|_| backoff.after(Attempt::Refused, 1.0));
        assert_eq!(waits.last(), Some(LONGEST_ANSWERED));
    }

    #[test]
    fn connections_that_die_at_once_are_made_ever_less_often() {
        let mut backoff = Backoff::default();
        let short = Attempt::ClosedAfter(Duration::from_millis(300));
        let waits: Vec<_> = (0..10).map(|_| backoff.after(short, 1.0)).collect();
        assert!(waits.is_sorted());
        assert_eq!(waits[9], LONGEST_ANSWERED);
        assert_eq!(backoff.after(Attempt::ClosedAfter(STABLE), 1.0), FIRST);
        assert_eq!(backoff.after(Attempt::CutAfter(STABLE), 1.0), FIRST);
    }

    /// When each of 1,000 workers makes its first attempt after the broker's return, in seconds. The broker is away for a
    /// minute.
    fn returns() -> Vec<f64> {
        let mut random = StdRng::seed_from_u64(7);
        let back = Duration::from_secs(60);
        let mut returns: Vec<f64> = (0..1_000)
            .map(|_| {
                let mut backoff = Backoff::default();
                let mut now = Duration::ZERO;
                while now < back {
                    now += backoff.next(random.random());
                }
                now.checked_sub(back).unwrap().as_secs_f64()
            })
            .collect();
        returns.sort_by(f64::total_cmp);
        returns
    }

    #[test]
    fn after_an_outage_workers_come_back_soon_and_not_all_at_once() {
        let returns = returns();
        assert!(returns[500] < 1.5, "median {}", returns[500]);
        assert!(returns[950] < 3.5, "95 % {}", returns[950]);
        assert!(returns[999] <= 4.0);
        // No tenth of a second has more than a twelfth of them: an even spread over 4 s would have a fortieth.
        for tenth in 0..40 {
            let from = f64::from(tenth) / 10.0;
            let here = returns.iter().filter(|at| (from..from + 0.1).contains(*at));
            assert!(
                here.count() <= 83,
                "too many between {from} s and 0.1 s later"
            );
        }
    }
}

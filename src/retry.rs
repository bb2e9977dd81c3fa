//! When to try again: exponential, jittered, quantised. Pure.

use std::time::Duration;

use crate::config::RetrySettings;

mod copy;
mod fit;
mod mark;
mod receive;
mod seal;
#[cfg(test)]
mod testing;

pub(crate) use copy::Pending;
pub use copy::{Target, Why, copy, delay_queue};
pub(crate) use fit::fit;
pub use mark::mark;
pub use receive::{CopyMark, Received, receive, restore};
pub use seal::{Purpose, is_sealed, seal};

/// A policy has this many different delays at most; each may need a queue of its own.
pub(crate) const STEPS_LIMIT: u32 = 8;

/// The delays of a policy, growing from `min` to `max`: powers of two apart where eight of them
/// reach that far, else evenly spaced on a logarithmic scale.
pub fn delays(policy: &RetrySettings) -> Vec<Duration> {
    let ratio = policy.max.as_secs_f64() / policy.min.as_secs_f64();
    let mut delays = vec![policy.min];
    if ratio > 1.0 {
        let doublings = (1..STEPS_LIMIT).find(|&steps| 2_f64.powf(f64::from(steps)) >= ratio);
        let steps = doublings.unwrap_or(STEPS_LIMIT - 1);
        for step in 1..steps {
            let factor = ratio.powf(f64::from(step) / f64::from(steps));
            let millis = (policy.min.as_secs_f64() * factor * 1000.0).round();
            delays.push(Duration::from_secs_f64(millis / 1000.0));
        }
        delays.push(policy.max);
    }
    delays
}

/// The delay before the run that follows `attempt` (the first is 1). `unit` is a random number in `[0, 1)`:
/// the exponential delay is shortened by up to half, so that messages that failed together do not come
/// back together, and rounded to the nearest of [`delays`].
pub fn delay(policy: &RetrySettings, attempt: u32, unit: f64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(31);
    let exponential = policy
        .min
        .checked_mul(1 << doublings)
        .unwrap_or(policy.max)
        .min(policy.max);
    let wanted = exponential.mul_f64(1.0 - unit.clamp(0.0, 1.0) / 2.0);
    delays(policy)
        .into_iter()
        .min_by_key(|delay| delay.abs_diff(wanted))
        .unwrap_or(policy.min)
}

/// The delay queue for a delay that was asked for: the first of [`delays`] that is not shorter, so that
/// nothing comes back early; where all are, the longest, to be gone through again.
pub(crate) fn step(policy: &RetrySettings, wanted: Duration) -> Duration {
    let delays = delays(policy);
    let step = delays.into_iter().find(|step| *step >= wanted);
    step.unwrap_or(policy.max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(min: u64, max: u64) -> RetrySettings {
        RetrySettings {
            max_attempts: 5,
            min: Duration::from_millis(min),
            max: Duration::from_millis(max),
        }
    }

    #[test]
    fn a_short_range_doubles() {
        let expected = [1_000, 2_000, 4_000].map(Duration::from_millis);
        assert_eq!(delays(&policy(1_000, 4_000)), expected);
        assert_eq!(delays(&policy(1_000, 1_000)), expected[..1]);
    }

    #[test]
    fn delays_grow_with_the_attempts() {
        let policy = policy(1_000, 300_000);
        let without_jitter: Vec<_> = (1..12)
            .map(|attempt| delay(&policy, attempt, 0.0))
            .collect();
        assert!(without_jitter.is_sorted(), "{without_jitter:?}");
        assert_eq!(without_jitter[0], policy.min);
        assert_eq!(without_jitter[10], policy.max);
    }

    #[test]
    fn a_delay_that_was_asked_for_is_not_cut_short() {
        let policy = policy(1_000, 4_000);
        for (wanted, expected) in [(0, 1_000), (1_000, 1_000), (1_001, 2_000), (9_000, 4_000)] {
            let step = step(&policy, Duration::from_millis(wanted));
            assert_eq!(step, Duration::from_millis(expected));
        }
    }

    proptest! {
        #[test]
        fn every_delay_is_one_of_a_few(
            min in 10_u64..10_000,
            factor in 1_u64..10_000,
            attempt in 1_u32..2_000,
            unit in 0.0..1.0,
        ) {
            let policy = policy(min, min * factor);
            let delays = delays(&policy);
            prop_assert!(delays.len() <= STEPS_LIMIT as usize);
            prop_assert!(delays.is_sorted());
            prop_assert!(delays.contains(&delay(&policy, attempt, unit)));
            prop_assert_eq!(delays[0], policy.min);
            prop_assert_eq!(delays[delays.len() - 1], policy.max);
        }
    }
}

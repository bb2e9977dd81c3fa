//! From outcome to settlement: one table.

use std::time::Duration;

use super::Settlement;
use crate::handler::{Outcome, Reason};

/// The consequence of an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Settle now.
    Settle(Settlement),
    /// Publish a copy, await the broker's confirm, and acknowledge then.
    Copy {
        /// Its destination.
        to: CopyTarget,
        /// The class of what went wrong.
        reason: Reason,
        /// The fault.
        error: String,
    },
}

/// The destination of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyTarget {
    /// To a delay queue, and from there back to its queue. The delay is the policy's, or not less than the one
    /// given.
    Retry(Option<Duration>),
    /// To the dead letters.
    Dead,
}

/// The input of the decision beside the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecisionInput {
    /// Which run of the message it was; the first is 1.
    pub attempt: u32,
    /// How many runs there may be.
    pub max_attempts: u32,
    /// Whether the queue itself delays what is rejected (`x-delayed-retry-type`, RabbitMQ 4.3).
    pub delayed_by_broker: bool,
}

/// The table from outcome to settlement:
///
/// | outcome | settlement | consequence |
/// | --- | --- | --- |
/// | `done` | ack | the message leaves the broker |
/// | `retry`, more runs are left | copy to a delay queue, then ack | the message comes back after the delay, counted; the delivery is free at once |
/// | `retry`, more runs are left, no delay named, and the queue delays | reject, requeue | the broker delays it, and counts |
/// | `retry` in the last run | copy to the dead letters, then ack | with the reason and the error of that run |
/// | `hand_back` | nack, requeue | the message is in its place again; the run does not count |
/// | `dead` | copy to the dead letters, then ack | the message waits there for somebody to look at it |
///
/// A copy is confirmed by the broker before the acknowledgement: until then, the delivery is kept.
pub fn decide(outcome: Outcome, input: DecisionInput) -> Decision {
    match outcome {
        Outcome::Done => Decision::Settle(Settlement::Ack),
        Outcome::HandBack => Decision::Settle(Settlement::HandBack),
        Outcome::Retry { error, reason, .. } if input.attempt >= input.max_attempts => {
            let runs = input.attempt;
            Decision::Copy {
                to: CopyTarget::Dead,
                reason,
                error: format!("run {runs} of {} failed: {error}", input.max_attempts),
            }
        }
        Outcome::Retry { delay: None, .. } if input.delayed_by_broker => {
            Decision::Settle(Settlement::Return)
        }
        Outcome::Retry {
            delay,
            reason,
            error,
        } => Decision::Copy {
            to: CopyTarget::Retry(delay),
            reason,
            error,
        },
        Outcome::Dead { reason, error } => Decision::Copy {
            to: CopyTarget::Dead,
            reason,
            error,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: DecisionInput = DecisionInput {
        attempt: 1,
        max_attempts: 3,
        delayed_by_broker: false,
    };

    fn copy(to: CopyTarget, reason: Reason, error: &str) -> Decision {
        Decision::Copy {
            to,
            reason,
            error: error.to_owned(),
        }
    }

    #[test]
    fn done_is_acknowledged() {
        for attempt in [1, 3, 9] {
            let input = DecisionInput { attempt, ..FIRST };
            assert_eq!(
                decide(Outcome::Done, input),
                Decision::Settle(Settlement::Ack)
            );
        }
    }

    #[test]
    fn what_is_not_decided_goes_back_even_in_the_last_run() {
        for attempt in [1, 3, 9] {
            let input = DecisionInput { attempt, ..FIRST };
            let expected = Decision::Settle(Settlement::HandBack);
            assert_eq!(decide(Outcome::HandBack, input), expected);
        }
    }

    #[test]
    fn a_retry_waits_in_a_delay_queue() {
        let expected = copy(CopyTarget::Retry(None), Reason::Handler, "no");
        assert_eq!(decide(Outcome::retry("no"), FIRST), expected);
        let minute = Duration::from_mins(1);
        let expected = copy(CopyTarget::Retry(Some(minute)), Reason::Handler, "no");
        assert_eq!(decide(Outcome::retry_after(minute, "no"), FIRST), expected);
    }

    #[test]
    fn a_queue_that_delays_takes_back_what_names_no_delay() {
        let input = DecisionInput {
            delayed_by_broker: true,
            ..FIRST
        };
        let expected = Decision::Settle(Settlement::Return);
        assert_eq!(decide(Outcome::retry("no"), input), expected);
        let minute = Duration::from_mins(1);
        let expected = copy(CopyTarget::Retry(Some(minute)), Reason::Handler, "no");
        assert_eq!(decide(Outcome::retry_after(minute, "no"), input), expected);
    }

    #[test]
    fn the_last_run_has_no_retry() {
        for delayed_by_broker in [false, true] {
            for attempt in [3, 4, 100] {
                let input = DecisionInput {
                    attempt,
                    delayed_by_broker,
                    ..FIRST
                };
                let error = format!("run {attempt} of 3 failed: no");
                let expected = copy(CopyTarget::Dead, Reason::Handler, &error);
                assert_eq!(decide(Outcome::retry("no"), input), expected);
            }
        }
    }

    #[test]
    fn a_dead_message_is_kept_with_its_reason() {
        let outcome = Outcome::Dead {
            reason: Reason::TooLarge,
            error: "no".to_owned(),
        };
        let expected = copy(CopyTarget::Dead, Reason::TooLarge, "no");
        assert_eq!(decide(outcome, FIRST), expected);
    }
}

//! From outcome to settlement: one table.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Settlement;
use crate::delivery::HeaderValue;
use crate::handler::Outcome;

/// What follows from an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Settle now.
    Now(Settlement),
    /// Keep the delivery, without a slot, and settle it after this long.
    After(Duration, Settlement),
}

/// The table from outcome to settlement:
///
/// | outcome | settlement | consequence |
/// | --- | --- | --- |
/// | `done` | ack | the message leaves the broker |
/// | `retry` | hand back after the delay | the message is delivered again, to any worker; until then it counts against the prefetch |
/// | `dead` | discard | the message leaves the queue: to the queue's dead-letter exchange, where it has one |
///
/// `default_delay` is asked where a retry names no delay; `longest_delay` bounds what it may name, for a delivery that is
/// kept counts against the broker's acknowledgement time-out.
pub fn decide(
    outcome: &Outcome,
    default_delay: impl FnOnce() -> Duration,
    longest_delay: Duration,
) -> Decision {
    match outcome {
        Outcome::Done => Decision::Now(Settlement::Ack),
        Outcome::Retry { delay, .. } => {
            let delay = delay.unwrap_or_else(default_delay).min(longest_delay);
            Decision::After(delay, Settlement::HandBack)
        }
        Outcome::Dead { .. } => Decision::Now(Settlement::Discard),
    }
}

/// Which run of a message this is, by its headers: a quorum queue counts failed deliveries in
/// `x-delivery-count`.
pub fn attempt_of(headers: &BTreeMap<String, HeaderValue>) -> u32 {
    let failures = headers
        .get("x-delivery-count")
        .and_then(HeaderValue::as_i64)
        .and_then(|count| u32::try_from(count).ok())
        .unwrap_or(0);
    failures.saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn done_is_acknowledged() {
        let decision = decide(&Outcome::Done, || SECOND, MINUTE);
        assert_eq!(decision, Decision::Now(Settlement::Ack));
    }

    #[test]
    fn a_retry_is_handed_back_after_its_delay() {
        let hand_back = |delay| Decision::After(delay, Settlement::HandBack);
        assert_eq!(
            decide(&Outcome::retry("no"), || SECOND, MINUTE),
            hand_back(SECOND)
        );
        let long = Outcome::retry_after(MINUTE * 5, "no");
        assert_eq!(decide(&long, || SECOND, MINUTE), hand_back(MINUTE));
    }

    #[test]
    fn a_dead_message_is_discarded() {
        let decision = decide(&Outcome::dead("no"), || SECOND, MINUTE);
        assert_eq!(decision, Decision::Now(Settlement::Discard));
    }

    #[test]
    fn the_first_run_is_attempt_one() {
        let mut headers = BTreeMap::new();
        assert_eq!(attempt_of(&headers), 1);
        headers.insert("x-delivery-count".to_owned(), HeaderValue::I64(2));
        assert_eq!(attempt_of(&headers), 3);
        headers.insert("x-delivery-count".to_owned(), HeaderValue::I64(-1));
        assert_eq!(attempt_of(&headers), 1);
    }
}

//! The outcome that a handler decides, and its reason.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Bytes of an outcome's error text that are kept.
pub const ERROR_LIMIT: usize = 2_000;

/// A handler's decision about a delivery.
///
/// ```
/// use std::time::Duration;
/// use tidegate::Outcome;
///
/// fn outcome(status: u16) -> Outcome {
///     match status {
///         200..=299 => Outcome::Done,
///         429 => Outcome::retry_after(Duration::from_secs(30), "too many requests"),
///         500..=599 => Outcome::retry("the service failed"),
///         _ => Outcome::dead("the service refuses this order"),
///     }
/// }
/// assert_eq!(outcome(204), Outcome::Done);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The work is done: the message is acknowledged.
    Done,
    /// The work is to be tried again later.
    Retry {
        /// Not before this long from now; `None` leaves the delay to the node's retry policy.
        delay: Option<Duration>,
        /// The class of what went wrong.
        reason: Reason,
        /// What went wrong, for logs and headers; at most [`ERROR_LIMIT`] bytes of it are kept.
        error: String,
    },
    /// Nothing is decided here: the message goes back to its place in the queue, at once, and this run does not count. The
    /// broker delivers it again immediately, maybe to the same worker; see [`Context::hold`](super::Context::hold) for a
    /// way to wait.
    HandBack,
    /// Trying again cannot help: the message goes to the dead letters.
    Dead {
        /// The class of what went wrong.
        reason: Reason,
        /// What went wrong, for logs and headers; at most [`ERROR_LIMIT`] bytes of it are kept.
        error: String,
    },
}

impl Outcome {
    /// Try again, after the delay of the node's retry policy.
    pub fn retry(error: impl Into<String>) -> Self {
        Self::Retry {
            delay: None,
            reason: Reason::Handler,
            error: error.into(),
        }
        .bounded()
    }

    /// Try again, not before `delay` from now.
    pub fn retry_after(delay: Duration, error: impl Into<String>) -> Self {
        Self::Retry {
            delay: Some(delay),
            reason: Reason::Handler,
            error: error.into(),
        }
        .bounded()
    }

    /// Give up on the message.
    pub fn dead(error: impl Into<String>) -> Self {
        Self::Dead {
            reason: Reason::Handler,
            error: error.into(),
        }
        .bounded()
    }

    /// The outcome's word: `done`, `retry`, `hand_back` or `dead`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry { .. } => "retry",
            Self::HandBack => "hand_back",
            Self::Dead { .. } => "dead",
        }
    }

    /// The outcome with at most [`ERROR_LIMIT`] bytes of error text, cut between characters.
    ///
    /// [`AnyHandler`](super::AnyHandler) does this to every outcome, since anyone may build a variant by
    /// hand.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        if let Self::Retry { error, .. } | Self::Dead { error, .. } = &mut self {
            error.truncate(error.floor_char_boundary(ERROR_LIMIT));
        }
        self
    }
}

/// Why a delivery is retried or dead.
///
/// ```
/// use tidegate::{Outcome, Reason};
///
/// let Outcome::Dead { reason, .. } = Outcome::dead("no such customer") else {
///     unreachable!("it is dead");
/// };
/// assert_eq!(reason, Reason::Handler);
/// assert_eq!(reason.as_str(), "handler");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// The handler said so.
    Handler,
    /// The handler did not finish within the node's `timeout`.
    Timeout,
    /// The handler panicked, or the process that ran it died.
    Crash,
    /// The body is larger than the node's `max_body`.
    TooLarge,
    /// The body is not what the handler can read, or the properties are not what AMQP allows.
    Undecodable,
    /// The message's time to live (`expiration`) ended before it could be run again.
    Expired,
}

impl Reason {
    /// The reason as it appears in headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Timeout => "timeout",
            Self::Crash => "crash",
            Self::TooLarge => "too_large",
            Self::Undecodable => "undecodable",
            Self::Expired => "expired",
        }
    }
}

/// `error` and what caused it, joined by `: `; libraries like to keep what matters in the causes.
///
/// A cause whose text its parent already ends with is not said twice.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reason_reads_the_same_in_headers_and_in_json() {
        for reason in [
            Reason::Handler,
            Reason::Timeout,
            Reason::Crash,
            Reason::TooLarge,
            Reason::Undecodable,
            Reason::Expired,
        ] {
            assert_eq!(
                serde_json::to_value(reason).unwrap(),
                serde_json::Value::from(reason.as_str())
            );
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read: {0}")]
    struct Outer(#[source] std::io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("cannot read")]
    struct Terse(#[source] std::io::Error);

    #[test]
    fn a_chain_names_each_cause_once() {
        let inner = std::io::Error::other("disk on fire");
        assert_eq!(chain(&Outer(inner)), "cannot read: disk on fire");
        let inner = std::io::Error::other("disk on fire");
        assert_eq!(chain(&Terse(inner)), "cannot read: disk on fire");
    }

    proptest! {
        #[test]
        fn an_error_keeps_its_beginning_within_the_limit(text in "\\PC{0,3000}") {
            for outcome in [
                Outcome::retry(text.clone()),
                Outcome::retry_after(Duration::ZERO, text.clone()),
                Outcome::dead(text.clone()),
            ] {
                let (Outcome::Retry { error, .. } | Outcome::Dead { error, .. }) = outcome else {
                    panic!("an outcome with an error is never done");
                };
                prop_assert!(error.len() <= ERROR_LIMIT);
                prop_assert!(text.starts_with(&error));
                prop_assert!(error.len() + 4 > ERROR_LIMIT.min(text.len()));
            }
        }
    }
}

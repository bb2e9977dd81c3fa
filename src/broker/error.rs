//! Errors of the broker, named for what the caller can do about them.

use std::time::Duration;

use lapin::ErrorKind;
use thiserror::Error;

/// A failed operation on the broker. Its text never contains a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum BrokerError {
    /// No connection could be made; trying again may help.
    #[error("cannot connect to {address}: {cause}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// The cause, from the operating system or the TLS library.
        cause: String,
    },
    /// The broker answered with an AMQP error: `connection.close` or `channel.close`.
    #[error("{}{what}: the broker refused with {code}: {text}", likely_cause(what, *code))]
    Refused {
        /// The operation that failed.
        what: &'static str,
        /// The AMQP reply code.
        code: u16,
        /// The broker's own words.
        text: String,
    },
    /// No answer within the limit.
    #[error("{what}: no answer within {limit:?}")]
    TimedOut {
        /// The operation that failed.
        what: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The connection or the channel is gone.
    #[error("{what}: the connection is lost: {cause}")]
    Lost {
        /// The operation that failed.
        what: &'static str,
        /// The client library's error.
        cause: String,
    },
    /// The broker cancelled a consumer.
    #[error("the broker cancelled the consumer: {cause}")]
    Cancelled {
        /// Why, as far as that can be told.
        cause: String,
    },
    /// With `declare = false`: what the node needs beside its queue is not there.
    #[error(
        "declare = false, so nothing is declared, and what retries and dead letters need is missing: {}",
        names.join(", ")
    )]
    Missing {
        /// Queues and exchanges, in words.
        names: Vec<String>,
    },
    /// The node's queue is a stream.
    #[error(
        "queue {queue:?} is a stream, which keeps its messages when they are acknowledged; a node needs a classic or a quorum queue"
    )]
    Stream {
        /// The queue.
        queue: String,
    },
    /// The node's queue is of a kind that no node can work.
    #[error("queue {queue:?} is of type {kind}; a node needs a classic or a quorum queue")]
    Unworkable {
        /// The queue.
        queue: String,
        /// Its type, in the broker's words.
        kind: String,
    },
    /// A message was not taken: it came back, or was negatively confirmed.
    #[error("the message was not accepted: {cause}")]
    NotAccepted {
        /// Why.
        cause: String,
    },
    /// The broker takes no message with so large a body.
    #[error(
        "the body has {bytes} bytes, and the broker takes at most {limit} (its max_message_size)"
    )]
    TooLarge {
        /// The body's length.
        bytes: u64,
        /// The longest body that the broker takes.
        limit: u64,
    },
    /// A file that the connection needs cannot be read.
    #[error("{path}: {cause}")]
    File {
        /// The file.
        path: String,
        /// The operating system's error.
        cause: String,
    },
}

/// The likely meaning of a refusal. The broker answers a login with 403 for no other reason.
fn likely_cause(what: &str, code: u16) -> &'static str {
    match (what, code) {
        ("connecting", 403) => "wrong user or password: ",
        _ => "",
    }
}

impl BrokerError {
    /// Translates the client library's error.
    pub(super) fn from_lapin(what: &'static str, error: &lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(amqp) => Self::Refused {
                what,
                code: amqp.get_id(),
                text: amqp.get_message().to_string(),
            },
            _ => Self::Lost {
                what,
                cause: error.to_string(),
            },
        }
    }

    /// The broker reads nothing from the connection: it is in alarm.
    pub(crate) fn blocked(what: &'static str, reason: &str) -> Self {
        Self::Lost {
            what,
            cause: format!("the broker blocks connections that publish: {reason}"),
        }
    }

    /// The refusal of a queue of a kind that no node can work.
    pub(super) fn of_kind(queue: &str, kind: &str) -> Self {
        let queue = queue.to_owned();
        match kind {
            "stream" => Self::Stream { queue },
            _ => Self::Unworkable {
                queue,
                kind: kind.to_owned(),
            },
        }
    }

    /// Whether the broker said something that trying again soon will not change: wrong credentials (403),
    /// no such virtual host (530, or 402 in old brokers), no such queue (404), a queue that is another connection's alone (405),
    /// other arguments (406). RabbitMQ closes with 320 and 541 for its own reasons; those pass.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Missing { .. }
                | Self::Stream { .. }
                | Self::Unworkable { .. }
                | Self::Refused {
                    code: 402..=406 | 530,
                    ..
                }
        )
    }

    /// Whether another connection has the queue to itself for now: 405, or 403 because of an exclusive consumer.
    pub(crate) fn is_taken(&self) -> bool {
        match self {
            Self::Refused { code: 405, .. } => true,
            Self::Refused {
                code: 403, text, ..
            } => text.contains("exclusive use"),
            _ => false,
        }
    }

    /// The longest body that the broker takes, if that is what it said: it closes the channel on a longer one.
    pub(super) fn body_limit(&self) -> Option<u64> {
        match self {
            Self::Refused {
                code: 406, text, ..
            } if text.contains("message size") => text.rsplit(' ').next()?.parse().ok(),
            _ => None,
        }
    }

    /// The AMQP reply code, if the broker gave one.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_of_a_body_is_read_from_the_refusal() {
        let refused = |code, text: &str| BrokerError::Refused {
            what: "awaiting a confirm",
            code,
            text: text.to_owned(),
        };
        let size =
            "PRECONDITION_FAILED - message size 2000 is larger than configured max size 1000";
        assert_eq!(refused(406, size).body_limit(), Some(1_000));
        assert_eq!(refused(501, size).body_limit(), None);
        let other = "PRECONDITION_FAILED - unknown delivery tag 1000";
        assert_eq!(refused(406, other).body_limit(), None);
        let odd = "PRECONDITION_FAILED - message size of a kind that nobody knows";
        assert_eq!(refused(406, odd).body_limit(), None);
    }
}

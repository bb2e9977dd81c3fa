//! The arguments that a queue is declared with, and what the broker's refusal says about those it has.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

use crate::broker::declare::text;
use crate::broker::{BrokerError, Link};
use crate::config::{NodeSettings, QueueType};

/// The arguments that the worker would like, beside those that configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DesiredArguments {
    pub single_active_consumer: bool,
    /// `x-delivery-limit` -1: none, though the broker has one by default.
    pub unlimited: bool,
    /// Whether the broker has one by default.
    limits_by_default: bool,
    /// `x-delayed-retry-min` and `-max`, with type `failed`.
    pub delayed_retry: Option<(u64, u64)>,
}

impl DesiredArguments {
    pub(crate) fn of(node: &NodeSettings, link: &Link) -> Self {
        let plain = Self {
            single_active_consumer: node.single_active_consumer,
            unlimited: false,
            limits_by_default: false,
            delayed_retry: None,
        };
        if node.kind != QueueType::Quorum {
            return plain;
        }
        // Before 4.0 a limit of -1 would let the broker drop a message at its first return.
        let server = link.server();
        let delays = server.is_at_least(4, 3);
        if node.delayed_retry && !delays {
            tracing::warn!(
                queue = node.queue,
                version = server.version,
                "delayed_retry needs RabbitMQ 4.3; delay queues are used"
            );
        }
        let limits_by_default = server.is_at_least(4, 0);
        Self {
            unlimited: limits_by_default,
            limits_by_default,
            delayed_retry: (node.delayed_retry && delays).then(|| configured(node)),
            ..plain
        }
    }

    /// Whether the broker gives up on a message that it delivered too often.
    pub(crate) fn has_delivery_limit(&self) -> bool {
        self.limits_by_default && !self.unlimited
    }

    /// The arguments in full.
    pub(crate) fn arguments(&self, node: &NodeSettings) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text(node.kind.as_str()));
        // The broker takes signed numbers; configuration allows no larger ones.
        let number =
            |number: u64| AMQPValue::LongLongInt(i64::try_from(number).unwrap_or(i64::MAX));
        if let Some(max_length) = node.max_length {
            arguments.insert("x-max-length".into(), number(max_length));
        }
        if self.single_active_consumer {
            arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        }
        if self.unlimited {
            arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
        }
        if let Some((min, max)) = self.delayed_retry {
            arguments.insert("x-delayed-retry-type".into(), text("failed"));
            arguments.insert("x-delayed-retry-min".into(), number(min));
            arguments.insert("x-delayed-retry-max".into(), number(max));
        }
        arguments
    }

    /// The arguments to ask for after the broker refused these: the queue is there, with an argument that may be
    /// otherwise. Nothing where the refusal is about something else.
    pub(crate) fn corrected(self, node: &NodeSettings, error: &BrokerError) -> Option<Self> {
        let BrokerError::Refused {
            code: 406, text, ..
        } = error
        else {
            return None;
        };
        let (argument, current) = inequivalent(text)?;
        let delays = self.delayed_retry;
        let corrected = match (argument, current) {
            ("x-single-active-consumer", Some("true")) => Self {
                single_active_consumer: true,
                ..self
            },
            ("x-delivery-limit", None) if self.unlimited => Self {
                unlimited: false,
                ..self
            },
            ("x-delayed-retry-type", None) if delays.is_some() => Self {
                delayed_retry: None,
                ..self
            },
            ("x-delayed-retry-type", Some("failed")) if delays.is_none() => Self {
                delayed_retry: Some(configured(node)),
                ..self
            },
            ("x-delayed-retry-min", Some(min)) => Self {
                delayed_retry: Some((min.parse().ok()?, delays?.1)),
                ..self
            },
            ("x-delayed-retry-max", Some(max)) => Self {
                delayed_retry: Some((delays?.0, max.parse().ok()?)),
                ..self
            },
            _ => return None,
        };
        (corrected != self).then_some(corrected)
    }
}

fn configured(node: &NodeSettings) -> (u64, u64) {
    let millis = |delay: Duration| u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
    (millis(node.retry.min), millis(node.retry.max))
}

/// The argument that `text` says is another, and its current value where there is one: `inequivalent arg
/// 'x-a' for queue 'q' in vhost '/': received … but current is the value 'v' of type 'longstr'`.
pub(in crate::broker) fn inequivalent(text: &str) -> Option<(&str, Option<&str>)> {
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    // A queue's name may hold anything, so the end is what counts.
    let (_, current) = rest.rsplit_once("but current is ")?;
    if current.starts_with("none") {
        return Some((argument, None));
    }
    let (_, value) = current.split_once('\'')?;
    Some((argument, Some(value.split_once('\'')?.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: DesiredArguments = DesiredArguments {
        single_active_consumer: false,
        unlimited: true,
        limits_by_default: true,
        delayed_retry: None,
    };

    fn refusal(argument: &str, rest: &str) -> BrokerError {
        BrokerError::Refused {
            what: "queue.declare",
            code: 406,
            text: format!(
                "PRECONDITION_FAILED - inequivalent arg '{argument}' for queue 'it''s' in vhost '/': {rest}"
            ),
        }
    }

    /// What is desired after the broker refused the argument.
    fn corrected(
        desired: DesiredArguments,
        argument: &str,
        rest: &str,
    ) -> Option<DesiredArguments> {
        desired.corrected(&NodeSettings::new("orders"), &refusal(argument, rest))
    }

    #[test]
    fn a_queue_is_taken_as_it_is_if_that_makes_no_difference() {
        let unlimited = "received the value '-1' of type 'signedint' but current is none";
        let single = "received none but current is the value 'true' of type 'bool'";
        assert_eq!(
            corrected(PLAIN, "x-delivery-limit", unlimited),
            Some(DesiredArguments {
                unlimited: false,
                ..PLAIN
            })
        );
        assert_eq!(
            corrected(PLAIN, "x-single-active-consumer", single),
            Some(DesiredArguments {
                single_active_consumer: true,
                ..PLAIN
            })
        );
    }

    #[test]
    fn the_delayed_retry_of_a_queue_is_taken_as_it_is() {
        let with = |delays| DesiredArguments {
            delayed_retry: delays,
            ..PLAIN
        };
        let delays = Some((1_000, 300_000));
        let on = "received none but current is the value 'failed' of type 'longstr'";
        let off = "received the value 'failed' of type 'longstr' but current is none";
        let shorter = "received '1000' but current is '250'";
        assert_eq!(
            corrected(PLAIN, "x-delayed-retry-type", on),
            Some(with(delays))
        );
        assert_eq!(
            corrected(with(delays), "x-delayed-retry-min", shorter),
            Some(with(Some((250, 300_000))))
        );
        assert_eq!(
            corrected(with(delays), "x-delayed-retry-type", off),
            Some(PLAIN)
        );
    }

    #[test]
    fn a_queue_that_makes_a_difference_is_refused() {
        for (argument, rest) in [
            (
                "x-delivery-limit",
                "received the value '-1' of type 'signedint' but current is the value '5' of type 'signedint'",
            ),
            (
                "x-delayed-retry-type",
                "received none but current is the value 'all' of type 'longstr'",
            ),
            ("x-queue-type", "received 'quorum' but current is 'classic'"),
        ] {
            assert_eq!(corrected(PLAIN, argument, rest), None, "{argument}");
        }
    }
}

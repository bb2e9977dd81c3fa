//! The arguments of a queue: what the worker declares it with, and what the broker says it has. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::QueueFacts;
use super::refusal::{Current, Inequivalent};
use crate::broker::Server;
use crate::broker::declare::text;
use crate::config::{Argument, NodeSettings, QueueType};

const TYPE: &str = "x-queue-type";
const SINGLE_ACTIVE_CONSUMER: &str = "x-single-active-consumer";
const DELIVERY_LIMIT: &str = "x-delivery-limit";
const DELAYED_RETRY: &str = "x-delayed-retry-type";
/// The value of [`DELAYED_RETRY`] that delays and counts what is rejected.
const FAILED: &str = "failed";

/// The properties and arguments of one queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueArguments {
    durable: bool,
    auto_delete: bool,
    values: BTreeMap<String, Argument>,
    /// Whether the broker limits the deliveries of a quorum queue that names no limit.
    limits_by_default: bool,
}

impl QueueArguments {
    /// What a missing queue is declared with.
    pub(super) fn wanted(node: &NodeSettings, server: &Server) -> Self {
        let limits_by_default = server.is_at_least(4, 0);
        let mut values = BTreeMap::new();
        let mut set = |name: &str, value| values.insert(name.to_owned(), value);
        set(TYPE, Argument::Text(node.kind.as_str().to_owned()));
        if let Some(max_length) = node.max_length {
            set("x-max-length", number(max_length));
        }
        if node.single_active_consumer {
            set(SINGLE_ACTIVE_CONSUMER, Argument::Flag(true));
        }
        if node.kind == QueueType::Quorum {
            // Before 4.0 a limit of -1 would let the broker drop a message at its first return.
            if limits_by_default {
                set(DELIVERY_LIMIT, Argument::Number(-1));
            }
            if node.delayed_retry && server.is_at_least(4, 3) {
                set(DELAYED_RETRY, Argument::Text(FAILED.to_owned()));
                set("x-delayed-retry-min", millis(node.retry.min));
                set("x-delayed-retry-max", millis(node.retry.max));
            }
        }
        values.extend(node.arguments.clone());
        Self {
            durable: true,
            auto_delete: false,
            values,
            limits_by_default,
        }
    }

    /// Takes over what the queue has instead. False if that changes nothing, or cannot be understood.
    pub(super) fn correct(&mut self, refusal: &Inequivalent<'_>) -> bool {
        let before = self.clone();
        let is_true = |current: &Option<Current<'_>>| {
            let current = current.as_ref();
            current.is_some_and(|current| current.value == "true")
        };
        match refusal.argument {
            "durable" => self.durable = is_true(&refusal.current),
            "auto_delete" => self.auto_delete = is_true(&refusal.current),
            argument => match &refusal.current {
                None => {
                    self.values.remove(argument);
                }
                Some(current) => match read(current, self.values.get(argument)) {
                    Some(value) => {
                        self.values.insert(argument.to_owned(), value);
                    }
                    None => return false,
                },
            },
        }
        *self != before
    }

    /// The queue's type, if it is one that a node can work.
    pub(super) fn kind(&self) -> Option<QueueType> {
        let Some(Argument::Text(kind)) = self.values.get(TYPE) else {
            return None;
        };
        [QueueType::Quorum, QueueType::Classic]
            .into_iter()
            .find(|known| known.as_str() == kind)
    }

    /// What a node has to know about a queue with these arguments.
    pub(super) fn facts(&self, messages: u32, consumers: u32) -> QueueFacts {
        let kind = self.kind();
        let limit = self.values.get(DELIVERY_LIMIT);
        let limited = match limit {
            Some(limit) => *limit != Argument::Number(-1),
            None => self.limits_by_default,
        };
        QueueFacts {
            is_new: false,
            messages,
            consumers,
            single_active_consumer: self.is(SINGLE_ACTIVE_CONSUMER, &Argument::Flag(true)),
            delayed_retry: self.is(DELAYED_RETRY, &Argument::Text(FAILED.to_owned())),
            delivery_limit: kind == Some(QueueType::Quorum) && limited,
            kind,
            differences: Vec::new(),
        }
    }

    fn is(&self, argument: &str, value: &Argument) -> bool {
        self.values.get(argument) == Some(value)
    }

    /// In words, what of `wanted` this queue has otherwise. A delivery limit has a warning of its own.
    pub(super) fn differences(&self, wanted: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if !self.durable {
            differences.push("it is not durable: a restart of the broker removes it".to_owned());
        }
        if self.auto_delete {
            differences.push("auto_delete: it goes with its last consumer".to_owned());
        }
        for (argument, value) in &wanted.values {
            let unlimited = argument == DELIVERY_LIMIT && *value == Argument::Number(-1);
            let found = self.values.get(argument);
            if unlimited || found == Some(value) {
                continue;
            }
            let found = found.map_or_else(|| "not set".to_owned(), ToString::to_string);
            differences.push(format!("{argument} is {found}, not {value}"));
        }
        differences
    }

    pub(super) fn options(&self) -> QueueDeclareOptions {
        QueueDeclareOptions {
            durable: self.durable,
            auto_delete: self.auto_delete,
            ..QueueDeclareOptions::default()
        }
    }

    pub(super) fn table(&self) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in &self.values {
            let value = match value {
                Argument::Text(value) => text(value),
                Argument::Number(value) => AMQPValue::LongLongInt(*value),
                Argument::Flag(value) => AMQPValue::Boolean(*value),
            };
            table.insert(name.as_str().into(), value);
        }
        table
    }
}

fn number(number: u64) -> Argument {
    // The broker takes signed numbers; configuration allows no larger ones.
    Argument::Number(i64::try_from(number).unwrap_or(i64::MAX))
}

fn millis(duration: Duration) -> Argument {
    number(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// The value that the broker names. Without a type it is read as what it is to replace is, else as text.
fn read(current: &Current<'_>, replaced: Option<&Argument>) -> Option<Argument> {
    let value = current.value;
    match (current.kind, replaced) {
        (Some("longstr" | "binary"), _) | (None, Some(Argument::Text(_)) | None) => {
            Some(Argument::Text(value.to_owned()))
        }
        (Some("bool"), _) | (None, Some(Argument::Flag(_))) => {
            value.parse().ok().map(Argument::Flag)
        }
        // Every other type that can be written as a whole number.
        (Some(_), _) | (None, Some(Argument::Number(_))) => {
            value.parse().ok().map(Argument::Number)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(version: &str) -> Server {
        Server {
            product: "RabbitMQ".to_owned(),
            version: version.to_owned(),
        }
    }

    fn wanted(node: &NodeSettings) -> QueueArguments {
        QueueArguments::wanted(node, &server("4.3.0"))
    }

    fn refusal<'t>(argument: &'t str, value: &'t str, kind: Option<&'t str>) -> Inequivalent<'t> {
        Inequivalent {
            argument,
            current: Some(Current { value, kind }),
        }
    }

    fn absent(argument: &str) -> Inequivalent<'_> {
        Inequivalent {
            argument,
            current: None,
        }
    }

    #[test]
    fn a_missing_queue_is_declared_as_configured_and_without_a_delivery_limit() {
        let mut node = NodeSettings::new("orders");
        let flag = Argument::Flag(true);
        node.arguments.insert("x-flag".to_owned(), flag.clone());
        let arguments = wanted(&node);
        assert_eq!(arguments.values["x-delivery-limit"], Argument::Number(-1));
        assert_eq!(arguments.values["x-flag"], flag);
        assert!(!arguments.facts(0, 0).delivery_limit);
        let five = Argument::Number(5);
        node.arguments.insert(DELIVERY_LIMIT.to_owned(), five);
        assert!(wanted(&node).facts(0, 0).delivery_limit);
        let old = QueueArguments::wanted(&NodeSettings::new("q"), &server("3.13.0"));
        assert_eq!(old.values.len(), 1, "{old:?}");
        assert!(!old.facts(0, 0).delivery_limit);
    }

    #[test]
    fn an_existing_queue_teaches_what_it_has() {
        let mut node = NodeSettings::new("orders");
        node.max_length = Some(10);
        let wanted = wanted(&node);
        let mut found = wanted.clone();
        for refusal in [
            refusal("durable", "false", None),
            refusal(TYPE, "classic", None),
            refusal("x-max-length", "7", Some("signedint")),
            refusal("x-max-priority", "9", Some("long")),
            refusal("x-dead-letter-exchange", "it's", Some("longstr")),
            refusal(SINGLE_ACTIVE_CONSUMER, "true", Some("bool")),
            absent(DELIVERY_LIMIT),
        ] {
            assert!(found.correct(&refusal), "{refusal:?}");
            assert!(!found.correct(&refusal), "it is known: {refusal:?}");
        }
        let facts = found.facts(3, 1);
        assert_eq!(facts.kind, Some(QueueType::Classic));
        assert!(facts.single_active_consumer && !facts.delivery_limit);
        assert_eq!(found.values["x-max-priority"], Argument::Number(9));
        assert!(!found.options().durable);
        let differences = found.differences(&wanted);
        assert_eq!(
            differences,
            [
                "it is not durable: a restart of the broker removes it",
                "x-max-length is 7, not 10",
                "x-queue-type is \"classic\", not \"quorum\"",
            ]
        );
        assert_eq!(wanted.differences(&wanted), Vec::<String>::new());
    }

    #[test]
    fn a_delayed_retry_of_the_queue_s_own_counts_as_one() {
        let mut found = wanted(&NodeSettings::new("orders"));
        assert!(found.correct(&refusal(DELAYED_RETRY, "failed", Some("longstr"))));
        assert!(found.facts(0, 0).delayed_retry);
        assert!(found.correct(&refusal("x-delayed-retry-min", "250", Some("long"))));
        assert!(found.correct(&refusal(DELAYED_RETRY, "all", Some("longstr"))));
        assert!(!found.facts(0, 0).delayed_retry);
    }

    #[test]
    fn what_is_not_understood_teaches_nothing() {
        let mut found = wanted(&NodeSettings::new("orders"));
        assert!(!found.correct(&refusal("x-odd", "[{a,1}]", Some("table"))));
        assert!(!found.correct(&absent("x-odd")));
    }
}

//! `[[node]]`

use std::collections::{BTreeMap, HashMap};

use super::super::HandlersFrom;
use super::super::error::Rule;
use super::super::node::{
    Binding, DeadLetterSettings, NodeSettings, QueueType, RetrySettings, Slots, default_prefetch,
};
use super::super::section::{Field, Section};
use super::super::settings::PoolSettings;
use super::super::tree::Tree;
use super::super::{rules, value};
use super::{arguments, handler, ordered};

pub(super) const KEYS: [&str; 18] = [
    "queue",
    "declare",
    "type",
    "max_length",
    "arguments",
    "bind",
    "single_active_consumer",
    "priority",
    "concurrency",
    "pool",
    "prefetch",
    "timeout",
    "hold_max",
    "max_body",
    "retry",
    "delayed_retry",
    "dead_letter",
    "handler",
];

type Pools = BTreeMap<String, Option<PoolSettings>>;

/// Every node that is right by itself; what is not is noted.
pub(super) fn read_all(
    root: &Section<'_>,
    pools: &Pools,
    handlers: HandlersFrom,
) -> Vec<NodeSettings> {
    let fields = root.list("node");
    let is_list = root.field("node").is_none_or(|field| field.is_list());
    if fields.is_empty() && is_list {
        root.refuse(
            "node",
            "at least one is required: a worker consumes at least one queue",
        );
    }
    let mut queues = HashMap::new();
    let mut nodes = Vec::new();
    for (index, field) in fields.iter().enumerate() {
        let section = field.table(&KEYS);
        let Some(node) = node(&section, pools, handlers) else {
            continue;
        };
        if let Some(first) = queues.insert(node.queue.clone(), index) {
            section.refuse("queue", format!("node[{first}] consumes it already"));
            queues.insert(node.queue.clone(), first);
        }
        nodes.push(node);
    }
    nodes
}

fn node(section: &Section<'_>, pools: &Pools, handlers: HandlersFrom) -> Option<NodeSettings> {
    // Everything is read, and every error noted, before a node without a queue is given up.
    let mut node = NodeSettings::new("");
    section.set(&mut node.declare, "declare", value::boolean);
    let declare = node.declare;
    let queue = section.read("queue", |tree| rules::queue(value::text(tree)?, declare));
    if !section.has("queue") {
        section.lacks("queue", "is required");
    }
    section.set(&mut node.kind, "type", queue_type);
    node.max_length = section.read("max_length", value::integer(rules::QUEUE_LENGTH));
    node.arguments = arguments::read(section);
    let bindings = section.list("bind");
    node.bind = bindings.iter().filter_map(binding).collect();
    if !declare {
        for key in ["type", "max_length", "arguments", "bind"] {
            if section.has(key) {
                section.refuse(key, "needs declare = true: nothing is declared here");
            }
        }
    }
    let exclusive = "single_active_consumer";
    section.set(&mut node.single_active_consumer, exclusive, value::boolean);
    section.set(
        &mut node.priority,
        "priority",
        value::integer(rules::PRIORITY),
    );
    slots(section, pools, &mut node);
    section.set(
        &mut node.prefetch,
        "prefetch",
        value::integer(rules::PREFETCH),
    );
    let timeouts = value::duration(rules::TIMEOUT);
    section.set(&mut node.timeout, "timeout", timeouts);
    let holds = value::duration(rules::HOLD);
    section.set(&mut node.hold_max, "hold_max", holds);
    section.set(&mut node.max_body, "max_body", value::size(rules::BODY));
    node.retry = retry(&section.table("retry", &["max_attempts", "min", "max"]));
    section.set(&mut node.delayed_retry, "delayed_retry", value::boolean);
    if let Err(rule) = rules::delayed_retry(&node) {
        section.refuse("delayed_retry", rule);
    }
    let dead_letter = dead_letter(&section.table("dead_letter", &["exchange", "routing_key"]));
    node.handler = handler::read(section, handlers);
    if let (Some(queue), Some(dead)) = (&queue, &dead_letter)
        && let Err(rule) = rules::dead_letter(dead, queue)
    {
        section.refuse("dead_letter", rule);
    }
    queue.map(|queue| NodeSettings {
        dead_letter: dead_letter.unwrap_or_else(|| DeadLetterSettings::of(&queue)),
        queue,
        ..node
    })
}

/// The destination of dead letters, if it is configured.
fn dead_letter(section: &Section<'_>) -> Option<DeadLetterSettings> {
    let exchange = section.read("exchange", value::bytes(rules::NAME_OR_EMPTY));
    let routing_key = section.read("routing_key", value::bytes(rules::NAME_OR_EMPTY));
    if section.has("exchange") && !section.has("routing_key") {
        let rule = "is required: what to publish to the exchange with, \"\" for none";
        section.lacks("routing_key", rule);
    }
    let dead_letter = DeadLetterSettings {
        exchange: exchange.unwrap_or_default(),
        routing_key: routing_key?,
    };
    if let Err(rule) = rules::dead_letter_key(&dead_letter) {
        section.refuse("routing_key", rule);
    }
    Some(dead_letter)
}

fn queue_type(tree: &Tree) -> Result<QueueType, Rule> {
    [QueueType::Quorum, QueueType::Classic]
        .into_iter()
        .find(|kind| value::text(tree).is_ok_and(|text| text == kind.as_str()))
        .ok_or_else(|| "must be \"quorum\" or \"classic\"".into())
}

fn binding(field: &Field<'_>) -> Option<Binding> {
    let section = field.table(&["exchange", "key"]);
    for (key, rule) in [
        ("exchange", "is required: the exchange to bind the queue to"),
        ("key", "is required: the binding key, \"\" for none"),
    ] {
        if !section.has(key) {
            section.lacks(key, rule);
        }
    }
    let exchange = section.read("exchange", value::bytes(rules::NAME));
    let key = section.read("key", value::bytes(rules::NAME_OR_EMPTY));
    Some(Binding {
        exchange: exchange?,
        key: key?,
    })
}

fn slots(section: &Section<'_>, pools: &Pools, node: &mut NodeSettings) {
    let concurrency = section.read("concurrency", value::integer(rules::CONCURRENCY));
    let pool = section.read("pool", |tree| {
        let name = value::text(tree)?;
        let known: Vec<&str> = pools.keys().map(String::as_str).collect();
        rules::pool(&name, &known)?;
        let pool = pools.get(&name).and_then(Option::as_ref);
        let slots = pool.map(|pool| pool.slots);
        Ok((name, slots))
    });
    if section.has("concurrency") && section.has("pool") {
        section.refuse(
            "pool",
            "concurrency is given too: only one of the two can be",
        );
    }
    if let Some(count) = concurrency {
        node.slots = Slots::Own(count);
        node.prefetch = default_prefetch(count);
    } else if let Some((name, count)) = pool {
        node.slots = Slots::Pool(name);
        node.prefetch = count.map_or(node.prefetch, default_prefetch);
    }
}

fn retry(section: &Section<'_>) -> RetrySettings {
    let mut retry = RetrySettings::default();
    let attempts = value::integer(rules::ATTEMPTS);
    let delays = value::duration(rules::RETRY_DELAY);
    section.set(&mut retry.max_attempts, "max_attempts", attempts);
    let (min, max) = (&mut retry.min, &mut retry.max);
    ordered(section, ("min", min), ("max", max), &delays);
    retry
}

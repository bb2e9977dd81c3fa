//! The queues beside a node's own: the delay queues of its retries, and the queue of its dead letters.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

use super::super::declare::{declare_queue, durable, text};
use super::super::inspect::{find_exchange, find_queue};
use super::super::{BrokerError, Link};
use super::inequivalent;
use crate::config::{NodeSettings, QueueType};
use crate::retry;

/// How long beyond its delay an unused delay queue is kept. The broker deletes it with what is in it, which
/// may wait for a full queue; a publisher declares it again long before.
const KEPT_UNUSED: Duration = Duration::from_hours(24);

/// Makes sure of what the node's dead letters go to; with `declare = false`, looks for that and for the delay
/// queues, too, which are otherwise declared when they are needed.
///
/// # Errors
/// [`BrokerError::Missing`] names all that is missing with `declare = false`; else as
/// [`ensure_dead_queue`].
pub(crate) async fn ensure_aside(
    link: &Link,
    node: &NodeSettings,
    delayed_retry: bool,
) -> Result<(), BrokerError> {
    let dead = &node.dead_letter;
    if node.declare {
        if dead.exchange.is_empty() {
            return ensure_dead_queue(link, &dead.routing_key, node.kind).await;
        }
        return find_exchange(link, &dead.exchange).await;
    }
    let mut missing = Vec::new();
    let looked = if dead.exchange.is_empty() {
        let found = find_queue(link, &dead.routing_key).await;
        (format!("queue {:?}", dead.routing_key), found.map(drop))
    } else {
        let found = find_exchange(link, &dead.exchange).await;
        (format!("exchange {:?}", dead.exchange), found)
    };
    note_missing(looked, &mut missing)?;
    if node.retry.max_attempts > 1 && !delayed_retry {
        for step in retry::delays(&node.retry) {
            let name = retry::delay_queue(&node.queue, step);
            let found = find_queue(link, &name).await.map(drop);
            note_missing((format!("queue {name:?}"), found), &mut missing)?;
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(BrokerError::Missing { names: missing })
    }
}

fn note_missing(
    (what, found): (String, Result<(), BrokerError>),
    missing: &mut Vec<String>,
) -> Result<(), BrokerError> {
    match found {
        Err(error) if error.code() == Some(404) => missing.push(what),
        found => return found,
    }
    Ok(())
}

/// Declares a queue of dead letters, of the type of the queue that they come from. A quorum queue has no
/// delivery limit, so that looking at it again and again loses nothing.
///
/// # Errors
/// [`BrokerError::Refused`] with 406 if it is there with other arguments, 403 without permission.
pub(crate) async fn ensure_dead_queue(
    link: &Link,
    name: &str,
    kind: QueueType,
) -> Result<(), BrokerError> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text(kind.as_str()));
    let unlimited = kind == QueueType::Quorum && link.server().is_at_least(4, 0);
    if !unlimited {
        return declare(link, name, arguments).await;
    }
    let plain = arguments.clone();
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
    match declare(link, name, arguments).await {
        Err(BrokerError::Refused {
            code: 406, text, ..
        }) if inequivalent(&text).is_some_and(|(argument, _)| argument == "x-delivery-limit") => {
            declare(link, name, plain).await
        }
        declared => declared,
    }
}

/// Declares the queue in which messages of `queue` wait for `step`: a quorum queue, whatever `queue` is, for it alone
/// dead-letters at least once (RabbitMQ 3.10 and later); it keeps a message until `queue` has it.
///
/// # Errors
/// [`BrokerError::Refused`] with 406 if it is there with other arguments, 403 without permission.
pub(crate) async fn ensure_delay_queue(
    link: &Link,
    queue: &str,
    step: Duration,
) -> Result<(), BrokerError> {
    let millis = |duration: Duration| {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        AMQPValue::LongLongInt(millis)
    };
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", text("quorum")),
        ("x-message-ttl", millis(step)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(queue)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
        ("x-expires", millis(step + KEPT_UNUSED)),
    ] {
        arguments.insert(name.into(), value);
    }
    declare(link, &retry::delay_queue(queue, step), arguments).await
}

async fn declare(link: &Link, name: &str, arguments: FieldTable) -> Result<(), BrokerError> {
    declare_queue(link, name, durable(), arguments)
        .await
        .map(drop)
}

//! Queues and exchanges: declared where configuration says so, else only looked at.
//!
//! Each operation that the broker may refuse gets a channel of its own, for a refusal closes its channel.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, ExchangeKind};

use super::inspect::find_queue;
use super::{BrokerError, Link, RPC_LIMIT, bounded, convert};
use crate::config::NodeSettings;

/// What is known of a queue once it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFacts {
    /// Messages ready in it.
    pub messages: u32,
    /// Consumers it has.
    pub consumers: u32,
    /// Whether it has a single active consumer.
    pub single_active_consumer: bool,
}

/// Declares the node's queue and bindings, or with `declare = false` checks that the queue is there
/// (`queue.declare` passive).
///
/// A queue that exists with `x-single-active-consumer` though the settings do not say so is recognised by
/// the broker's refusal, and declared as it is.
///
/// # Errors
/// [`BrokerError::Refused`] with 404 (no such queue or exchange), 406 (other arguments), 403 (no permission).
pub async fn ensure_queue(link: &Link, node: &NodeSettings) -> Result<QueueFacts, BrokerError> {
    if !node.declare {
        let found = find_queue(link, &node.queue).await?;
        return Ok(QueueFacts {
            single_active_consumer: node.single_active_consumer,
            ..found
        });
    }
    match declare(link, node, node.single_active_consumer).await {
        Err(BrokerError::Refused {
            code: 406, text, ..
        }) if !node.single_active_consumer
            && text.contains("'x-single-active-consumer'")
            && text.contains("current is the value 'true'") =>
        {
            declare(link, node, true).await
        }
        declared => declared,
    }
}

async fn declare(
    link: &Link,
    node: &NodeSettings,
    single_active_consumer: bool,
) -> Result<QueueFacts, BrokerError> {
    let channel = link.channel().await?;
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    let name = convert::short("queue", &node.queue)?;
    let declare = channel.queue_declare(name, options, arguments(node, single_active_consumer));
    let queue = bounded("queue.declare", RPC_LIMIT, declare).await?;
    bind(&channel, node).await?;
    bounded("channel.close", RPC_LIMIT, channel.close(200, "OK".into())).await?;
    Ok(QueueFacts {
        messages: queue.message_count(),
        consumers: queue.consumer_count(),
        single_active_consumer,
    })
}

fn arguments(node: &NodeSettings, single_active_consumer: bool) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString(LongString::from(node.kind.as_str())),
    );
    if let Some(max_length) = node.max_length {
        // The broker takes a signed number; configuration allows no larger one.
        let max_length = i64::try_from(max_length).unwrap_or(i64::MAX);
        arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(max_length));
    }
    if single_active_consumer {
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
    }
    arguments
}

async fn bind(channel: &Channel, node: &NodeSettings) -> Result<(), BrokerError> {
    for binding in &node.bind {
        let bind = channel.queue_bind(
            convert::short("queue", &node.queue)?,
            convert::short("exchange", &binding.exchange)?,
            convert::short("binding key", &binding.key)?,
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bounded("queue.bind", RPC_LIMIT, bind).await?;
    }
    Ok(())
}

/// Declares a durable topic exchange.
///
/// # Errors
/// [`BrokerError::Refused`] with 406 where it exists with another type, 403 without permission.
pub async fn declare_topic_exchange(link: &Link, name: &str) -> Result<(), BrokerError> {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    declare_exchange(link, name, options).await
}

/// Declares a durable topic exchange where the user may, and trusts that it is there where not: publishing to it
/// and binding to it take less permission than declaring it, and say so themselves where it is missing.
///
/// # Errors
/// [`BrokerError::Refused`] with 406 where it exists with another type.
pub async fn ensure_topic_exchange(link: &Link, name: &str) -> Result<(), BrokerError> {
    match declare_topic_exchange(link, name).await {
        Err(BrokerError::Refused { code: 403, .. }) => Ok(()),
        declared => declared,
    }
}

/// `exchange.declare` on a channel of its own.
pub(super) async fn declare_exchange(
    link: &Link,
    name: &str,
    options: ExchangeDeclareOptions,
) -> Result<(), BrokerError> {
    let channel = link.channel().await?;
    let name = convert::short("exchange", name)?;
    let declare =
        channel.exchange_declare(name, ExchangeKind::Topic, options, FieldTable::default());
    bounded("exchange.declare", RPC_LIMIT, declare).await?;
    bounded("channel.close", RPC_LIMIT, channel.close(200, "OK".into())).await
}

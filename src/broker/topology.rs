//! Queues and exchanges: declared where configuration says so, else only looked at.
//!
//! Each operation that the broker may refuse gets a channel of its own, for a refusal closes its channel.

use lapin::options::ExchangeDeclareOptions;

use super::declare::{bind_queue, declare_exchange, durable};
use super::inspect::find_queue;
use super::{BrokerError, Link, RPC_LIMIT, bounded, convert};
use crate::config::{NodeSettings, QueueType};
use desired::DesiredArguments;

mod aside;
mod desired;

pub(super) use desired::inequivalent;

pub(crate) use aside::{ensure_aside, ensure_dead_queue, ensure_delay_queue};

/// A declaration is tried this often at most. The broker names an argument to change each time.
const DECLARE_TRIES: usize = 6;

/// Facts about an existing queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueFacts {
    /// Messages ready in it.
    pub messages: u32,
    /// Consumers it has.
    pub consumers: u32,
    /// Whether it has a single active consumer.
    pub single_active_consumer: bool,
    /// Whether it delays and counts what is rejected (`x-delayed-retry-type` is `failed`, RabbitMQ 4.3).
    pub delayed_retry: bool,
    /// Whether the broker drops, or dead-letters, a message that it delivered too often.
    pub delivery_limit: bool,
    /// Its type, if it is known.
    pub kind: Option<QueueType>,
}

/// Declares the node's queue and bindings, or with `declare = false` checks that the queue is there
/// (`queue.declare` passive).
///
/// A quorum queue is declared without a delivery limit where the broker has one by default (RabbitMQ 4.0 and
/// later): it would lose messages whose channel is lost too often. A queue that exists with a single active
/// consumer, a delivery limit or a delayed retry of its own, though the settings do not say so, is
/// recognised by the broker's refusal, and used as it is.
///
/// # Errors
/// [`BrokerError::Refused`] with 404 (no such queue or exchange), 406 (other arguments), 403 (no permission).
pub async fn ensure_queue(link: &Link, node: &NodeSettings) -> Result<QueueFacts, BrokerError> {
    if !node.declare {
        let found = find_queue(link, &node.queue).await?;
        return Ok(QueueFacts {
            single_active_consumer: node.single_active_consumer,
            delayed_retry: node.delayed_retry,
            ..found
        });
    }
    let mut desired = DesiredArguments::of(node, link);
    let mut tries = 1;
    loop {
        match declare(link, node, &desired).await {
            Err(error) if is_stream(&error) => {
                return Err(BrokerError::Stream {
                    queue: node.queue.clone(),
                });
            }
            Err(error) if tries < DECLARE_TRIES => match desired.corrected(node, &error) {
                Some(corrected) => desired = corrected,
                None => return Err(error),
            },
            declared => return declared,
        }
        tries += 1;
    }
}

async fn declare(
    link: &Link,
    node: &NodeSettings,
    desired: &DesiredArguments,
) -> Result<QueueFacts, BrokerError> {
    let channel = link.channel().await?;
    let name = convert::short("queue", &node.queue)?;
    let declare = channel.queue_declare(name, durable(), desired.arguments(node));
    let queue = bounded("queue.declare", RPC_LIMIT, declare).await?;
    for binding in &node.bind {
        bind_queue(&channel, &node.queue, &binding.exchange, &binding.key).await?;
    }
    bounded("channel.close", RPC_LIMIT, channel.close(200, "OK".into())).await?;
    Ok(QueueFacts {
        messages: queue.message_count(),
        consumers: queue.consumer_count(),
        single_active_consumer: desired.single_active_consumer,
        delayed_retry: desired.delayed_retry.is_some(),
        delivery_limit: desired.has_delivery_limit(),
        kind: Some(node.kind),
    })
}

/// Whether a declaration was refused because the queue is a stream.
fn is_stream(error: &BrokerError) -> bool {
    match error {
        BrokerError::Refused { text, .. } => {
            inequivalent(text) == Some(("x-queue-type", Some("stream")))
        }
        _ => false,
    }
}

/// Declares a durable topic exchange.
///
/// # Errors
/// [`BrokerError::Refused`] with 406 if it exists with another type, 403 without permission.
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
/// [`BrokerError::Refused`] with 406 if it exists with another type.
pub async fn ensure_topic_exchange(link: &Link, name: &str) -> Result<(), BrokerError> {
    match declare_topic_exchange(link, name).await {
        Err(BrokerError::Refused { code: 403, .. }) => Ok(()),
        declared => declared,
    }
}

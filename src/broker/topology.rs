//! Queues and exchanges. We look first, and declare only what is missing.
//!
//! Each operation that the broker may refuse gets a channel of its own, because a refusal closes its channel.

use lapin::options::ExchangeDeclareOptions;

use super::declare::{bind_queue, declare_exchange, declare_queue};
use super::inspect::find_queue;
use super::{BrokerError, Link, RPC_LIMIT, bounded};
use crate::config::{NodeSettings, QueueType};
use arguments::QueueArguments;

mod arguments;
mod aside;
mod refusal;

pub(super) use refusal::inequivalent;

pub use aside::Companion;
pub(crate) use aside::{ensure_aside, ensure_dead_queue, ensure_delay_queue};

/// How many arguments of an existing queue are learned, one by one. RabbitMQ 4.3 knows some 25.
const LEARNED_MAX: usize = 32;

/// Facts about an existing queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact about the queue, independent of the others"
)]
pub struct QueueFacts {
    /// Whether it was missing, and has just been declared.
    pub is_new: bool,
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
    /// In words, what it has otherwise than configured.
    pub differences: Vec<String>,
}

/// Makes sure that the node's queue and its bindings are there. An existing queue is used as it is, whatever its
/// arguments. A missing one is declared, unless `declare = false`.
///
/// A quorum queue is declared without a delivery limit if the broker has one by default (RabbitMQ 4.0 and later): it
/// would lose messages whose channel is lost too often.
///
/// # Errors
/// [`BrokerError::Refused`] with 404 (no such queue or exchange), 403 (no permission), 405 (another connection's);
/// [`BrokerError::Stream`] and [`BrokerError::Unworkable`] for a queue that no node can work.
pub async fn ensure_queue(link: &Link, node: &NodeSettings) -> Result<QueueFacts, BrokerError> {
    let wanted = QueueArguments::wanted(node, link.server());
    let facts = match find_queue(link, &node.queue).await {
        Ok(found) if node.declare => learn(link, node, &wanted, found).await?,
        Ok(found) => QueueFacts {
            single_active_consumer: node.single_active_consumer,
            delayed_retry: node.delayed_retry,
            ..found
        },
        Err(error) if error.code() == Some(404) && node.declare => {
            declare(link, node, &wanted).await?
        }
        Err(error) => return Err(error),
    };
    bind(link, node).await?;
    Ok(facts)
}

/// As [`ensure_queue`], for a queue that is `known` already: it is only looked for, so that nothing has to be learned
/// again.
///
/// # Errors
/// As [`ensure_queue`].
pub(crate) async fn ensure_known_queue(
    link: &Link,
    node: &NodeSettings,
    known: &QueueFacts,
) -> Result<QueueFacts, BrokerError> {
    match find_queue(link, &node.queue).await {
        Ok(found) => {
            bind(link, node).await?;
            Ok(QueueFacts {
                is_new: false,
                messages: found.messages,
                consumers: found.consumers,
                ..known.clone()
            })
        }
        Err(error) if error.code() == Some(404) && node.declare => ensure_queue(link, node).await,
        Err(error) => Err(error),
    }
}

/// Declares a missing queue.
async fn declare(
    link: &Link,
    node: &NodeSettings,
    wanted: &QueueArguments,
) -> Result<QueueFacts, BrokerError> {
    let delays = link.server().is_at_least(4, 3);
    if node.delayed_retry && node.kind == QueueType::Quorum && !delays {
        tracing::warn!(
            queue = node.queue,
            version = link.server().version,
            "delayed_retry needs RabbitMQ 4.3; delay queues are used"
        );
    }
    let declared = declare_queue(link, &node.queue, wanted.options(), wanted.table()).await;
    match declared {
        Ok(queue) => Ok(QueueFacts {
            is_new: true,
            ..wanted.facts(queue.message_count(), queue.consumer_count())
        }),
        // Somebody else was faster.
        Err(BrokerError::Refused {
            code: 406, text, ..
        }) if inequivalent(&text).is_some() => {
            let found = find_queue(link, &node.queue).await?;
            learn(link, node, wanted, found).await
        }
        Err(error) => Err(error),
    }
}

/// Learns what an existing queue has. No method asks for that; but the broker refuses a declaration that differs, and names
/// the first difference. What it does not tell stays as configured.
async fn learn(
    link: &Link,
    node: &NodeSettings,
    wanted: &QueueArguments,
    found: QueueFacts,
) -> Result<QueueFacts, BrokerError> {
    let mut known = wanted.clone();
    for _ in 0..LEARNED_MAX {
        let declared = declare_queue(link, &node.queue, known.options(), known.table()).await;
        match declared {
            Ok(_queue) => break,
            Err(BrokerError::Refused {
                code: 406, text, ..
            }) => {
                let Some(difference) = inequivalent(&text) else {
                    break;
                };
                let current = difference.current.map(|current| current.value);
                let is_type = difference.argument == "x-queue-type";
                if let Some(kind) = current.filter(|_| is_type)
                    && !["quorum", "classic"].contains(&kind)
                {
                    return Err(BrokerError::of_kind(&node.queue, kind));
                }
                if !known.correct(&difference) {
                    break;
                }
            }
            // Who may not declare may still consume.
            Err(BrokerError::Refused { code: 403, .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(QueueFacts {
        differences: known.differences(wanted),
        ..known.facts(found.messages, found.consumers)
    })
}

/// Binds the node's queue as configured.
async fn bind(link: &Link, node: &NodeSettings) -> Result<(), BrokerError> {
    if !node.declare || node.bind.is_empty() {
        return Ok(());
    }
    let channel = link.channel().await?;
    for binding in &node.bind {
        bind_queue(&channel, &node.queue, &binding.exchange, &binding.key).await?;
    }
    bounded("channel.close", RPC_LIMIT, channel.close(200, "OK".into())).await
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

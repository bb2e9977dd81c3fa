//! Looking at what is there, changing nothing.
//!
//! Each look gets a channel of its own, for a refusal closes its channel.

use lapin::options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use super::topology::{declare_exchange, declare_queue};
use super::{BrokerError, Link, QueueFacts, RPC_LIMIT, bounded, convert};

/// Looks for a queue (`queue.declare` passive). Its arguments do not show.
///
/// # Errors
/// [`BrokerError::Refused`] with 404 where there is none, 405 where another connection has it exclusively.
pub async fn find_queue(link: &Link, name: &str) -> Result<QueueFacts, BrokerError> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let queue = declare_queue(link, name, options, FieldTable::default()).await?;
    Ok(QueueFacts {
        messages: queue.message_count(),
        consumers: queue.consumer_count(),
        single_active_consumer: false,
        delayed_retry: false,
        delivery_limit: false,
    })
}

/// Looks for an exchange (`exchange.declare` passive), of whatever type.
///
/// # Errors
/// [`BrokerError::Refused`] with 404 where there is none.
pub async fn find_exchange(link: &Link, name: &str) -> Result<(), BrokerError> {
    let options = ExchangeDeclareOptions {
        passive: true,
        ..ExchangeDeclareOptions::default()
    };
    declare_exchange(link, name, options).await
}

/// Whether the user may consume from the queue.
///
/// Asks to consume with an argument that is never valid, an `x-priority` that is no number. `RabbitMQ`
/// looks at the permission first (403) and at the arguments then (406), so that no consumer comes to be.
///
/// # Errors
/// [`BrokerError::Refused`] with 403 without the permission, 404 where there is no such queue.
pub async fn may_consume(link: &Link, queue: &str) -> Result<(), BrokerError> {
    let channel = link.channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-priority".into(), AMQPValue::LongString("none".into()));
    let consume = channel.basic_consume(
        convert::short("queue", queue)?,
        "".into(),
        BasicConsumeOptions::default(),
        arguments,
    );
    match bounded("basic.consume", RPC_LIMIT, consume).await {
        Err(BrokerError::Refused { code: 406, .. }) => Ok(()),
        Err(error) => Err(error),
        // A broker that takes any argument: closing the channel ends the consumer and hands back what came.
        Ok(_consumer) => bounded("channel.close", RPC_LIMIT, channel.close(200, "OK".into())).await,
    }
}

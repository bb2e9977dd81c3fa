//! Single declarations. Each that the broker may refuse gets a channel of its own, for a refusal closes its channel.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::{Channel, ExchangeKind, Queue};

use super::{BrokerError, Link, RPC_LIMIT, bounded, convert};

pub(super) fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    }
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// `queue.declare` on a channel of its own.
pub(super) async fn declare_queue(
    link: &Link,
    name: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> Result<Queue, BrokerError> {
    let channel = link.channel().await?;
    let declare = channel.queue_declare(convert::short("queue", name)?, options, arguments);
    let queue = bounded("queue.declare", RPC_LIMIT, declare).await?;
    bounded("channel.close", RPC_LIMIT, channel.close(200, "OK".into())).await?;
    Ok(queue)
}

/// `queue.bind`
pub(super) async fn bind_queue(
    channel: &Channel,
    queue: &str,
    exchange: &str,
    key: &str,
) -> Result<(), BrokerError> {
    let bind = channel.queue_bind(
        convert::short("queue", queue)?,
        convert::short("exchange", exchange)?,
        convert::short("binding key", key)?,
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bounded("queue.bind", RPC_LIMIT, bind).await
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

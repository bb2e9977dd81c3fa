//! A queue that belongs to one connection and ends with it, consumed on a channel of its own.

use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use tracing::warn;

use super::declare::bind_queue;
use super::{BrokerError, Link, RPC_LIMIT, ack_now, bounded, convert};

/// Settings of an exclusive queue.
#[derive(Debug, Clone)]
pub struct ExclusiveQueue<'a> {
    /// Its name.
    pub name: &'a str,
    /// Messages that may wait in it; a publisher with confirms is told that more are refused.
    pub max_length: u32,
    /// Bytes that may wait in it, as above.
    pub max_bytes: u32,
    /// Messages that the broker sends ahead.
    pub prefetch: u16,
    /// The exchange that it is bound to.
    pub exchange: &'a str,
    /// The binding keys.
    pub keys: &'a [&'a str],
}

/// A started consumer of an exclusive queue.
#[derive(Debug)]
pub struct ExclusiveConsumer {
    channel: lapin::Channel,
    consumer: lapin::Consumer,
}

/// A message taken from an exclusive queue.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Its tag on the channel.
    pub tag: u64,
    /// The property `type`.
    pub kind: Option<String>,
    /// The queue that answers go to.
    pub reply_to: Option<String>,
    /// The text that the answer has to carry.
    pub correlation_id: Option<String>,
    /// Body.
    pub body: Bytes,
}

impl ExclusiveConsumer {
    /// Declares and binds the queue, and consumes it.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] with 405 if another connection still has the queue, 404 if the exchange is
    /// missing, 403 without permission.
    pub async fn open(link: &Link, queue: &ExclusiveQueue<'_>) -> Result<Self, BrokerError> {
        let channel = link.channel().await?;
        let name = convert::short("queue", queue.name)?;
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let declare = channel.queue_declare(name.clone(), options, arguments(queue));
        bounded("queue.declare", RPC_LIMIT, declare).await?;
        for key in queue.keys {
            bind_queue(&channel, queue.name, queue.exchange, key).await?;
        }
        let qos = channel.basic_qos(queue.prefetch, BasicQosOptions::default());
        bounded("basic.qos", RPC_LIMIT, qos).await?;
        let options = BasicConsumeOptions::default();
        let consume = channel.basic_consume(name, "".into(), options, FieldTable::default());
        let consumer = bounded("basic.consume", RPC_LIMIT, consume).await?;
        Ok(Self { channel, consumer })
    }

    /// The next message; nothing if the queue or the channel is gone. Cancel safe; not to be called again
    /// after that.
    pub async fn next(&mut self) -> Option<Taken> {
        let raw = loop {
            let raw = self.consumer.next().await?.ok()?;
            let Some(reason) = convert::fault(&raw.properties) else {
                break raw;
            };
            warn!(queue = %self.consumer.queue(), reason, "a message that cannot be decoded is dropped");
            self.settle(raw.delivery_tag);
        };
        let properties = &raw.properties;
        let text =
            |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        Some(Taken {
            tag: raw.delivery_tag,
            kind: text(properties.kind()),
            reply_to: text(properties.reply_to()),
            correlation_id: text(properties.correlation_id()),
            body: Bytes::from(raw.data),
        })
    }

    /// Acknowledges a message, so that the broker sends another. Waits for nothing: what cannot be written now
    /// is bounded by the prefetch.
    pub fn settle(&self, tag: u64) {
        ack_now(&self.channel, tag);
    }
}

fn arguments(queue: &ExclusiveQueue<'_>) -> FieldTable {
    let text = |value: &str| AMQPValue::LongString(value.into());
    let number = |value: u32| AMQPValue::LongLongInt(value.into());
    let mut arguments = FieldTable::default();
    // A virtual host's default type may be one that cannot be exclusive.
    arguments.insert("x-queue-type".into(), text("classic"));
    arguments.insert("x-overflow".into(), text("reject-publish"));
    arguments.insert("x-max-length".into(), number(queue.max_length));
    arguments.insert("x-max-length-bytes".into(), number(queue.max_bytes));
    arguments
}

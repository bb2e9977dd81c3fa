//! Consumers of a fleet program: of a stream from some offset, or of an exclusive queue. They yield batches.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};

use tracing::warn;

use super::declare::bind_queue;
use super::{BrokerError, Link, RPC_LIMIT, ack_now, bounded, convert};
use crate::delivery::Delivery;

/// The place in a stream to begin at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offset {
    /// With its oldest message.
    First,
    /// With the message of this offset, or the oldest after it.
    At(u64),
}

/// An exclusive queue, which ends with its connection.
#[derive(Debug, Clone)]
pub struct FeedQueue<'a> {
    /// Its name.
    pub name: &'a str,
    /// Messages that may wait in it; the oldest make room for more.
    pub max_length: u32,
    /// Bytes that may wait in it, as above.
    pub max_bytes: u32,
    /// How long a message may wait in it.
    pub ttl: Duration,
    /// The exchange that it is bound to, and the binding keys; nothing for the default exchange alone.
    pub binding: Option<(&'a str, &'a [&'a str])>,
}

/// A consumer that yields batches.
#[derive(Debug)]
pub struct Feed {
    channel: lapin::Channel,
    consumer: lapin::Consumer,
    queue: Arc<str>,
}

/// Some messages, in the order they came.
#[derive(Debug, Default)]
pub struct Batch {
    /// The messages; at least one.
    pub messages: Vec<Delivery>,
    /// The tag of the last of them.
    tag: u64,
}

impl Batch {
    /// The offset of the last message, where they come from a stream.
    pub fn offset(&self) -> Option<u64> {
        let headers = &self.messages.last()?.properties.headers;
        u64::try_from(headers.get("x-stream-offset")?.as_i64()?).ok()
    }
}

impl Feed {
    /// Consumes a stream.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] with 404 if there is none, 403 without permission.
    pub async fn stream(
        link: &Link,
        name: &str,
        from: Offset,
        prefetch: u16,
    ) -> Result<Self, BrokerError> {
        let offset = match from {
            Offset::First => AMQPValue::LongString("first".into()),
            Offset::At(offset) => AMQPValue::LongLongInt(i64::try_from(offset).unwrap_or(i64::MAX)),
        };
        let mut arguments = FieldTable::default();
        arguments.insert("x-stream-offset".into(), offset);
        let channel = link.channel().await?;
        Self::consume(channel, name, prefetch, arguments).await
    }

    /// Declares and binds an exclusive queue, and consumes it.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] with 404 if the exchange is missing, 403 without permission.
    pub async fn exclusive(
        link: &Link,
        feed_queue: &FeedQueue<'_>,
        prefetch: u16,
    ) -> Result<Self, BrokerError> {
        let channel = link.channel().await?;
        let name = convert::short("queue", feed_queue.name)?;
        let options = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let declare = channel.queue_declare(name.clone(), options, arguments(feed_queue));
        bounded("queue.declare", RPC_LIMIT, declare).await?;
        if let Some((exchange, keys)) = feed_queue.binding {
            for key in keys {
                bind_queue(&channel, feed_queue.name, exchange, key).await?;
            }
        }
        Self::consume(channel, feed_queue.name, prefetch, FieldTable::default()).await
    }

    async fn consume(
        channel: lapin::Channel,
        name: &str,
        prefetch: u16,
        arguments: FieldTable,
    ) -> Result<Self, BrokerError> {
        let qos = channel.basic_qos(prefetch, BasicQosOptions::default());
        bounded("basic.qos", RPC_LIMIT, qos).await?;
        let options = BasicConsumeOptions::default();
        let queue = convert::short("queue", name)?;
        let consume = channel.basic_consume(queue, "".into(), options, arguments);
        Ok(Self {
            consumer: bounded("basic.consume", RPC_LIMIT, consume).await?,
            channel,
            queue: name.into(),
        })
    }

    /// Waits for a message, and takes with it what else is here, up to `limit` messages. Cancel safe.
    ///
    /// # Errors
    /// If the channel or the queue is gone. Not to be called again after that.
    pub async fn batch(&mut self, limit: usize) -> Result<Batch, BrokerError> {
        let mut batch = Batch::default();
        while batch.messages.is_empty() {
            let next = self.consumer.next().await;
            self.put(&mut batch, next)?;
        }
        self.gather(&mut batch, limit)?;
        Ok(batch)
    }

    /// Takes what is here, up to `limit` messages; nothing if nothing is.
    ///
    /// # Errors
    /// As [`batch`](Self::batch).
    pub fn ready(&mut self, limit: usize) -> Result<Option<Batch>, BrokerError> {
        let mut batch = Batch::default();
        self.gather(&mut batch, limit)?;
        Ok((!batch.messages.is_empty()).then_some(batch))
    }

    fn gather(&mut self, batch: &mut Batch, limit: usize) -> Result<(), BrokerError> {
        while batch.messages.len() < limit {
            let Some(next) = self.consumer.next().now_or_never() else {
                break;
            };
            self.put(batch, next)?;
        }
        Ok(())
    }

    fn put(
        &self,
        batch: &mut Batch,
        next: Option<lapin::Result<lapin::message::Delivery>>,
    ) -> Result<(), BrokerError> {
        match next {
            Some(Ok(raw)) if convert::fault(&raw.properties).is_some() => {
                let reason = convert::fault(&raw.properties);
                warn!(queue = %self.queue, reason, "a message that cannot be decoded is skipped");
                ack_now(&self.channel, raw.delivery_tag);
                Ok(())
            }
            Some(Ok(raw)) => {
                batch.tag = raw.delivery_tag;
                let delivery = convert::delivery(&self.queue, raw);
                batch.messages.push(delivery);
                Ok(())
            }
            Some(Err(error)) => Err(BrokerError::from_lapin("following a queue", &error)),
            None => Err(BrokerError::Lost {
                what: "following a queue",
                cause: format!("the consumer of {:?} has ended", self.queue),
            }),
        }
    }

    /// Acknowledges a batch with one `multiple` ack.
    ///
    /// # Errors
    /// If the channel is gone, or nothing can be written.
    pub async fn ack(&self, batch: &Batch) -> Result<(), BrokerError> {
        let options = BasicAckOptions { multiple: true };
        let ack = self.channel.basic_ack(batch.tag, options);
        bounded("basic.ack", RPC_LIMIT, ack).await.map(drop)
    }
}

fn arguments(feed_queue: &FeedQueue<'_>) -> FieldTable {
    let text = |value: &str| AMQPValue::LongString(value.into());
    let number = |value: u64| AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX));
    let mut arguments = FieldTable::default();
    // A virtual host's default type may be one that cannot be exclusive.
    arguments.insert("x-queue-type".into(), text("classic"));
    arguments.insert("x-overflow".into(), text("drop-head"));
    arguments.insert("x-max-length".into(), number(feed_queue.max_length.into()));
    arguments.insert(
        "x-max-length-bytes".into(),
        number(feed_queue.max_bytes.into()),
    );
    let ttl = u64::try_from(feed_queue.ttl.as_millis()).unwrap_or(u64::MAX);
    arguments.insert("x-message-ttl".into(), number(ttl));
    arguments
}

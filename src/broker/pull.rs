//! Taking messages one by one, and putting back what was only looked at (`basic.get`, `basic.nack`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};

use super::declare::{declare_queue, durable, text};
use super::topology::inequivalent;
use super::{BrokerError, Link, RPC_LIMIT, bounded, convert};
use crate::delivery::Delivery;

/// A channel that takes messages. What it has taken and not settled is the broker's again when the channel ends,
/// however it ends.
#[derive(Debug)]
pub struct PullChannel {
    channel: lapin::Channel,
    /// Settlements wait for a commit (`tx.select`).
    transactional: bool,
    /// Messages taken and not acknowledged.
    held: AtomicU64,
}

impl PullChannel {
    /// Opens a channel on `link`.
    ///
    /// # Errors
    /// If the link is lost or does not answer.
    pub async fn open(link: &Link) -> Result<Self, BrokerError> {
        Ok(Self {
            channel: link.channel().await?,
            transactional: false,
            held: AtomicU64::new(0),
        })
    }

    /// Opens a channel whose acknowledgements happen all at once, at each [`commit`](Self::commit): a client that is lost
    /// before has acknowledged nothing.
    ///
    /// # Errors
    /// If the link is lost or does not answer.
    pub async fn open_transactional(link: &Link) -> Result<Self, BrokerError> {
        let mut opened = Self::open(link).await?;
        bounded("tx.select", RPC_LIMIT, opened.channel.tx_select()).await?;
        opened.transactional = true;
        Ok(opened)
    }

    /// Takes the next message of `queue`, and its tag; nothing if none is ready. Without transactions an answer also
    /// says that the broker has processed every earlier [`ack`](Self::ack) (AMQP 0-9-1: methods of a channel are
    /// processed in order).
    ///
    /// # Errors
    /// [`BrokerError::Refused`] with 404 if there is no such queue, 405 if another connection has it
    /// exclusively, 403 without permission.
    pub async fn get(&self, queue: &Arc<str>) -> Result<Option<(u64, Delivery)>, BrokerError> {
        let name = convert::short("queue", queue)?;
        let get = self.channel.basic_get(name, BasicGetOptions::default());
        let got = bounded("basic.get", RPC_LIMIT, get).await?;
        Ok(got.map(|message| {
            self.held.fetch_add(1, Ordering::Relaxed);
            let raw = message.delivery;
            (raw.delivery_tag, convert::delivery(queue, raw))
        }))
    }

    /// Acknowledges the message with `tag`; it leaves the queue. That this arrived is known from the next answer on the
    /// channel, or from the commit.
    ///
    /// # Errors
    /// If the channel is gone.
    pub async fn ack(&self, tag: u64) -> Result<(), BrokerError> {
        let ack = self.channel.basic_ack(tag, BasicAckOptions::default());
        bounded("basic.ack", RPC_LIMIT, ack).await?;
        self.held.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// Makes all acknowledgements since the last commit happen at once; nothing without transactions.
    ///
    /// # Errors
    /// If the channel is lost before the answer; then it is not known whether they have happened.
    pub async fn commit(&self) -> Result<(), BrokerError> {
        if !self.transactional {
            return Ok(());
        }
        bounded("tx.commit", RPC_LIMIT, self.channel.tx_commit()).await
    }

    /// Puts everything back that has been taken and not acknowledged. With `basic.nack`, which RabbitMQ 4.3 does not
    /// count as a failed delivery; a channel that just closes, it does.
    ///
    /// # Errors
    /// If the channel is gone; then the broker has everything back already.
    pub async fn hand_back(&self) -> Result<(), BrokerError> {
        if self.held.swap(0, Ordering::Relaxed) > 0 {
            let options = BasicNackOptions {
                multiple: true,
                requeue: true,
            };
            // Tag 0 with `multiple` means everything outstanding.
            let nack = self.channel.basic_nack(0, options);
            bounded("basic.nack", RPC_LIMIT, nack).await?;
        }
        self.commit().await
    }

    /// Closes the channel and awaits close-ok, for at most `limit`: every settlement has arrived.
    ///
    /// # Errors
    /// If the channel was lost before, or no answer came in time.
    pub async fn close(&self, limit: Duration) -> Result<(), BrokerError> {
        bounded("channel.close", limit, self.channel.close(200, "OK".into())).await
    }
}

/// Declares a durable classic queue that the broker removes once nobody has used it for `expires`.
///
/// # Errors
/// [`BrokerError::Refused`] with 406 if it exists with other arguments, 403 without permission.
pub async fn declare_kept_for(
    link: &Link,
    name: &str,
    expires: Duration,
) -> Result<u32, BrokerError> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("classic"));
    let expires = i64::try_from(expires.as_millis()).unwrap_or(i64::MAX);
    arguments.insert("x-expires".into(), AMQPValue::LongLongInt(expires));
    let queue = declare_queue(link, name, durable(), arguments).await?;
    Ok(queue.message_count())
}

/// Declares an exclusive queue that nobody uses: as long as `link` lives, no other connection can.
///
/// # Errors
/// [`BrokerError::Refused`] with 405 if another connection has it.
pub async fn lock(link: &Link, name: &str) -> Result<(), BrokerError> {
    let options = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    declare_queue(link, name, options, FieldTable::default())
        .await
        .map(drop)
}

/// Deletes a queue, and what is in it.
///
/// # Errors
/// If the link is lost or does not answer; with 405 if another connection has the queue exclusively.
pub async fn delete_queue(link: &Link, name: &str) -> Result<(), BrokerError> {
    let channel = link.channel().await?;
    let name = convert::short("queue", name)?;
    let delete = channel.queue_delete(name, QueueDeleteOptions::default());
    bounded("queue.delete", RPC_LIMIT, delete).await?;
    bounded("channel.close", RPC_LIMIT, channel.close(200, "OK".into())).await
}

/// The number of failed deliveries that a quorum queue allows a message (`x-delivery-limit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryLimit {
    /// Any number.
    None,
    /// The broker's own, for the queue names none: 20 from RabbitMQ 4.0 on.
    Default,
    /// So many.
    Named(u64),
    /// The broker does not tell.
    Unknown,
}

/// The `x-delivery-limit` of the existing quorum queue `name`. The broker tells it in its answer to a declaration
/// of the queue without a limit; of a limit that a policy sets it says nothing.
///
/// # Errors
/// If the link is lost or does not answer.
pub async fn delivery_limit(link: &Link, name: &str) -> Result<DeliveryLimit, BrokerError> {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
    match declare_queue(link, name, durable(), arguments).await {
        Ok(_queue) => Ok(DeliveryLimit::None),
        Err(BrokerError::Refused {
            code: 406, text, ..
        }) => Ok(told_limit(&text)),
        Err(BrokerError::Refused { .. }) => Ok(DeliveryLimit::Unknown),
        Err(error) => Err(error),
    }
}

fn told_limit(text: &str) -> DeliveryLimit {
    let limit = inequivalent(text).filter(|found| found.argument == "x-delivery-limit");
    match limit.map(|limit| limit.current) {
        None => DeliveryLimit::Unknown,
        Some(None) => DeliveryLimit::Default,
        Some(Some(limit)) => limit
            .value
            .parse()
            .map_or(DeliveryLimit::Unknown, DeliveryLimit::Named),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_from_the_broker_s_words() {
        let text = |current: &str| {
            format!(
                "PRECONDITION_FAILED - inequivalent arg 'x-delivery-limit' for queue 'q' in vhost '/': \
                 received '-1' but current is {current}"
            )
        };
        assert_eq!(told_limit(&text("none")), DeliveryLimit::Default);
        assert_eq!(told_limit(&text("'5'")), DeliveryLimit::Named(5));
        assert_eq!(
            told_limit(&text("the value '7' of type 'long'")),
            DeliveryLimit::Named(7)
        );
        let other =
            "PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue 'q' in vhost '/'";
        assert_eq!(told_limit(other), DeliveryLimit::Unknown);
    }
}

//! Publishing with confirms.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lapin::Confirmation;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use super::{BrokerError, Link, RPC_LIMIT, bounded, convert};
use crate::delivery::Message;

/// A channel in confirm mode (RabbitMQ publisher confirms).
#[derive(Debug, Clone)]
pub struct Publisher {
    channel: lapin::Channel,
    limit: Arc<BodyLimit>,
}

/// The broker's confirm of one message, still under way.
pub struct Confirm {
    answer: lapin::PublisherConfirm,
    bytes: u64,
    limit: Arc<BodyLimit>,
}

/// The longest body that the broker takes (`max_message_size`). AMQP does not tell it; the broker does when it closes the
/// channel on a longer one. So that this happens once, all who publish on a connection share what was learnt.
#[derive(Debug)]
pub(super) struct BodyLimit(AtomicU64);

impl Default for BodyLimit {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl BodyLimit {
    /// # Errors
    /// [`BrokerError::TooLarge`] if the broker is known not to take a body of `bytes`.
    fn check(&self, bytes: u64) -> Result<(), BrokerError> {
        let limit = self.0.load(Ordering::Relaxed);
        if bytes > limit {
            return Err(BrokerError::TooLarge { bytes, limit });
        }
        Ok(())
    }

    /// Learns from `error`, with which a message whose body has `bytes` failed. What that means for this message: the
    /// others on the channel were only lost with it.
    fn learn(&self, bytes: u64, error: BrokerError) -> BrokerError {
        let Some(limit) = error.body_limit() else {
            return error;
        };
        self.0.store(limit, Ordering::Relaxed);
        self.check(bytes).err().unwrap_or(BrokerError::Lost {
            what: "awaiting a confirm",
            cause: format!("the broker closed the channel on another message: {error}"),
        })
    }
}

impl Publisher {
    /// Opens a channel on `link` and selects confirm mode.
    ///
    /// # Errors
    /// If the link is lost or does not answer.
    pub async fn open(link: &Link) -> Result<Self, BrokerError> {
        let channel = link.channel().await?;
        let select = channel.confirm_select(ConfirmSelectOptions::default());
        bounded("confirm.select", RPC_LIMIT, select).await?;
        Ok(Self {
            channel,
            limit: link.body_limit(),
        })
    }

    /// Writes `message`; the [`Confirm`] tells whether the broker has taken it. Any number may be under
    /// way. Dropping the future before it is ready leaves open whether the message was sent.
    ///
    /// # Errors
    /// If the channel is gone, or a property does not fit AMQP's limits. [`BrokerError::TooLarge`] if the broker has refused
    /// so large a body on this connection before; nothing is written then.
    pub async fn publish(&self, message: &Message) -> Result<Confirm, BrokerError> {
        let bytes = message.body.len() as u64;
        self.limit.check(bytes)?;
        let options = BasicPublishOptions {
            mandatory: message.mandatory,
            immediate: false,
        };
        let written = self
            .channel
            .basic_publish(
                convert::short("exchange", &message.exchange)?,
                convert::short("routing key", &message.routing_key)?,
                options,
                &message.body,
                convert::to_properties(&message.properties)?,
            )
            .await;
        match written {
            Ok(answer) => Ok(Confirm {
                answer,
                bytes,
                limit: Arc::clone(&self.limit),
            }),
            Err(error) => {
                let error = BrokerError::from_lapin("basic.publish", &error);
                Err(self.limit.learn(bytes, error))
            }
        }
    }

    /// As [`publish`](Self::publish), if there is a queue `queue` at that moment: the passive declaration before it
    /// closes the channel where there is none, and the broker takes no further method on it.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] with 404 if there is no such queue; the channel is gone then.
    pub async fn publish_if_there(
        &self,
        queue: &str,
        message: &Message,
    ) -> Result<Confirm, BrokerError> {
        // The client library queues a method at its future's first poll: the declaration goes first.
        let (found, published) = tokio::join!(biased; self.find(queue), self.publish(message));
        found?;
        published
    }

    /// Whether there is a queue `queue` (`queue.declare` passive, on this channel).
    async fn find(&self, queue: &str) -> Result<(), BrokerError> {
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let name = convert::short("queue", queue)?;
        let declare = self
            .channel
            .queue_declare(name, options, FieldTable::default());
        bounded("queue.declare", RPC_LIMIT, declare).await.map(drop)
    }

    /// Whether the channel can still be used.
    pub fn is_open(&self) -> bool {
        self.channel.status().connected()
    }

    /// Closes the channel and awaits close-ok, for at most `limit`.
    ///
    /// # Errors
    /// If the channel was lost before, or no answer came in time.
    pub async fn close(&self, limit: Duration) -> Result<(), BrokerError> {
        let close = self.channel.close(200, "OK".into());
        bounded("channel.close", limit, close).await
    }
}

impl Confirm {
    /// Resolves when the broker has taken responsibility for the message. Cancel safe: dropping it forgets the answer.
    ///
    /// # Errors
    /// [`BrokerError::NotAccepted`] where the message came back unroutable or was negatively confirmed
    /// (a full queue, say), [`BrokerError::TooLarge`] for its body; else the channel was lost and nothing is known.
    pub async fn accepted(self) -> Result<(), BrokerError> {
        match self.answer.await {
            Ok(Confirmation::Ack(None) | Confirmation::NotRequested) => Ok(()),
            Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
                Err(BrokerError::NotAccepted {
                    cause: format!(
                        "it came back from exchange {:?}, routing key {:?}: {} {}",
                        returned.delivery.exchange.as_str(),
                        returned.delivery.routing_key.as_str(),
                        returned.reply_code,
                        returned.reply_text,
                    ),
                })
            }
            Ok(Confirmation::Nack(None)) => Err(BrokerError::NotAccepted {
                cause: "the broker confirmed it negatively: its queue is full or failed".to_owned(),
            }),
            Err(error) => {
                let error = BrokerError::from_lapin("awaiting a confirm", &error);
                Err(self.limit.learn(self.bytes, error))
            }
        }
    }

    /// Whether any queue was there for a mandatory message, once the broker has confirmed it. A queue that was
    /// there and did not take it was there. Cancel safe, as [`accepted`](Self::accepted).
    ///
    /// # Errors
    /// If the channel was lost: nothing is known.
    pub async fn routed(self) -> Result<bool, BrokerError> {
        match self.answer.await {
            Ok(Confirmation::Ack(returned) | Confirmation::Nack(returned)) => {
                Ok(returned.is_none())
            }
            Ok(Confirmation::NotRequested) => Ok(true),
            Err(error) => Err(BrokerError::from_lapin("awaiting a confirm", &error)),
        }
    }
}

impl std::fmt::Debug for Confirm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Confirm")
    }
}

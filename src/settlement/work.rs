//! A delivery that the node works on.

use std::sync::Arc;

use tokio::time::Instant;

use super::Identity;
use crate::delivery::{Delivery, HeaderValue, header};
use crate::retry::Received;

/// The place of a delivery: its tag means nothing on another channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChannelTag {
    /// The channel.
    pub generation: u64,
    /// The tag.
    pub tag: u64,
}

/// A delivery to work on.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// What arrived.
    pub received: Received,
    /// Which message it is.
    pub identity: Identity,
    /// When it arrived.
    pub arrived: Instant,
    /// How often the queue had delivered the message before it delivered it at its present place, to whomever; 0 if it does
    /// not tell.
    pub earlier_deliveries: u64,
}

impl Work {
    /// What arrived, and which message it is.
    pub(crate) fn new(received: Received, identity: Identity, arrived: Instant) -> Self {
        Self {
            earlier_deliveries: earlier_deliveries(&received.delivery),
            received,
            identity,
            arrived,
        }
    }

    /// The message.
    pub(crate) fn delivery(&self) -> &Arc<Delivery> {
        &self.received.delivery
    }

    /// The message's id.
    pub(crate) fn message_id(&self) -> Option<&str> {
        self.received.delivery.properties.message_id.as_deref()
    }

    /// Whether `later` is a later delivery of the same message.
    pub(crate) fn is_before(&self, later: &Self) -> bool {
        self.identity == later.identity && self.earlier_deliveries < later.earlier_deliveries
    }

    /// Whether it is a copy that a worker made for another run.
    pub(crate) fn is_copy(&self) -> bool {
        self.received.copy.is_some()
    }
}

/// The queue's own count. Quorum queues of RabbitMQ 4 tell it in a header of what is redelivered.
fn earlier_deliveries(delivery: &Delivery) -> u64 {
    if !delivery.redelivered {
        return 0;
    }
    let count = delivery.properties.headers.get(header::ACQUIRED_COUNT);
    let count = count.and_then(HeaderValue::as_i64);
    count.and_then(|count| count.try_into().ok()).unwrap_or(0)
}

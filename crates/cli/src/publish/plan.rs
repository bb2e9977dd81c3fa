//! What to send: the destination and the properties that all messages of a run share.

use bytes::Bytes;
use ulid::Ulid;

use tidegate::delivery::Properties;
use tidegate::internal::broker::Message;

/// Everything about the messages of a run but their bodies.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// The queue that the messages are meant for; `None` where only an exchange is named.
    pub queue: Option<String>,
    /// Exchange; empty for the default exchange.
    pub exchange: String,
    /// Routing key.
    pub routing_key: String,
    /// What every message carries, its identifier aside.
    pub properties: Properties,
    /// Messages of the input that are not sent, for an earlier run did; numbers in reports count from the
    /// first of the input.
    pub skip: u64,
    /// Whether each message gets an identifier of its own (a ULID).
    pub identify: bool,
}

impl Plan {
    /// The message with `body`. It is mandatory: what no queue takes comes back and counts as refused.
    pub(crate) fn message(&self, body: Bytes) -> Message {
        let mut properties = self.properties.clone();
        if self.identify {
            properties.message_id = Some(Ulid::new().to_string());
        }
        Message {
            exchange: self.exchange.clone(),
            routing_key: self.routing_key.clone(),
            mandatory: true,
            properties,
            body,
        }
    }

    /// The destination in words, for people.
    pub(crate) fn destination(&self) -> String {
        match &self.queue {
            Some(queue) if self.exchange.is_empty() => format!("queue {queue:?}"),
            Some(queue) => format!(
                "exchange {:?} with routing key {:?} (for queue {queue:?})",
                self.exchange, self.routing_key
            ),
            None => format!(
                "exchange {:?} with routing key {:?}",
                self.exchange, self.routing_key
            ),
        }
    }
}

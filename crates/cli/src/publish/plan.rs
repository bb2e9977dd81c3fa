//! The destination and the properties that all messages of a run share.

use bytes::Bytes;
use ulid::Ulid;

use tidegate::delivery::Properties;
use tidegate::internal::broker::Message;

/// Everything that the messages of a run share: all but their bodies and identifiers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PublishPlan {
    /// The queue that the messages are for; `None` if only an exchange is named.
    pub queue: Option<String>,
    /// Exchange; empty for the default exchange.
    pub exchange: String,
    /// Routing key.
    pub routing_key: String,
    /// The properties of every message, without its identifier.
    pub properties: Properties,
    /// How many messages at the beginning of the input are left out, because an earlier run has sent them. Numbers in
    /// reports count from the first message of the input.
    pub skip: u64,
    /// Whether each message gets an identifier of its own (a ULID).
    pub identify: bool,
}

impl PublishPlan {
    /// The message with `body`. It is mandatory: the broker returns it if no queue takes it, and it counts as refused.
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

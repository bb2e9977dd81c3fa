//! A message taken out of a queue.

use lapin::message::Delivery;
use lapin::types::AMQPValue;

/// A message taken out of a queue.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// Its message id; empty if it has none.
    pub id: String,
    /// Whether the broker has delivered it before.
    pub redelivered: bool,
    /// Exchange it was published to.
    pub exchange: String,
    /// Routing key it was published with.
    pub routing_key: String,
    /// Properties and headers.
    pub properties: lapin::BasicProperties,
    /// Body.
    pub body: Vec<u8>,
}

impl Taken {
    /// A header as text; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> String {
        let headers = self.properties.headers().as_ref();
        match headers.and_then(|headers| headers.inner().get(name)) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            Some(AMQPValue::LongLongInt(number)) => number.to_string(),
            Some(other) => format!("{other:?}"),
            None => String::new(),
        }
    }
}

impl From<Delivery> for Taken {
    fn from(delivery: Delivery) -> Self {
        let properties = delivery.properties;
        let id = properties.message_id().as_ref();
        Self {
            id: id.map(ToString::to_string).unwrap_or_default(),
            redelivered: delivery.redelivered,
            exchange: delivery.exchange.to_string(),
            routing_key: delivery.routing_key.to_string(),
            body: delivery.data,
            properties,
        }
    }
}

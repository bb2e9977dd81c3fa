//! Which message a delivery is, told by what the broker never changes about it.

use std::sync::LazyLock;

use xxhash_rust::xxh3::Xxh3;

use crate::delivery::{Delivery, HeaderValue, Properties};

/// Headers that the broker sets anew with each delivery of the same message.
const COUNTED_BY_BROKER: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

/// Hashes start from a number of this process's own, so that nobody can make two messages with one hash on purpose.
static SEED: LazyLock<u64> = LazyLock::new(rand::random);

/// Which message a delivery is: two deliveries of one message to this process have the same identity.
///
/// It is a hash (XXH3, 128 bits) over the queue, exchange, routing key, all properties, all headers but
/// the broker's own counters, and the body. A message id alone would not do: publishers that
/// use one id for different messages exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    hash: u128,
    named: bool,
}

impl Identity {
    /// The identity of `delivery`.
    pub fn of(delivery: &Delivery) -> Self {
        let mut hash = Hash(Xxh3::with_seed(*SEED));
        hash.text(&delivery.queue);
        hash.text(&delivery.exchange);
        hash.text(&delivery.routing_key);
        hash.properties(&delivery.properties);
        hash.bytes(&delivery.body);
        Self {
            hash: hash.0.digest128(),
            named: delivery.properties.message_id.is_some() || delivery.copy_id().is_some(),
        }
    }

    /// Whether the message carries an id of its own: then another message with the same identity is the
    /// same message published twice. Without one, two honest messages may look alike.
    pub fn is_named(self) -> bool {
        self.named
    }
}

struct Hash(Xxh3);

impl Hash {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    /// With its length, so that what stands before cannot be taken for a part of what follows.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn optional(&mut self, text: Option<&str>) {
        self.number(u64::from(text.is_some()));
        self.text(text.unwrap_or_default());
    }

    fn properties(&mut self, properties: &Properties) {
        for text in [
            &properties.content_type,
            &properties.content_encoding,
            &properties.correlation_id,
            &properties.reply_to,
            &properties.expiration,
            &properties.message_id,
            &properties.kind,
            &properties.user_id,
            &properties.app_id,
        ] {
            self.optional(text.as_deref());
        }
        self.number(properties.delivery_mode.map_or(256, u64::from));
        self.number(properties.priority.map_or(256, u64::from));
        self.number(u64::from(properties.timestamp.is_some()));
        self.number(properties.timestamp.unwrap_or_default());
        for (name, value) in &properties.headers {
            if !COUNTED_BY_BROKER.contains(&name.as_str()) {
                self.text(name);
                self.header(value);
            }
        }
    }

    fn header(&mut self, value: &HeaderValue) {
        match value {
            HeaderValue::Bool(value) => self.number((*value).into()),
            HeaderValue::U8(value) => self.number((*value).into()),
            HeaderValue::U16(value) => self.number((*value).into()),
            HeaderValue::U32(value) => self.number((*value).into()),
            HeaderValue::Timestamp(value) => self.number(*value),
            HeaderValue::I8(_)
            | HeaderValue::I16(_)
            | HeaderValue::I32(_)
            | HeaderValue::I64(_) => {
                let value = value.as_i64().expect("these are whole numbers");
                self.0.update(&value.to_le_bytes());
            }
            HeaderValue::F32(value) => self.number(value.to_bits().into()),
            HeaderValue::F64(value) => self.number(value.to_bits()),
            HeaderValue::Decimal { scale, value } => {
                self.number((*scale).into());
                self.number((*value).into());
            }
            HeaderValue::Text(value) => self.text(value),
            HeaderValue::LongString(value) | HeaderValue::Bytes(value) => self.bytes(value),
            HeaderValue::List(values) => {
                self.number(values.len() as u64);
                for value in values {
                    self.header(value);
                }
            }
            HeaderValue::Table(values) => {
                self.number(values.len() as u64);
                for (name, value) in values {
                    self.text(name);
                    self.header(value);
                }
            }
            HeaderValue::Void => self.number(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn delivery() -> Delivery {
        Delivery {
            queue: "orders".into(),
            exchange: "shop".into(),
            routing_key: "order.new".into(),
            redelivered: false,
            attempt: 1,
            properties: Properties {
                headers: BTreeMap::from([("tenant".to_owned(), HeaderValue::from("a"))]),
                ..Properties::default()
            },
            body: "body".into(),
        }
    }

    #[test]
    fn a_redelivery_is_the_same_message_whatever_the_broker_counts() {
        let first = delivery();
        let mut again = delivery();
        again.redelivered = true;
        again.attempt = 4;
        for header in COUNTED_BY_BROKER {
            let count = HeaderValue::I64(3);
            again.properties.headers.insert(header.to_owned(), count);
        }
        assert_eq!(Identity::of(&first), Identity::of(&again));
    }

    #[test]
    fn whatever_else_differs_makes_another_message() {
        let same = Identity::of(&delivery());
        let changes: [fn(&mut Delivery); 8] = [
            |it| it.queue = "other".into(),
            |it| it.exchange = "other".into(),
            |it| it.routing_key = "order.old".into(),
            |it| it.properties.priority = Some(0),
            |it| it.properties.timestamp = Some(0),
            |it| it.properties.message_id = Some(String::new()),
            |it| {
                let other = HeaderValue::from("b");
                it.properties.headers.insert("tenant".to_owned(), other);
            },
            |it| it.body = "bod".into(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut other = delivery();
            change(&mut other);
            assert_ne!(Identity::of(&other), same, "change {number}");
        }
    }

    #[test]
    fn a_boundary_between_two_texts_counts() {
        let (mut one, mut other) = (delivery(), delivery());
        one.properties.kind = Some("ab".into());
        one.properties.user_id = Some("c".into());
        other.properties.kind = Some("a".into());
        other.properties.user_id = Some("bc".into());
        assert_ne!(Identity::of(&one), Identity::of(&other));
    }

    #[test]
    fn a_message_with_an_id_is_named() {
        let mut named = delivery();
        assert!(!Identity::of(&named).is_named());
        named.properties.message_id = Some("7".into());
        assert!(Identity::of(&named).is_named());
    }
}

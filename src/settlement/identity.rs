//! The identity of a message, from the parts that the broker never changes.

use std::sync::LazyLock;

use crate::delivery::{ContentHash, header};
use crate::retry::Received;

/// Headers that the broker sets anew with each delivery of the same message.
const COUNTED_BY_BROKER: [&str; 2] = [header::DELIVERY_COUNT, header::ACQUIRED_COUNT];

/// Hashes start from a number that only this process knows, so that nobody can make two messages with one hash on
/// purpose.
static SEED: LazyLock<u64> = LazyLock::new(rand::random);

/// Which message a delivery is: two deliveries of one message to this process have the same identity.
///
/// It is a hash (XXH3, 128 bits) over the queue, exchange, routing key, all properties, all headers but the broker's own
/// counters, and the body; for a copy over its id and its attempt, too. A message id alone would not do: some publishers
/// use one id for different messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    hash: u128,
    named: bool,
}

impl Identity {
    /// The identity of `received`. `by_handler`: what the handler says identifies a message without an id.
    pub fn of(received: &Received, by_handler: Option<&str>) -> Self {
        let delivery = &received.delivery;
        let properties = &delivery.properties;
        let mut hash = ContentHash::with_seed(*SEED);
        hash.text(&delivery.queue);
        hash.text(&delivery.exchange);
        hash.text(&delivery.routing_key);
        hash.optional_text(by_handler);
        hash.optional_text(received.copy.as_ref().map(|copy| &*copy.id));
        if received.copy.is_some() {
            hash.number(delivery.attempt.into());
        }
        hash.stable_properties(properties);
        hash.optional_text(properties.expiration.as_deref());
        hash.number(properties.delivery_mode.map_or(256, u64::from));
        hash.number(u64::from(properties.timestamp.is_some()));
        hash.number(properties.timestamp.unwrap_or_default());
        for (name, value) in &properties.headers {
            if !COUNTED_BY_BROKER.contains(&name.as_str()) {
                hash.header(name, value);
            }
        }
        hash.bytes(&delivery.body);
        let named = properties.message_id.is_some() || by_handler.is_some();
        Self {
            hash: hash.finish(),
            named: named || received.copy.is_some(),
        }
    }

    /// Whether the message carries an id of its own. Another message with the same identity is then the same message,
    /// published twice. Without an id two different messages may look alike.
    pub fn is_named(self) -> bool {
        self.named
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::delivery::{Delivery, HeaderValue, Properties};
    use crate::retry::CopyMark;

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

    fn identity(delivery: Delivery) -> Identity {
        Identity::of(&received(delivery), None)
    }

    fn received(delivery: Delivery) -> Received {
        Received {
            delivery: delivery.into(),
            copy: None,
            expires_at: None,
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
        assert_eq!(identity(first), identity(again));
    }

    #[test]
    fn whatever_else_differs_makes_another_message() {
        let same = identity(delivery());
        let changes: [fn(&mut Delivery); 10] = [
            |it| it.queue = "other".into(),
            |it| it.exchange = "other".into(),
            |it| it.routing_key = "order.old".into(),
            |it| it.properties.priority = Some(0),
            |it| it.properties.timestamp = Some(0),
            |it| it.properties.delivery_mode = Some(1),
            |it| it.properties.expiration = Some("1".into()),
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
            assert_ne!(identity(other), same, "change {number}");
        }
    }

    #[test]
    fn copies_are_one_message_if_id_and_attempt_and_content_are_the_same() {
        let copy = |id: &str, attempt, body: &'static str| {
            let mut delivery = delivery();
            delivery.attempt = attempt;
            delivery.body = body.into();
            let mut received = received(delivery);
            received.copy = Some(CopyMark {
                id: id.to_owned(),
                not_before: None,
            });
            Identity::of(&received, None)
        };
        let one = copy("01K", 2, "body");
        assert!(one.is_named());
        assert_eq!(copy("01K", 2, "body"), one);
        for other in [
            copy("01L", 2, "body"),
            copy("01K", 3, "body"),
            copy("01K", 2, "another"),
            identity(delivery()),
        ] {
            assert_ne!(other, one);
        }
    }

    #[test]
    fn a_message_with_an_id_or_with_one_from_its_handler_is_named() {
        let mut named = delivery();
        assert!(!identity(named.clone()).is_named());
        let by_handler = |id| Identity::of(&received(delivery()), Some(id));
        assert!(by_handler("event 7").is_named());
        assert_ne!(by_handler("event 7"), by_handler("event 8"));
        named.properties.message_id = Some("7".into());
        assert!(identity(named).is_named());
    }
}

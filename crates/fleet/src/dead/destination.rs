//! The destination of a replayed dead letter, and the message that is sent there.

use std::fmt;

use super::Letter;
use super::letter::Death;
use tidegate::delivery::{HeaderValue, Properties, header};
use tidegate::internal::broker::Message;
use tidegate::internal::retry::restore;

/// Prefixes of the headers that the broker and workers added on the way here. A replayed message starts without them.
const ADDED: [&str; 6] = [
    header::PREFIX,
    "x-death",
    "x-first-death-",
    "x-last-death-",
    "x-delivery-count",
    "x-acquired-count",
];
/// Headers that route a message to more queues. Those queues got it when it was first published.
const ROUTING: [&str; 2] = ["CC", "BCC"];

/// A place to publish a message to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Destination {
    /// Straight to a queue, by the default exchange.
    Queue(String),
    /// To another exchange.
    Exchange {
        /// Its name.
        exchange: String,
        /// The routing key.
        routing_key: String,
    },
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(queue) => write!(f, "queue {queue:?}"),
            Self::Exchange {
                exchange,
                routing_key,
            } => write!(f, "exchange {exchange:?} with routing key {routing_key:?}"),
        }
    }
}

/// A message that a replay publishes.
#[derive(Debug, Clone, PartialEq)]
pub struct Republish {
    /// Its destination.
    pub destination: Destination,
    /// The message.
    pub message: Message,
}

impl Letter {
    /// The place that the message came from: as the worker noted it that made the letter, else as RabbitMQ did (`x-death`),
    /// else its queue.
    pub fn origin(&self) -> Destination {
        let noted = (self.note(header::EXCHANGE), self.note(header::ROUTING_KEY));
        let death = self
            .death()
            .map(|death| (death.exchange(), death.routing_key()));
        match (noted, death) {
            ((Some(exchange), Some(key)), _) | (_, Some((Some(exchange), Some(key)))) => {
                if exchange.is_empty() {
                    Destination::Queue(key.to_owned())
                } else {
                    Destination::Exchange {
                        exchange: exchange.to_owned(),
                        routing_key: key.to_owned(),
                    }
                }
            }
            _ => Destination::Queue(self.queue.clone()),
        }
    }

    /// The message as it was before it died, for `destination`: with its original properties and headers, and with its
    /// whole time to live. Attempts count from 1 again.
    ///
    /// Not restored: `user_id`, which the broker accepts only from that user, and the headers `CC` and `BCC`, because
    /// the queues that they name already got the message.
    pub fn again(&self, destination: Destination) -> Republish {
        let mut properties = self.original_properties();
        properties.user_id = None;
        properties.expiration.take_if(|text| !is_milliseconds(text));
        let headers = &mut properties.headers;
        headers.retain(|name, _| !ROUTING.contains(&name.as_str()));
        let (exchange, routing_key) = match &destination {
            Destination::Queue(queue) => (String::new(), queue.clone()),
            Destination::Exchange {
                exchange,
                routing_key,
            } => (exchange.clone(), routing_key.clone()),
        };
        let message = Message {
            exchange,
            routing_key,
            mandatory: true,
            properties,
            body: self.delivery.body.clone(),
        };
        Republish {
            destination,
            message,
        }
    }
}

impl Letter {
    /// The properties that the message had before it died. What workers and the broker added is gone.
    fn original_properties(&self) -> Properties {
        let mut properties = self.delivery.properties.clone();
        if self.is_by_worker() {
            restore(&mut properties, false);
            return properties;
        }
        // The broker's own dead-lettering brought it here, or a stranger. An expiration of another queue may be inherited,
        // and would remove the message.
        if properties.expiration.is_none() {
            let expiration = self.death_here().and_then(Death::expiration);
            properties.expiration = expiration.map(str::to_owned);
        }
        let added = |name: &str| ADDED.iter().any(|added| name.starts_with(added));
        properties.headers.retain(|name, _| !added(name));
        properties
    }
}

/// Whether a broker takes `expiration`; it closes the channel on a publish with any other.
fn is_milliseconds(expiration: &str) -> bool {
    expiration.bytes().all(|byte| byte.is_ascii_digit()) && expiration.parse::<u64>().is_ok()
}

impl Republish {
    /// Has the broker route the message to the queue `journal` as well, in the same step. The journal knows it by
    /// `mark`. Only for destinations that are queues.
    #[must_use]
    pub fn with_receipt(mut self, journal: &str, mark: &str) -> Self {
        let headers = &mut self.message.properties.headers;
        let journal = HeaderValue::List(vec![journal.into()]);
        headers.insert("BCC".to_owned(), journal);
        headers.insert(super::journal::MARK.to_owned(), mark.into());
        self
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tidegate::handler::Reason;
    use tidegate::internal::retry::{Target, Why, copy, receive};
    use ulid::Ulid;

    use super::super::letter::testing::{death, letter, sealed, sealed_again};
    use super::*;

    fn exchange(exchange: &str, routing_key: &str) -> Destination {
        Destination::Exchange {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
        }
    }

    #[test]
    fn the_worker_s_note_is_believed_before_the_broker_s_and_that_before_the_queue() {
        let deaths = HeaderValue::List(vec![death("orders", "rejected", "shop", "order.old")]);
        let noted = [
            (header::EXCHANGE, "shop".into()),
            (header::ROUTING_KEY, "order.new".into()),
            ("x-death", deaths.clone()),
        ];
        assert_eq!(sealed(&noted).origin(), exchange("shop", "order.new"));
        assert_eq!(letter(&noted).origin(), exchange("shop", "order.old"));
        assert_eq!(
            letter(&noted[..2]).origin(),
            Destination::Queue("orders".into()),
            "a note without a seal is none"
        );
        assert_eq!(
            letter(&[("x-death", deaths)]).origin(),
            exchange("shop", "order.old")
        );
        assert_eq!(letter(&[]).origin(), Destination::Queue("orders".into()));
    }

    #[test]
    fn the_default_exchange_means_a_queue() {
        let noted = [
            (header::EXCHANGE, "".into()),
            (header::ROUTING_KEY, "incoming".into()),
        ];
        assert_eq!(
            sealed(&noted).origin(),
            Destination::Queue("incoming".into())
        );
    }

    #[test]
    fn a_message_sent_again_is_as_it_was_before_it_died() {
        let mut letter = letter(&[
            ("tenant", "a".into()),
            ("CC", HeaderValue::List(vec!["x".into()])),
            (header::REASON, "handler".into()),
            (header::ATTEMPTS, HeaderValue::I64(5)),
            (header::EXPIRATION, "5000".into()),
            (header::CC, HeaderValue::List(vec!["x".into()])),
            (
                "x-death",
                HeaderValue::List(vec![death("orders", "rejected", "", "orders")]),
            ),
            ("x-first-death-queue", "orders".into()),
            ("x-delivery-count", HeaderValue::I64(1)),
        ]);
        letter.delivery.properties.user_id = Some("shop".into());
        letter.delivery.properties.priority = Some(3);
        let again = letter.again(Destination::Queue("orders".into()));
        let properties = &again.message.properties;
        assert_eq!(
            properties.headers.keys().collect::<Vec<_>>(),
            ["tenant"],
            "only its own headers are left"
        );
        assert_eq!(
            properties.expiration.as_deref(),
            Some("60000"),
            "the broker's word, not an inherited one"
        );
        assert_eq!((properties.priority, &properties.user_id), (Some(3), &None));
        assert_eq!(properties.message_id.as_deref(), Some("m-1"));
        assert_eq!(
            (&*again.message.exchange, &*again.message.routing_key),
            ("", "orders")
        );
        assert!(again.message.mandatory);
        assert_eq!(again.message.body, "body");
    }

    #[test]
    fn a_worker_s_dead_letter_is_sent_with_everything_that_its_copy_displaced() {
        let deaths = HeaderValue::List(vec![death("elsewhere", "rejected", "shop", "order.old")]);
        let mut sent = letter(&[("tenant", "a".into()), ("x-death", deaths)]).delivery;
        sent.queue = "orders".into();
        sent.routing_key = "orders".into();
        sent.properties.delivery_mode = Some(1);
        sent.properties.expiration = Some("5000".into());
        let received = receive(sent.clone().into(), false, Timestamp::UNIX_EPOCH);
        let target = Target::Dead {
            exchange: String::new(),
            routing_key: "orders.dead".into(),
        };
        let why = Why {
            reason: Reason::Handler,
            error: "no".into(),
            attempts: 1,
        };
        let id = Ulid::from_parts(1, 2);
        let copy = copy(
            &received,
            &target,
            &why,
            "web-1-01K",
            Timestamp::UNIX_EPOCH,
            id,
        );
        let mut dead = sent.clone();
        dead.queue = "orders.dead".into();
        dead.routing_key = "orders.dead".into();
        dead.properties = copy.properties;
        let letter = Letter::new("orders", dead);
        let again = letter.again(letter.origin());
        assert_eq!(again.destination, Destination::Queue("orders".into()));
        assert_eq!(again.message.properties, sent.properties);
    }

    #[test]
    fn an_expiration_that_the_broker_would_refuse_or_that_another_queue_noted_is_left_out() {
        let again = |letter: &Letter| letter.again(letter.origin()).message.properties;
        for text in ["abc", "", "-1", "1.5", "99999999999999999999"] {
            let mut changed = letter(&[]);
            changed.delivery.properties.expiration = Some(text.to_owned());
            assert_eq!(again(&changed).expiration, None, "{text:?}");
            let original = [("expiration".to_owned(), text.into())].into();
            let mut delivery = letter(&[]).delivery;
            let headers = &mut delivery.properties.headers;
            headers.insert(header::ORIGINAL.to_owned(), HeaderValue::Table(original));
            assert_eq!(again(&sealed_again(delivery)).expiration, None, "{text:?}");
        }
        let died_in = |queue| {
            let deaths = HeaderValue::List(vec![death(queue, "expired", "", queue)]);
            again(&letter(&[("x-death", deaths)])).expiration
        };
        assert_eq!(died_in("orders").as_deref(), Some("60000"));
        assert_eq!(died_in("elsewhere"), None);
    }

    #[test]
    fn a_receipt_is_routed_in_the_same_step() {
        let again = letter(&[]).again(Destination::Queue("orders".into()));
        let headers = again
            .with_receipt("orders.replay", "mark")
            .message
            .properties
            .headers;
        assert_eq!(headers["BCC"].to_text(), r#"["orders.replay"]"#);
        assert_eq!(headers[super::super::journal::MARK].to_text(), "mark");
    }
}

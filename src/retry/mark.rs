//! A mark on a new message, by which its queue's worker knows it again if it was published twice. Pure.

use ulid::Ulid;

use super::seal::{Purpose, seal};
use crate::delivery::{Message, header};

/// Marks a new message for `queue`. If its confirm is lost and it is published again with the same mark, a worker runs
/// one of the two and acknowledges the other.
///
/// The worker takes a marked message for the copy of a message that was never run: its first run is attempt 1. Handlers
/// do not see the mark.
pub fn mark(message: &mut Message, queue: &str, copy: Ulid) {
    let properties = &mut message.properties;
    let headers = &mut properties.headers;
    headers.insert(header::QUEUE.to_owned(), queue.into());
    headers.insert(header::COPY.to_owned(), copy.to_string().as_str().into());
    seal(Purpose::Retry, properties, &message.body);
}

#[cfg(test)]
mod tests {
    use super::super::receive;
    use super::super::testing::now;
    use super::*;
    use crate::delivery::{Delivery, Properties};

    fn arrived(queue: &str) -> Delivery {
        let mut message = Message {
            exchange: "shop".into(),
            routing_key: "order.new".into(),
            mandatory: true,
            properties: Properties {
                content_encoding: Some("utf-8".into()),
                delivery_mode: Some(2),
                ..Properties::default()
            },
            body: "body".into(),
        };
        mark(&mut message, queue, Ulid::from_parts(0, 7));
        Delivery {
            exchange: message.exchange,
            routing_key: message.routing_key,
            properties: message.properties,
            ..Delivery::new("orders", message.body)
        }
    }

    #[test]
    fn a_marked_message_is_a_copy_whose_first_run_is_the_first() {
        let received = receive(arrived("orders").into(), false, now());
        let copy = received.copy.expect("it is marked");
        assert_eq!(copy.id, Ulid::from_parts(0, 7).to_string());
        assert_eq!(copy.not_before, None);
        let delivery = &received.delivery;
        assert_eq!(delivery.attempt, 1);
        assert_eq!(
            (&*delivery.exchange, &*delivery.routing_key),
            ("shop", "order.new")
        );
        assert_eq!(delivery.properties.headers.len(), 0);
        assert_eq!(
            delivery.properties.content_encoding.as_deref(),
            Some("utf-8")
        );
        assert_eq!(delivery.properties.delivery_mode, Some(2));
    }

    #[test]
    fn the_mark_counts_in_its_queue_alone() {
        let received = receive(arrived("others").into(), false, now());
        assert_eq!(received.copy, None);
        assert_eq!(received.delivery.attempt, 1);
    }
}

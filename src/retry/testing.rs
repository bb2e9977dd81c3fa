//! Messages for tests of this module.

use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use super::{Received, Target, Why, copy};
use crate::delivery::{Delivery, HeaderValue, Properties};
use crate::handler::Reason;

pub(super) fn now() -> Timestamp {
    Timestamp::from_millisecond(1_795_428_000_000).expect("it is in range")
}

/// A message with everything that a copy has to displace.
pub(super) fn delivery() -> Delivery {
    let headers = [
        ("tenant", HeaderValue::from("a")),
        ("x-delivery-count", HeaderValue::I64(2)),
        ("CC", HeaderValue::List(vec!["elsewhere".into()])),
        ("x-death", "the sender's own".into()),
    ];
    Delivery {
        queue: "orders".into(),
        exchange: "shop".into(),
        routing_key: "order.new".into(),
        redelivered: true,
        attempt: 3,
        properties: Properties {
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
            message_id: Some("7".into()),
            expiration: Some("60000".into()),
            user_id: Some("shop".into()),
            delivery_mode: Some(1),
            priority: Some(4),
            cluster_id: Some("main".into()),
            ..Properties::default()
        },
        body: "body".into(),
    }
}

/// What arrives after `received` was run `runs` times and waited for a second.
pub(super) fn retried(received: &Received, runs: u32) -> Delivery {
    let target = Target::Delay {
        step: Duration::from_secs(1),
        not_before: None,
    };
    let why = Why {
        reason: Reason::Handler,
        error: "no".into(),
        attempts: runs,
    };
    let id = Ulid::from_parts(0, 7);
    let message = copy(received, &target, &why, "web-1-01K", now(), id);
    Delivery {
        queue: received.delivery.queue.clone(),
        exchange: String::new(),
        routing_key: "orders".into(),
        redelivered: false,
        attempt: 1,
        properties: message.properties,
        body: message.body,
    }
}

//! Identities for tests of this module.

use super::Identity;
use crate::delivery::{Delivery, Properties};
use crate::retry::Received;

/// The identity of a message without an id whose body is `body`.
pub(super) fn identity(body: &str) -> Identity {
    identity_of(body, None)
}

/// The identity of a message with body and id.
pub(super) fn identity_of(body: &str, id: Option<&str>) -> Identity {
    let delivery = Delivery {
        queue: "q".into(),
        exchange: String::new(),
        routing_key: "q".into(),
        redelivered: true,
        attempt: 1,
        properties: Properties {
            message_id: id.map(str::to_owned),
            ..Properties::default()
        },
        body: body.to_owned().into(),
    };
    let received = Received {
        delivery: delivery.into(),
        copy: None,
        expires_at: None,
    };
    Identity::of(&received, None)
}

//! A status message as AMQP carries it. Pure.

use std::time::Duration;

use serde::Serialize;

use super::wire::{APP_ID, Kind, millis};
use crate::delivery::Message;
use crate::delivery::Properties;

/// The message of `kind` about `worker` with `body`, for `exchange`: persistent, or transient where it expires.
pub fn envelope<T: Serialize>(
    exchange: &str,
    kind: Kind,
    worker: &str,
    body: &T,
    expires: Option<Duration>,
) -> Message {
    let body = serde_json::to_vec(body).expect("status messages are plain data");
    Message {
        exchange: exchange.to_owned(),
        routing_key: format!("{}.{worker}", kind.as_str()),
        mandatory: false,
        properties: Properties {
            content_type: Some("application/json".to_owned()),
            delivery_mode: Some(if expires.is_some() { 1 } else { 2 }),
            expiration: expires.map(|expires| millis(expires).to_string()),
            kind: Some(kind.message_type().to_owned()),
            app_id: Some(APP_ID.to_owned()),
            ..Properties::default()
        },
        body: body.into(),
    }
}

//! Messages of the model's queue.

use std::collections::BTreeMap;

use crate::delivery::{Delivery, Properties};
use crate::settlement::Call;

/// The node's queue.
pub(super) const QUEUE: &str = "q";

/// A message of the node's queue.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    /// Tells messages apart that are published once each: copies keep it if they are published again.
    pub id: String,
    pub delivery: Delivery,
}

/// Removes what `call` settles.
pub(super) fn take_settled(
    unsettled: &mut BTreeMap<u64, Stored>,
    call: Call,
) -> Vec<(u64, Stored)> {
    let (tag, multiple) = match call {
        Call::Ack { tag, multiple } | Call::HandBack { tag, multiple } => (tag, multiple),
        Call::Return { tag } => (tag, false),
    };
    let covered = |it: u64| it == tag || multiple && it < tag;
    let tags: Vec<_> = unsettled
        .keys()
        .copied()
        .filter(|it| covered(*it))
        .collect();
    let settled = tags.into_iter();
    settled
        .filter_map(|tag| Some((tag, unsettled.remove(&tag)?)))
        .collect()
}

/// The broker counts a failure.
pub(super) fn count_failure(delivery: &mut Delivery) {
    count(delivery, "x-delivery-count");
}

/// The queue counts that it had delivered the message before.
pub(super) fn count_delivery(delivery: &mut Delivery) {
    count(delivery, "x-acquired-count");
}

fn count(delivery: &mut Delivery, name: &str) {
    let headers = &mut delivery.properties.headers;
    let before = headers.get(name).and_then(crate::HeaderValue::as_i64);
    let count = crate::HeaderValue::I64(before.unwrap_or_default() + 1);
    headers.insert(name.to_owned(), count);
}

/// A message as the broker delivers it.
pub(super) fn delivery(properties: Properties, body: bytes::Bytes) -> Delivery {
    Delivery {
        queue: QUEUE.into(),
        exchange: String::new(),
        routing_key: QUEUE.to_owned(),
        redelivered: false,
        attempt: 1,
        properties,
        body,
    }
}

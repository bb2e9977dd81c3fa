//! A message that arrives is new, or a copy that a worker made for another run. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::seal::{Purpose, is_sealed};
use crate::delivery::{Delivery, HeaderValue, Properties, header};

/// Prefixes of the broker's dead-lettering headers.
pub(super) const DEATHS: [&str; 3] = ["x-death", "x-first-death-", "x-last-death-"];

/// A message that arrived, as its publisher sent it.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// The message. If it is a copy, everything that the copy displaced is back in its place.
    pub delivery: Arc<Delivery>,
    /// Present if the message is a copy.
    pub copy: Option<CopyMark>,
    /// When its time to live ends, in milliseconds since the Unix epoch.
    pub expires_at: Option<i64>,
}

impl Received {
    /// Whether its time to live is over at `at`.
    pub(crate) fn is_expired(&self, at: Timestamp) -> bool {
        self.expires_at
            .is_some_and(|end| end <= at.as_millisecond())
    }
}

/// A copy's marks about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyMark {
    /// Its id, the same for copies that were published twice.
    pub id: String,
    /// Milliseconds since the Unix epoch before which it is not to be run.
    pub not_before: Option<i64>,
}

/// Finds out what `delivery` is, and which run of the message comes next. `counted_by_broker`: the queue counts what is
/// rejected (`x-delayed-retry-type` is `failed`), so that its count is part of the attempt.
///
/// A message whose `x-tidegate-*` headers do not belong to it is new: its first run is attempt 1, and its handler sees
/// those headers as they are. The time to live of a new message counts from `now`, because nothing tells how long it has
/// waited before.
pub fn receive(mut arrived: Arc<Delivery>, counted_by_broker: bool, now: Timestamp) -> Received {
    // Nobody else has it yet, so that nothing is cloned.
    let delivery = Arc::make_mut(&mut arrived);
    // Publishers can set the header too. A broker that counted a return also marks the message as redelivered.
    let returned = if counted_by_broker && delivery.redelivered {
        count(&delivery.properties.headers, header::DELIVERY_COUNT)
    } else {
        0
    };
    if !is_retry(delivery) {
        delivery.attempt = returned.saturating_add(1);
        let expires_at = expires_at(&delivery.properties, now);
        return Received {
            delivery: arrived,
            copy: None,
            expires_at,
        };
    }
    let headers = &delivery.properties.headers;
    let text = |name: &str| headers.get(name).and_then(HeaderValue::as_str);
    let number = |name: &str| headers.get(name).and_then(HeaderValue::as_i64);
    let copy = CopyMark {
        id: text(header::COPY).unwrap_or_default().to_owned(),
        not_before: number(header::NOT_BEFORE),
    };
    let expires_at = number(header::EXPIRES_AT);
    let runs = count(headers, header::ATTEMPTS);
    delivery.attempt = runs.saturating_add(returned).saturating_add(1);
    if let (Some(exchange), Some(routing_key)) = (text(header::EXCHANGE), text(header::ROUTING_KEY))
    {
        let (exchange, routing_key) = (exchange.to_owned(), routing_key.to_owned());
        delivery.exchange = exchange;
        delivery.routing_key = routing_key;
    }
    restore(&mut delivery.properties, true);
    Received {
        delivery: arrived,
        copy: Some(copy),
        expires_at,
    }
}

fn is_retry(delivery: &Delivery) -> bool {
    let headers = &delivery.properties.headers;
    let from = headers.get(header::QUEUE).and_then(HeaderValue::as_str);
    from == Some(&*delivery.queue)
        && is_sealed(Purpose::Retry, &delivery.properties, &delivery.body)
}

/// Makes the properties of a copy those of its message again. `waited`: the copy has been through a delay queue, so that
/// the broker's account of its deaths is not the message's.
pub fn restore(properties: &mut Properties, waited: bool) {
    let headers = &mut properties.headers;
    let original = match headers.remove(header::ORIGINAL) {
        Some(HeaderValue::Table(original)) => original,
        _ => BTreeMap::new(),
    };
    headers.retain(|name, _| {
        !(name.starts_with(header::PREFIX) || is_counter(name) || waited && is_death(name))
    });
    let text = |name: &str| {
        let value = original.get(name).and_then(HeaderValue::as_str);
        value.map(str::to_owned)
    };
    properties.expiration = text("expiration");
    properties.user_id = text("user_id");
    if let Some(mode) = original.get("delivery_mode") {
        let mode = mode.as_i64().and_then(|mode| u8::try_from(mode).ok());
        properties.delivery_mode = mode.filter(|mode| *mode != 0);
    }
    if let Some(HeaderValue::Table(displaced)) = original.get("headers") {
        properties.headers.extend(displaced.clone());
        properties.empty_headers = properties.headers.is_empty();
    }
}

/// Whether the broker tells in this header how a message was dead-lettered.
pub(super) fn is_death(header: &str) -> bool {
    DEATHS.iter().any(|prefix| header.starts_with(prefix))
}

/// Whether the broker counts deliveries in this header.
pub(super) fn is_counter(header: &str) -> bool {
    header == header::DELIVERY_COUNT || header == header::ACQUIRED_COUNT
}

fn count(headers: &BTreeMap<String, HeaderValue>, name: &str) -> u32 {
    let number = headers.get(name).and_then(HeaderValue::as_i64);
    number.map_or(0, |number| u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}

fn expires_at(properties: &Properties, now: Timestamp) -> Option<i64> {
    let ttl = properties.expiration.as_ref()?.parse().ok()?;
    now.as_millisecond().checked_add(ttl)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{delivery, now, retried};
    use super::*;

    fn received(delivery: Delivery) -> Received {
        receive(delivery.into(), false, now())
    }

    #[test]
    fn the_first_run_is_attempt_one_and_the_time_to_live_counts_from_it() {
        let mut first = delivery();
        first.attempt = 9;
        let received = received(first);
        assert_eq!((received.delivery.attempt, received.copy), (1, None));
        let expected = now().as_millisecond() + 60_000;
        assert_eq!(received.expires_at, Some(expected));
    }

    #[test]
    fn a_copy_is_the_message_again_and_says_which_run_it_is() {
        let first = received(delivery());
        let mut copy = retried(&first, 2);
        // What the broker does on the way through the delay queue.
        let headers = &mut copy.properties.headers;
        headers.insert("x-death".into(), HeaderValue::List(Vec::new()));
        headers.insert("x-first-death-queue".into(), "orders.retry.1000".into());
        let again = received(copy);
        assert_eq!(again.delivery.attempt, 3);
        assert_eq!(again.expires_at, first.expires_at);
        let mark = again.copy.expect("it is a copy");
        assert_eq!(mark.id, "00000000000000000000000007");
        let as_first = Delivery {
            attempt: first.delivery.attempt,
            redelivered: first.delivery.redelivered,
            ..(*again.delivery).clone()
        };
        let mut sent = (*first.delivery).clone();
        sent.properties.headers.remove("x-delivery-count");
        assert_eq!(as_first, sent);
    }

    #[test]
    fn whatever_a_stranger_sets_is_no_copy_and_is_left_as_it_is() {
        let copy = retried(&received(delivery()), 2);
        let changes: [fn(&mut Delivery); 5] = [
            |it| it.body = "another".into(),
            |it| it.properties.message_id = Some("8".into()),
            |it| it.queue = "other".into(),
            |it| {
                let headers = &mut it.properties.headers;
                headers.insert("tenant".into(), "b".into());
            },
            |it| {
                let headers = &mut it.properties.headers;
                headers.insert(header::ATTEMPTS.into(), HeaderValue::I64(99));
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut other = copy.clone();
            change(&mut other);
            let expected = other.properties.clone();
            let received = received(other);
            assert_eq!(received.copy, None, "change {number}");
            assert_eq!(received.delivery.attempt, 1, "change {number}");
            assert_eq!(received.delivery.properties, expected, "change {number}");
        }
    }

    #[test]
    fn only_a_broker_that_delivers_again_is_believed_to_count() {
        let counted = |redelivered, by_broker| {
            let mut counted = delivery();
            counted.redelivered = redelivered;
            let count = HeaderValue::I64(7);
            let headers = &mut counted.properties.headers;
            headers.insert(header::DELIVERY_COUNT.into(), count);
            receive(counted.into(), by_broker, now()).delivery.attempt
        };
        assert_eq!(counted(true, true), 8);
        assert_eq!(counted(false, true), 1, "its publisher set the header");
        assert_eq!(counted(true, false), 1, "it counts no runs");
    }
}

//! The message that a retry or a dead letter becomes: the same, with headers that say why. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use super::Received;
use super::receive::{is_counter, is_death};
use super::seal::{Purpose, seal};
use crate::delivery::{HeaderValue, Message, Properties, header};
use crate::handler::Reason;
use crate::time::rfc3339;

/// The destination of a copy, and the time when it may come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Back to its queue, after a time in the delay queue of that step.
    Delay {
        /// The delay queue's time to live.
        step: Duration,
        /// When to run it, if that is later than the end of the step.
        not_before: Option<Timestamp>,
    },
    /// To the dead letters.
    Dead {
        /// Exchange; empty for the default exchange.
        exchange: String,
        /// Routing key.
        routing_key: String,
    },
}

impl Target {
    pub(crate) const fn purpose(&self) -> Purpose {
        match self {
            Self::Delay { .. } => Purpose::Retry,
            Self::Dead { .. } => Purpose::Dead,
        }
    }

    /// How long the message waits for its next run from `now` on; `None` if there is none.
    pub(crate) fn wait(&self, now: Timestamp) -> Option<Duration> {
        let Self::Delay { step, not_before } = self else {
            return None;
        };
        let later = not_before.and_then(|at| Duration::try_from(now.duration_until(at)).ok());
        Some(later.unwrap_or(*step))
    }
}

/// A copy that the broker has not confirmed yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pending {
    /// Its destination.
    pub target: Target,
    /// The message; the same in every try.
    pub message: Message,
}

/// Why a copy is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The class of what went wrong.
    pub reason: Reason,
    /// The fault.
    pub error: String,
    /// The number of runs of the message.
    pub attempts: u32,
}

/// The name of the queue in which messages of `queue` wait for `step`.
pub fn delay_queue(queue: &str, step: Duration) -> String {
    format!("{queue}.retry.{}", step.as_millis())
}

/// The copy of `received` that goes to `target`, made by `worker` at `at` under the id `copy`.
///
/// The copy keeps properties and headers, except those that the broker would act on, and those that it will overwrite. It
/// carries these in a header of their own, and [`receive`](super::receive()) puts them back.
pub fn copy(
    received: &Received,
    target: &Target,
    why: &Why,
    worker: &str,
    at: Timestamp,
    copy: Ulid,
) -> Message {
    let delivery = &received.delivery;
    let purpose = target.purpose();
    let mut properties = delivery.properties.clone();
    properties.headers.retain(|name, _| !is_counter(name));
    let dead = purpose == Purpose::Dead;
    // What could not be decoded is for the reader of the dead letter.
    let undecoded = if dead {
        properties.headers.remove(header::PROPERTIES)
    } else {
        None
    };
    let original = displace(&mut properties, purpose);
    let headers = &mut properties.headers;
    let mut set = |name: &str, value: HeaderValue| headers.insert(name.to_owned(), value);
    if dead {
        note_displaced(&original, &mut set);
    }
    if !original.is_empty() {
        set(header::ORIGINAL, HeaderValue::Table(original));
    }
    if let Some(undecoded) = undecoded {
        set(header::PROPERTIES, undecoded);
    }
    set(header::REASON, why.reason.as_str().into());
    set(header::ERROR, why.error.as_str().into());
    set(header::ATTEMPTS, HeaderValue::I64(why.attempts.into()));
    set(header::WORKER, worker.into());
    set(header::QUEUE, (&*delivery.queue).into());
    set(header::EXCHANGE, delivery.exchange.as_str().into());
    set(header::ROUTING_KEY, delivery.routing_key.as_str().into());
    set(header::AT, rfc3339(at).as_str().into());
    set(header::COPY, copy.to_string().as_str().into());
    if let Some(at) = received.expires_at.filter(|_| !dead) {
        set(header::EXPIRES_AT, HeaderValue::I64(at));
    }
    let (exchange, routing_key) = match target {
        Target::Delay { step, not_before } => {
            if let Some(at) = not_before {
                set(header::NOT_BEFORE, HeaderValue::I64(at.as_millisecond()));
            }
            (String::new(), delay_queue(&delivery.queue, *step))
        }
        Target::Dead {
            exchange,
            routing_key,
        } => (exchange.clone(), routing_key.clone()),
    };
    properties.delivery_mode = Some(2);
    seal(purpose, &mut properties, &delivery.body);
    Message {
        exchange,
        routing_key,
        mandatory: true,
        properties,
        body: delivery.body.clone(),
    }
}

/// Takes out what cannot stay in its place: what would make the broker expire the copy (`expiration`), refuse it
/// (`user_id`) or route it elsewhere (`CC`); that it is not persistent; headers that this copy or its way through a delay
/// queue overwrites.
fn displace(properties: &mut Properties, purpose: Purpose) -> BTreeMap<String, HeaderValue> {
    let mut original = BTreeMap::new();
    let mut note = |name: &str, value| original.insert(name.to_owned(), value);
    if let Some(expiration) = properties.expiration.take() {
        note("expiration", HeaderValue::Text(expiration));
    }
    if let Some(user_id) = properties.user_id.take() {
        note("user_id", HeaderValue::Text(user_id));
    }
    if properties.delivery_mode != Some(2) {
        let mode = properties.delivery_mode.unwrap_or(0);
        note("delivery_mode", HeaderValue::I64(mode.into()));
    }
    if std::mem::take(&mut properties.empty_headers) {
        note("headers", HeaderValue::Table(BTreeMap::new()));
    }
    let (displaced, kept) = std::mem::take(&mut properties.headers)
        .into_iter()
        .partition::<BTreeMap<_, _>, _>(|(name, _)| {
            let overwritten = purpose == Purpose::Retry && is_death(name);
            matches!(name.as_str(), "CC" | "BCC") || name.starts_with(header::PREFIX) || overwritten
        });
    properties.headers = kept;
    if !displaced.is_empty() {
        note("headers", HeaderValue::Table(displaced));
    }
    original
}

/// Shows in a dead letter, each under a name of its own, what people look for.
fn note_displaced(
    original: &BTreeMap<String, HeaderValue>,
    set: &mut impl FnMut(&str, HeaderValue) -> Option<HeaderValue>,
) {
    let cc = match original.get("headers") {
        Some(HeaderValue::Table(headers)) => headers.get("CC"),
        _ => None,
    };
    for (name, value) in [
        (header::EXPIRATION, original.get("expiration")),
        (header::USER_ID, original.get("user_id")),
        (header::CC, cc),
    ] {
        if let Some(value) = value {
            set(name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::is_sealed;
    use super::super::testing::{delivery, now};
    use super::super::{receive, restore};
    use super::*;
    use crate::delivery::Delivery;

    fn made(delivery: &Delivery, target: &Target) -> Message {
        let why = Why {
            reason: Reason::Timeout,
            error: "too slow".into(),
            attempts: 3,
        };
        let received = receive(delivery.clone().into(), false, now());
        let id = Ulid::from_parts(0, 7);
        copy(&received, target, &why, "web-1-01K", now(), id)
    }

    fn dead() -> Target {
        Target::Dead {
            exchange: String::new(),
            routing_key: "orders.dead".into(),
        }
    }

    #[test]
    fn a_copy_is_the_message_and_says_why() {
        let message = made(&delivery(), &dead());
        assert_eq!(message.routing_key, "orders.dead");
        assert!(message.mandatory);
        assert_eq!(message.body, "body");
        let properties = &message.properties;
        assert_eq!(properties.message_id.as_deref(), Some("7"));
        assert_eq!(
            (properties.priority, properties.delivery_mode),
            (Some(4), Some(2))
        );
        let expected = [
            ("tenant", "a"),
            (header::REASON, "timeout"),
            (header::ERROR, "too slow"),
            (header::ATTEMPTS, "3"),
            (header::WORKER, "web-1-01K"),
            (header::QUEUE, "orders"),
            (header::EXCHANGE, "shop"),
            (header::ROUTING_KEY, "order.new"),
            (header::AT, "2026-11-23T10:00:00.000Z"),
            (header::COPY, "00000000000000000000000007"),
        ];
        for (name, value) in expected {
            assert_eq!(properties.headers[name].to_text(), value, "{name}");
        }
        assert!(is_sealed(Purpose::Dead, properties, &message.body));
    }

    #[test]
    fn what_the_broker_would_act_on_becomes_headers() {
        let message = made(&delivery(), &dead());
        let properties = &message.properties;
        assert_eq!(
            (&properties.expiration, &properties.user_id),
            (&None, &None)
        );
        let headers = &properties.headers;
        assert_eq!(headers[header::EXPIRATION].to_text(), "60000");
        assert_eq!(headers[header::USER_ID].to_text(), "shop");
        assert_eq!(headers[header::CC].to_text(), r#"["elsewhere"]"#);
        for gone in ["CC", "x-delivery-count"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
    }

    #[test]
    fn a_retry_waits_for_its_step_or_until_it_may_run() {
        let now = Timestamp::UNIX_EPOCH;
        let step = Duration::from_secs(60);
        let retry = |not_before| Target::Delay { step, not_before };
        assert_eq!(retry(None).wait(now), Some(step));
        let later = now + Duration::from_secs(90);
        let expected = Some(Duration::from_secs(90));
        assert_eq!(retry(Some(later)).wait(now), expected);
        let dead = Target::Dead {
            exchange: String::new(),
            routing_key: "q.dead".to_owned(),
        };
        assert_eq!(dead.wait(now), None);
    }

    #[test]
    fn a_copy_that_waits_in_steps_says_until_when() {
        let at = Timestamp::from_millisecond(1_795_428_060_000).unwrap();
        let step = Duration::from_secs(5);
        let target = |not_before| Target::Delay { step, not_before };
        let message = made(&delivery(), &target(Some(at)));
        assert_eq!(message.routing_key, "orders.retry.5000");
        let not_before = &message.properties.headers[header::NOT_BEFORE];
        assert_eq!(not_before.as_i64(), Some(1_795_428_060_000));
        // A copy of the copy has its own time, or none.
        let mut again = delivery();
        again.properties = message.properties;
        let message = made(&again, &target(None));
        assert!(!message.properties.headers.contains_key(header::NOT_BEFORE));
    }

    #[test]
    fn a_dead_letter_can_be_made_the_message_again() {
        let mut sent = delivery();
        sent.properties.delivery_mode = None;
        let headers = &mut sent.properties.headers;
        headers.remove("x-delivery-count");
        headers.insert("x-death".into(), "the sender's own".into());
        headers.insert(header::REASON.into(), "inherited".into());
        let mut restored = made(&sent, &dead()).properties;
        restore(&mut restored, false);
        assert_eq!(restored, sent.properties);
    }

    #[test]
    fn a_table_of_headers_that_is_empty_stays_one_and_none_stays_none() {
        for empty_headers in [true, false] {
            let mut sent = delivery();
            sent.properties.headers.clear();
            sent.properties.empty_headers = empty_headers;
            for (target, waited) in [
                (dead(), false),
                (
                    Target::Delay {
                        step: Duration::from_secs(1),
                        not_before: None,
                    },
                    true,
                ),
            ] {
                let mut copied = made(&sent, &target).properties;
                assert!(!copied.empty_headers, "it has headers of its own");
                restore(&mut copied, waited);
                assert_eq!(copied, sent.properties);
            }
        }
    }
}

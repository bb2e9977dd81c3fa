//! The message that a retry or a dead letter becomes: the same, with headers that say why. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use ulid::Ulid;

use crate::broker::Message;
use crate::delivery::{Delivery, HeaderValue, Properties, header};
use crate::handler::Reason;
use crate::status::wire::rfc3339;

/// Headers that the broker sets by itself on each delivery; a copy begins anew.
const SET_BY_BROKER: [&str; 2] = ["x-delivery-count", "x-acquired-count"];
/// What begins the headers in which the broker tells where a message died.
const DEATHS: [&str; 3] = ["x-death", "x-first-death-", "x-last-death-"];

/// Where a copy goes, and when it may come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Back to its queue, after a time in the delay queue of that step.
    Delay {
        /// The delay queue's time to live.
        step: Duration,
        /// Where the step ends before the wanted delay does: when to run it.
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

/// A copy that the broker has not confirmed yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pending {
    /// Where it goes.
    pub target: Target,
    /// The message; the same in every try.
    pub message: Message,
}

/// Why a copy is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// The class of what went wrong.
    pub reason: Reason,
    /// What went wrong.
    pub error: String,
    /// How many times the message has been run.
    pub attempts: u32,
}

/// The name of the queue in which messages of `queue` wait for `step`.
pub fn delay_queue(queue: &str, step: Duration) -> String {
    format!("{queue}.retry.{}", step.as_millis())
}

/// The copy of `delivery` that goes to `target`, made by `worker` at `at` under the id `copy`.
///
/// Properties and headers are kept, but for what would make the broker expire the copy (`expiration`), refuse
/// it (`user_id`) or route it elsewhere (header `CC`): those become headers of their own.
pub fn copy(
    delivery: &Delivery,
    target: &Target,
    why: &Why,
    worker: &str,
    at: Timestamp,
    copy: Ulid,
) -> Message {
    let mut properties = delivery.properties.clone();
    let headers = &mut properties.headers;
    headers.retain(|name, _| !SET_BY_BROKER.contains(&name.as_str()));
    if died_only_in_delay_queues(headers, &delivery.queue) {
        headers.retain(|name, _| !DEATHS.iter().any(|death| name.starts_with(death)));
    }
    headers.remove(header::NOT_BEFORE);
    set_aside(&mut properties);
    let headers = &mut properties.headers;
    let mut set = |name: &str, value: HeaderValue| headers.insert(name.to_owned(), value);
    set(header::REASON, why.reason.as_str().into());
    set(header::ERROR, why.error.as_str().into());
    set(header::ATTEMPTS, HeaderValue::I64(why.attempts.into()));
    set(header::WORKER, worker.into());
    set(header::QUEUE, (&*delivery.queue).into());
    set(header::EXCHANGE, delivery.exchange.as_str().into());
    set(header::ROUTING_KEY, delivery.routing_key.as_str().into());
    set(header::AT, rfc3339(at).as_str().into());
    set(header::COPY, copy.to_string().as_str().into());
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
    Message {
        exchange,
        routing_key,
        mandatory: true,
        properties,
        body: delivery.body.clone(),
    }
}

/// Moves to headers what the broker would act on.
fn set_aside(properties: &mut Properties) {
    let expiration = properties.expiration.take().map(HeaderValue::Text);
    let user_id = properties.user_id.take().map(HeaderValue::Text);
    let headers = &mut properties.headers;
    let cc = headers.remove("CC");
    headers.remove("BCC");
    for (name, value) in [
        (header::EXPIRATION, expiration),
        (header::USER_ID, user_id),
        (header::CC, cc),
    ] {
        if let Some(value) = value {
            headers.insert(name.to_owned(), value);
        }
    }
}

/// Whether all that the headers tell of deaths is that the message waited for its retries.
fn died_only_in_delay_queues(headers: &BTreeMap<String, HeaderValue>, queue: &str) -> bool {
    let Some(HeaderValue::List(deaths)) = headers.get("x-death") else {
        return false;
    };
    let prefix = format!("{queue}.retry.");
    deaths.iter().all(|death| match death {
        HeaderValue::Table(death) => death
            .get("queue")
            .and_then(HeaderValue::as_str)
            .is_some_and(|queue| queue.starts_with(&prefix)),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery() -> Delivery {
        let headers = [
            ("tenant", HeaderValue::from("a")),
            ("x-delivery-count", HeaderValue::I64(2)),
            ("CC", HeaderValue::List(vec!["elsewhere".into()])),
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
                ..Properties::default()
            },
            body: "body".into(),
        }
    }

    fn made(delivery: &Delivery, target: &Target) -> Message {
        let why = Why {
            reason: Reason::Timeout,
            error: "too slow".into(),
            attempts: 3,
        };
        let at = Timestamp::from_millisecond(1_795_428_000_000).unwrap();
        copy(
            delivery,
            target,
            &why,
            "web-1-01K",
            at,
            Ulid::from_parts(0, 7),
        )
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
    fn deaths_in_delay_queues_are_forgotten_and_others_kept() {
        let death = |queue: &str| {
            let fields = BTreeMap::from([("queue".to_owned(), HeaderValue::from(queue))]);
            HeaderValue::Table(fields)
        };
        let with = |deaths| {
            let mut delivery = delivery();
            let headers = &mut delivery.properties.headers;
            headers.insert("x-death".into(), HeaderValue::List(deaths));
            headers.insert("x-first-death-queue".into(), "orders.retry.1000".into());
            made(&delivery, &dead()).properties.headers
        };
        let own = with(vec![death("orders.retry.1000"), death("orders.retry.2000")]);
        assert!(!own.contains_key("x-death") && !own.contains_key("x-first-death-queue"));
        let others = with(vec![death("orders.retry.1000"), death("incoming")]);
        assert!(others.contains_key("x-death") && others.contains_key("x-first-death-queue"));
    }
}

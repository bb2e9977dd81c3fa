//! The lines of the `pool` handler: what a child is told of a delivery, and what it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::delivery::Delivery;
use crate::handler::Outcome;

/// The longest delay that a child can ask for.
const DELAY_LIMIT: Duration = Duration::from_hours(24);

/// The hold of a delivery if the child names none.
const DEFAULT_HOLD: Duration = Duration::from_secs(1);

/// Whether a child's `hello` asks for bodies as text: `{"hello": {"body": "text"}}`.
pub(super) fn wants_text(hello: Option<&Value>) -> bool {
    hello.is_some_and(|hello| hello["body"] == "text")
}

/// A delivery as a child sees it, beside the `id` of the exchange.
#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    queue: &'a str,
    exchange: &'a str,
    routing_key: &'a str,
    attempt: u32,
    redelivered: bool,
    properties: Properties<'a>,
    headers: BTreeMap<&'a str, Value>,
    #[serde(flatten)]
    body: Body<'a>,
}

#[derive(Debug, Serialize)]
enum Body<'a> {
    /// A body that is UTF-8, for a child that asked for text.
    #[serde(rename = "body")]
    Text(&'a str),
    #[serde(rename = "body_base64")]
    Base64(String),
}

/// The properties that the message has, under their names in AMQP.
#[derive(Debug, Serialize)]
struct Properties<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_encoding: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivery_mode: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<&'a str>,
}

impl<'a> Request<'a> {
    pub(super) fn new(delivery: &'a Delivery, wants_text: bool) -> Self {
        let properties = &delivery.properties;
        let text = wants_text.then(|| std::str::from_utf8(&delivery.body));
        Self {
            queue: &delivery.queue,
            exchange: &delivery.exchange,
            routing_key: &delivery.routing_key,
            attempt: delivery.attempt,
            redelivered: delivery.redelivered,
            properties: Properties {
                content_type: properties.content_type.as_deref(),
                content_encoding: properties.content_encoding.as_deref(),
                delivery_mode: properties.delivery_mode,
                priority: properties.priority,
                correlation_id: properties.correlation_id.as_deref(),
                reply_to: properties.reply_to.as_deref(),
                expiration: properties.expiration.as_deref(),
                message_id: properties.message_id.as_deref(),
                timestamp: properties.timestamp,
                kind: properties.kind.as_deref(),
                user_id: properties.user_id.as_deref(),
                app_id: properties.app_id.as_deref(),
            },
            headers: properties
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.to_json()))
                .collect(),
            body: match text {
                Some(Ok(text)) => Body::Text(text),
                _ => Body::Base64(STANDARD.encode(&delivery.body)),
            },
        }
    }
}

/// A child's answer, beside the `id`.
#[derive(Debug, Deserialize)]
pub(super) struct Reply {
    outcome: Word,
    #[serde(default)]
    delay_ms: Option<u64>,
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Done,
    Retry,
    Dead,
    Hold,
    HandBack,
}

impl Reply {
    /// How long the delivery is to wait in its place before it is given to a child again; `None` unless the
    /// answer is `hold`.
    pub(super) fn hold(&self) -> Option<Duration> {
        (self.outcome == Word::Hold).then(|| self.delay().unwrap_or(DEFAULT_HOLD))
    }

    /// The outcome of any other answer.
    pub(super) fn outcome(self) -> Outcome {
        let delay = self.delay();
        let reason = self
            .reason
            .unwrap_or_else(|| "the child gave no reason".to_owned());
        match (self.outcome, delay) {
            (Word::Done, _) => Outcome::Done,
            (Word::Retry, None) => Outcome::retry(reason),
            (Word::Retry, Some(delay)) => Outcome::retry_after(delay, reason),
            (Word::Dead, _) => Outcome::dead(reason),
            (Word::Hold | Word::HandBack, _) => Outcome::HandBack,
        }
    }

    fn delay(&self) -> Option<Duration> {
        let delay = Duration::from_millis(self.delay_ms?);
        Some(delay.min(DELAY_LIMIT))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::delivery::HeaderValue;
    use crate::handler::testing;

    #[test]
    fn a_delivery_is_told_with_what_it_has() {
        let sent = testing::delivery("{\"n\":1}")
            .header("tenant", "acme")
            .header("tries", HeaderValue::I64(3))
            .with(|delivery| {
                delivery.attempt = 2;
                delivery.properties.kind = Some("order.v1".into());
            });
        let expected = |body: Value| {
            let mut expected = json!({
                "queue": "orders", "exchange": "shop", "routing_key": "order.new",
                "attempt": 2, "redelivered": false,
                "properties": {"message_id": "m-1", "type": "order.v1"},
                "headers": {"tenant": "acme", "tries": 3},
            });
            let more = body.as_object().unwrap().clone();
            expected.as_object_mut().unwrap().extend(more);
            expected
        };
        assert_eq!(
            serde_json::to_value(Request::new(&sent.0, false)).unwrap(),
            expected(json!({"body_base64": "eyJuIjoxfQ=="}))
        );
        assert_eq!(
            serde_json::to_value(Request::new(&sent.0, true)).unwrap(),
            expected(json!({"body": "{\"n\":1}"}))
        );
    }

    #[test]
    fn a_body_that_is_not_text_is_base64_for_everybody() {
        let sent = testing::delivery(vec![0xff, 0x00]);
        let told = serde_json::to_value(Request::new(&sent.0, true)).unwrap();
        assert_eq!(told["body_base64"], "/wA=");
        assert_eq!(told.get("body"), None);
    }

    #[test]
    fn each_answer_has_its_outcome() {
        let reply = |text: &str| serde_json::from_str::<Reply>(text).unwrap();
        let outcome = |text: &str| reply(text).outcome();
        assert_eq!(outcome(r#"{"outcome":"done"}"#), Outcome::Done);
        assert_eq!(
            outcome(r#"{"outcome":"retry","reason":"busy"}"#),
            Outcome::retry("busy")
        );
        assert_eq!(
            outcome(r#"{"outcome":"retry","delay_ms":1500}"#),
            Outcome::retry_after(Duration::from_millis(1500), "the child gave no reason")
        );
        assert_eq!(
            outcome(r#"{"outcome":"dead","reason":"no","more":1}"#),
            Outcome::dead("no")
        );
        assert_eq!(outcome(r#"{"outcome":"hand_back"}"#), Outcome::HandBack);
        assert_eq!(reply(r#"{"outcome":"hand_back"}"#).hold(), None);
        assert_eq!(reply(r#"{"outcome":"hold"}"#).hold(), Some(DEFAULT_HOLD));
        assert_eq!(
            reply(r#"{"outcome":"hold","delay_ms":99999999999}"#).hold(),
            Some(DELAY_LIMIT)
        );
        for rubbish in [
            r#"{"outcome":"Done"}"#,
            r#"{"outcome":"done","delay_ms":-1}"#,
            "{}",
            "[]",
        ] {
            assert!(serde_json::from_str::<Reply>(rubbish).is_err(), "{rubbish}");
        }
    }

    #[test]
    fn text_is_for_those_who_ask_for_it() {
        assert!(wants_text(Some(&json!({"body": "text"}))));
        assert!(!wants_text(Some(&json!({"body": "base64"}))));
        assert!(!wants_text(Some(&json!("text"))));
        assert!(!wants_text(None));
    }

    #[test]
    fn whatever_a_message_has_is_told_in_one_line() {
        tidegate_fuzzing::run("headers", &[], |payload| {
            let Some(delivery) = crate::broker::delivery_of(payload) else {
                return;
            };
            for wants_text in [false, true] {
                let request = Request::new(&delivery, wants_text);
                let line = serde_json::to_string(&request).expect("it is plain data");
                assert!(!line.contains('\n'));
                serde_json::from_str::<Value>(&line).expect("the child can read it");
            }
        });
    }
}

//! A dead letter as JSON, for scripts and files.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Destination, Letter};
use tidegate::internal::status::wire::rfc3339;

/// How many bytes of a body are shown.
pub const BODY_SHOWN: usize = 64 << 10;

/// A dead letter, and where a replay sends it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// The work queue.
    pub queue: String,
    /// The message's identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Why the message is dead, such as `handler`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The error that the last run ended with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How many times the message was run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u64>,
    /// The worker that gave the message up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The id of the OpenCTI connector that sent the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector: Option<String>,
    /// That connector's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connector_name: Option<String>,
    /// When the message died, in RFC 3339 and UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The exchange that a replay publishes to. Empty for the default exchange.
    pub exchange: String,
    /// The routing key that a replay publishes with.
    pub routing_key: String,
    /// The size of the body in bytes.
    pub body_bytes: usize,
    /// Properties, headers and body, if requested.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub contents: Option<Contents>,
}

/// Properties, headers and body.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contents {
    /// The AMQP properties that are set.
    pub properties: Map<String, Value>,
    /// The headers. Byte values are in base64.
    pub headers: Map<String, Value>,
    /// The body, if it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// The body in base64, if it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
    /// Whether the body was cut to its first 64 KiB.
    pub truncated: bool,
}

impl Record {
    /// What `letter` says of itself.
    pub fn summary(letter: &Letter) -> Self {
        let (exchange, routing_key) = match letter.origin() {
            Destination::Queue(queue) => (String::new(), queue),
            Destination::Exchange {
                exchange,
                routing_key,
            } => (exchange, routing_key),
        };
        let text = |text: Option<&str>| text.map(str::to_owned);
        Self {
            queue: letter.queue.clone(),
            id: text(letter.id()),
            reason: text(letter.reason()),
            error: text(letter.error()),
            attempts: letter.attempts(),
            worker: text(letter.worker()),
            connector: text(letter.connector().0),
            connector_name: text(letter.connector().1),
            at: letter.at().map(rfc3339),
            exchange,
            routing_key,
            body_bytes: letter.delivery.body.len(),
            contents: None,
        }
    }

    /// Everything about `letter`, with at most `limit` bytes of its body.
    pub fn full(letter: &Letter, limit: usize) -> Self {
        Self {
            contents: Some(Contents::of(letter, limit)),
            ..Self::summary(letter)
        }
    }
}

impl Contents {
    fn of(letter: &Letter, limit: usize) -> Self {
        let properties = &letter.delivery.properties;
        let optional = [
            ("content_type", properties.content_type.as_deref()),
            ("content_encoding", properties.content_encoding.as_deref()),
            ("correlation_id", properties.correlation_id.as_deref()),
            ("reply_to", properties.reply_to.as_deref()),
            ("expiration", properties.expiration.as_deref()),
            ("message_id", properties.message_id.as_deref()),
            ("type", properties.kind.as_deref()),
            ("user_id", properties.user_id.as_deref()),
            ("app_id", properties.app_id.as_deref()),
        ];
        let texts = optional
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        let numbers = [
            ("delivery_mode", properties.delivery_mode.map(u64::from)),
            ("priority", properties.priority.map(u64::from)),
            ("timestamp", properties.timestamp),
        ];
        let numbers = numbers
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))));
        let headers = properties.headers.iter();
        let body = &letter.delivery.body;
        let shown = shown(body, limit);
        let text = std::str::from_utf8(shown).ok();
        Self {
            properties: texts.chain(numbers).collect(),
            headers: headers
                .map(|(name, value)| (name.clone(), value.to_json()))
                .collect(),
            body: text.map(str::to_owned),
            body_base64: text.is_none().then(|| STANDARD.encode(shown)),
            truncated: shown.len() < body.len(),
        }
    }
}

/// The first `limit` bytes of `body`. Text is not cut inside a character.
fn shown(body: &[u8], limit: usize) -> &[u8] {
    let first = &body[..body.len().min(limit)];
    match std::str::from_utf8(first) {
        // The end was cut off, not wrong.
        Err(error) if error.error_len().is_none() && first.len() < body.len() => {
            &first[..error.valid_up_to()]
        }
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::testing::letter;
    use super::*;
    use tidegate::delivery::{HeaderValue, header};

    #[test]
    fn a_summary_leaves_out_what_is_not_known() {
        let json = serde_json::to_value(Record::summary(&letter(&[]))).unwrap();
        let expected = serde_json::json!({
            "queue": "orders", "id": "m-1", "exchange": "", "routing_key": "orders", "body_bytes": 4,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn everything_is_there_in_full() {
        let mut letter = letter(&[
            (header::REASON, "handler".into()),
            ("raw", HeaderValue::Bytes(vec![0xff])),
        ]);
        letter.delivery.properties.priority = Some(3);
        let json = serde_json::to_value(Record::full(&letter, BODY_SHOWN)).unwrap();
        assert_eq!(
            json["properties"],
            serde_json::json!({"message_id": "m-1", "priority": 3})
        );
        assert_eq!(json["headers"]["raw"], "/w==");
        assert_eq!(
            (&json["body"], &json["truncated"]),
            (&"body".into(), &false.into())
        );
    }

    #[test]
    fn a_body_that_is_no_text_is_base64_and_a_long_one_is_cut_between_characters() {
        let contents = |body: &'static [u8], limit| {
            let mut letter = letter(&[]);
            letter.delivery.body = body.into();
            Contents::of(&letter, limit)
        };
        let binary = contents(b"\xff\x00", 10);
        assert_eq!(
            (binary.body, binary.body_base64.as_deref()),
            (None, Some("/wA="))
        );
        let long = contents("ab≈cd".as_bytes(), 4);
        assert_eq!((long.body.as_deref(), long.truncated), (Some("ab"), true));
        let cut_binary = contents(b"\xff\x00\x01", 2);
        assert_eq!(
            (cut_binary.body_base64.as_deref(), cut_binary.truncated),
            (Some("/wA="), true)
        );
    }
}

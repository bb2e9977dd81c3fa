//! One message on its way through a node, in terms that do not depend on the client library.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

mod hash;
pub mod header;
mod size;

pub(crate) use hash::ContentHash;
pub(crate) use size::{header_frame_size, header_size};

/// One message as the broker delivered it (AMQP 0-9-1 `basic.deliver` with its content header and body).
///
/// Cheap to share: handlers receive it behind an [`Arc`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Delivery {
    /// The queue it was consumed from.
    pub queue: Arc<str>,
    /// The exchange it was first published to; empty for the default exchange.
    pub exchange: String,
    /// The routing key it was first published with.
    pub routing_key: String,
    /// The broker's `redelivered` flag: it may have been delivered before, to this worker or another.
    pub redelivered: bool,
    /// Which run of the message this is; the first is 1. Retries count, and nothing else does: a message
    /// that comes again because a worker or a connection was lost keeps its number.
    pub attempt: u32,
    /// The message's properties and headers.
    pub properties: Properties,
    /// The message's body, unchanged.
    pub body: Bytes,
}

impl Delivery {
    /// The first delivery of `body` from `queue`, without properties: what a test hands to a handler.
    ///
    /// ```
    /// use tidegate::Delivery;
    ///
    /// let mut delivery = Delivery::new("orders", r#"{"id": 7}"#);
    /// delivery.properties.message_id = Some("m-1".into());
    /// assert_eq!(delivery.attempt, 1);
    /// ```
    pub fn new(queue: impl Into<Arc<str>>, body: impl Into<Bytes>) -> Self {
        let queue = queue.into();
        Self {
            exchange: String::new(),
            routing_key: queue.to_string(),
            queue,
            redelivered: false,
            attempt: 1,
            properties: Properties::default(),
            body: body.into(),
        }
    }

    /// Why the message could not be decoded, if so. What could be read of it is here; the rest is in the header
    /// [`header::PROPERTIES`]. Handlers never see such a delivery.
    pub(crate) fn undecodable(&self) -> Option<&str> {
        self.properties.headers.get(header::UNDECODABLE)?.as_str()
    }
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Exchange; empty for the default exchange.
    pub exchange: String,
    /// Routing key.
    pub routing_key: String,
    /// Whether a message that no queue takes must come back (and so is not accepted).
    pub mandatory: bool,
    /// Properties and headers.
    pub properties: Properties,
    /// Body.
    pub body: Bytes,
}

/// The properties of a message (AMQP 0-9-1, class `basic`), all optional.
///
/// ```
/// use tidegate::{HeaderValue, Properties};
///
/// let mut properties = Properties {
///     message_id: Some("m-1".into()),
///     ..Properties::default()
/// };
/// properties.headers.insert("tenant".into(), HeaderValue::from("north"));
/// assert_eq!(properties.headers["tenant"].as_str(), Some("north"));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<String>,
    /// MIME content encoding of the body.
    pub content_encoding: Option<String>,
    /// Headers in the order of their names.
    pub headers: BTreeMap<String, HeaderValue>,
    /// Whether there is a table of headers although it has none. Some clients tell that from no table.
    pub empty_headers: bool,
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// 0 to 255.
    pub priority: Option<u8>,
    /// Ties a reply to its request.
    pub correlation_id: Option<String>,
    /// Queue that a reply goes to.
    pub reply_to: Option<String>,
    /// Time to live in milliseconds, as a decimal string.
    pub expiration: Option<String>,
    /// The publisher's identifier of the message.
    pub message_id: Option<String>,
    /// Seconds since the Unix epoch.
    pub timestamp: Option<u64>,
    /// The publisher's name for the kind of message (property `type`).
    pub kind: Option<String>,
    /// The user that published it, verified by the broker.
    pub user_id: Option<String>,
    /// The application that published it.
    pub app_id: Option<String>,
    /// Reserved by AMQP (`cluster-id`); kept as it came.
    pub cluster_id: Option<String>,
}

/// A header's value: every type that RabbitMQ's field tables carry, kept exactly, so that a copy of a
/// message is the message.
#[derive(Debug, Clone, PartialEq)]
pub enum HeaderValue {
    /// `t`
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l`
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` divided by 10 to the power `scale`.
    Decimal {
        /// Number of decimal places.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// `S`, if its bytes are UTF-8.
    Text(String),
    /// `S` whose bytes are not UTF-8.
    LongString(Vec<u8>),
    /// `x`
    Bytes(Vec<u8>),
    /// `T`, seconds since the Unix epoch.
    Timestamp(u64),
    /// `A`
    List(Vec<HeaderValue>),
    /// `F`
    Table(BTreeMap<String, HeaderValue>),
    /// `V`
    Void,
}

impl HeaderValue {
    /// The value as text for an HTTP header or an environment variable: numbers and booleans in decimal,
    /// text as it is, lists and tables as JSON, bytes as base64.
    pub fn to_text(&self) -> String {
        match self.to_json() {
            serde_json::Value::String(text) => text,
            serde_json::Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    /// The value as JSON; bytes become base64, timestamps seconds.
    pub fn to_json(&self) -> serde_json::Value {
        use base64::Engine as _;
        let base64 = &base64::engine::general_purpose::STANDARD;
        match self {
            Self::Bool(value) => (*value).into(),
            Self::I8(value) => (*value).into(),
            Self::U8(value) => (*value).into(),
            Self::I16(value) => (*value).into(),
            Self::U16(value) => (*value).into(),
            Self::I32(value) => (*value).into(),
            Self::U32(value) => (*value).into(),
            Self::I64(value) => (*value).into(),
            Self::F32(value) => (*value).into(),
            Self::F64(value) => (*value).into(),
            Self::Decimal { scale, value } => {
                (f64::from(*value) / 10_f64.powi(i32::from(*scale))).into()
            }
            Self::Text(value) => value.as_str().into(),
            Self::LongString(value) | Self::Bytes(value) => base64.encode(value).into(),
            Self::Timestamp(value) => (*value).into(),
            Self::List(values) => values.iter().map(Self::to_json).collect(),
            Self::Table(values) => values
                .iter()
                .map(|(name, value)| (name.clone(), value.to_json()))
                .collect(),
            Self::Void => serde_json::Value::Null,
        }
    }

    /// The value as a whole number, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::I8(value) => Some((*value).into()),
            Self::U8(value) => Some((*value).into()),
            Self::I16(value) => Some((*value).into()),
            Self::U16(value) => Some((*value).into()),
            Self::I32(value) => Some((*value).into()),
            Self::U32(value) => Some((*value).into()),
            Self::I64(value) => Some(*value),
            _ => None,
        }
    }

    /// The value as text, if it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(value) => Some(value),
            _ => None,
        }
    }
}

impl From<&str> for HeaderValue {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

//! Messages between the client library's types and ours; nothing of a message is lost on the way.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::message::Delivery as Raw;
use lapin::types::{
    AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString, ShortString,
};

use super::BrokerError;
use super::guard::{MARK, MARK_PROPERTIES, MARK_REASON};
use crate::delivery::{Delivery, HeaderValue, Properties, header as own};

/// A delivery of `queue`, as the broker has it. One that the guard has marked is
/// [undecodable](Delivery::undecodable).
pub(super) fn delivery(queue: &Arc<str>, raw: Raw) -> Delivery {
    let mut properties = properties(&raw.properties);
    translate_mark(&mut properties.headers);
    Delivery {
        queue: Arc::clone(queue),
        exchange: raw.exchange.into(),
        routing_key: raw.routing_key.into(),
        redelivered: raw.redelivered,
        attempt: 1,
        properties,
        body: Bytes::from(raw.data),
    }
}

/// Why the guard could not let the properties pass, if so.
pub(super) fn fault(properties: &BasicProperties) -> Option<String> {
    let headers = properties.headers().as_ref()?;
    let AMQPValue::FieldTable(mark) = headers.inner().get(MARK)? else {
        return None;
    };
    match mark.inner().get(MARK_REASON)? {
        AMQPValue::LongString(reason) => Some(reason.to_string()),
        _ => None,
    }
}

/// Replaces the guard's mark, if there is one, by the headers that tell of it.
fn translate_mark(headers: &mut BTreeMap<String, HeaderValue>) {
    let Some(HeaderValue::Table(mut mark)) = headers.remove(MARK) else {
        return;
    };
    if let Some(HeaderValue::Bytes(original)) = mark.remove(MARK_PROPERTIES) {
        let text = HeaderValue::Text(BASE64_STANDARD.encode(original));
        headers.insert(own::PROPERTIES.to_owned(), text);
    }
    if let Some(reason) = mark.remove(MARK_REASON) {
        headers.insert(own::UNDECODABLE.to_owned(), reason);
    }
}

fn properties(raw: &BasicProperties) -> Properties {
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    Properties {
        content_type: text(raw.content_type()),
        content_encoding: text(raw.content_encoding()),
        headers: raw.headers().as_ref().map(table).unwrap_or_default(),
        empty_headers: raw
            .headers()
            .as_ref()
            .is_some_and(|headers| headers.inner().is_empty()),
        delivery_mode: *raw.delivery_mode(),
        priority: *raw.priority(),
        correlation_id: text(raw.correlation_id()),
        reply_to: text(raw.reply_to()),
        expiration: text(raw.expiration()),
        message_id: text(raw.message_id()),
        timestamp: *raw.timestamp(),
        kind: text(raw.kind()),
        user_id: text(raw.user_id()),
        app_id: text(raw.app_id()),
        cluster_id: text(raw.cluster_id()),
    }
}

fn table(raw: &FieldTable) -> BTreeMap<String, HeaderValue> {
    raw.inner()
        .iter()
        .map(|(name, value)| (name.to_string(), header(value)))
        .collect()
}

fn header(raw: &AMQPValue) -> HeaderValue {
    match raw {
        AMQPValue::Boolean(value) => HeaderValue::Bool(*value),
        AMQPValue::ShortShortInt(value) => HeaderValue::I8(*value),
        AMQPValue::ShortShortUInt(value) => HeaderValue::U8(*value),
        AMQPValue::ShortInt(value) => HeaderValue::I16(*value),
        AMQPValue::ShortUInt(value) => HeaderValue::U16(*value),
        AMQPValue::LongInt(value) => HeaderValue::I32(*value),
        AMQPValue::LongUInt(value) => HeaderValue::U32(*value),
        AMQPValue::LongLongInt(value) => HeaderValue::I64(*value),
        AMQPValue::Float(value) => HeaderValue::F32(*value),
        AMQPValue::Double(value) => HeaderValue::F64(*value),
        AMQPValue::DecimalValue(value) => HeaderValue::Decimal {
            scale: value.scale,
            value: value.value,
        },
        AMQPValue::ShortString(value) => HeaderValue::Text(value.to_string()),
        AMQPValue::LongString(value) => match std::str::from_utf8(value.as_bytes()) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_not_utf8) => HeaderValue::LongString(value.as_bytes().to_vec()),
        },
        AMQPValue::FieldArray(values) => {
            HeaderValue::List(values.as_slice().iter().map(header).collect())
        }
        AMQPValue::Timestamp(value) => HeaderValue::Timestamp(*value),
        AMQPValue::FieldTable(values) => HeaderValue::Table(table(values)),
        AMQPValue::ByteArray(value) => HeaderValue::Bytes(value.as_slice().to_vec()),
        AMQPValue::Void => HeaderValue::Void,
    }
}

/// `value` as an AMQP short string, which holds at most 255 bytes.
pub(super) fn short(what: &str, value: &str) -> Result<ShortString, BrokerError> {
    ShortString::try_new(value).map_err(|error| BrokerError::NotAccepted {
        cause: format!("{what} {value:?}: {error}"),
    })
}

pub(super) fn to_properties(ours: &Properties) -> Result<BasicProperties, BrokerError> {
    let mut raw = BasicProperties::default();
    macro_rules! set {
        ($field:ident, $with:ident) => {
            if let Some(value) = &ours.$field {
                raw = raw.$with(short(stringify!($field), value)?);
            }
        };
    }
    set!(content_type, with_content_type);
    set!(content_encoding, with_content_encoding);
    set!(correlation_id, with_correlation_id);
    set!(reply_to, with_reply_to);
    set!(expiration, with_expiration);
    set!(message_id, with_message_id);
    set!(kind, with_type);
    set!(user_id, with_user_id);
    set!(app_id, with_app_id);
    set!(cluster_id, with_cluster_id);
    if !ours.headers.is_empty() || ours.empty_headers {
        raw = raw.with_headers(to_table(&ours.headers)?);
    }
    if let Some(mode) = ours.delivery_mode {
        raw = raw.with_delivery_mode(mode);
    }
    if let Some(priority) = ours.priority {
        raw = raw.with_priority(priority);
    }
    if let Some(timestamp) = ours.timestamp {
        raw = raw.with_timestamp(timestamp);
    }
    Ok(raw)
}

fn to_table(ours: &BTreeMap<String, HeaderValue>) -> Result<FieldTable, BrokerError> {
    let mut raw = FieldTable::default();
    for (name, value) in ours {
        raw.insert(short("header name", name)?, to_header(value)?);
    }
    Ok(raw)
}

fn to_header(ours: &HeaderValue) -> Result<AMQPValue, BrokerError> {
    Ok(match ours {
        HeaderValue::Bool(value) => AMQPValue::Boolean(*value),
        HeaderValue::I8(value) => AMQPValue::ShortShortInt(*value),
        HeaderValue::U8(value) => AMQPValue::ShortShortUInt(*value),
        HeaderValue::I16(value) => AMQPValue::ShortInt(*value),
        HeaderValue::U16(value) => AMQPValue::ShortUInt(*value),
        HeaderValue::I32(value) => AMQPValue::LongInt(*value),
        HeaderValue::U32(value) => AMQPValue::LongUInt(*value),
        HeaderValue::I64(value) => AMQPValue::LongLongInt(*value),
        HeaderValue::F32(value) => AMQPValue::Float(*value),
        HeaderValue::F64(value) => AMQPValue::Double(*value),
        HeaderValue::Decimal { scale, value } => AMQPValue::DecimalValue(DecimalValue {
            scale: *scale,
            value: *value,
        }),
        HeaderValue::Text(value) => AMQPValue::LongString(LongString::from(value.as_bytes())),
        HeaderValue::LongString(value) => AMQPValue::LongString(LongString::from(value.as_slice())),
        HeaderValue::Bytes(value) => AMQPValue::ByteArray(ByteArray::from(value.clone())),
        HeaderValue::Timestamp(value) => AMQPValue::Timestamp(*value),
        HeaderValue::List(values) => {
            let values: Result<Vec<_>, _> = values.iter().map(to_header).collect();
            AMQPValue::FieldArray(FieldArray::from(values?))
        }
        HeaderValue::Table(values) => AMQPValue::FieldTable(to_table(values)?),
        HeaderValue::Void => AMQPValue::Void,
    })
}

/// A delivery with the properties in a content header's payload, as it comes through guard and conversion.
#[cfg(test)]
pub(crate) fn delivery_of(payload: &[u8]) -> Option<Delivery> {
    let raw = super::guard::testing::properties_of(payload)?;
    let mut properties = properties(&raw);
    translate_mark(&mut properties.headers);
    let mut delivery = Delivery::new("orders", payload.to_vec());
    delivery.properties = properties;
    Some(delivery)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_and_header_survives_the_way_there_and_back() {
        let mut headers = BTreeMap::new();
        for (name, value) in [
            ("bool", HeaderValue::Bool(true)),
            ("i8", HeaderValue::I8(-1)),
            ("u8", HeaderValue::U8(1)),
            ("i16", HeaderValue::I16(-2)),
            ("u16", HeaderValue::U16(2)),
            ("i32", HeaderValue::I32(-3)),
            ("u32", HeaderValue::U32(3)),
            ("i64", HeaderValue::I64(-4)),
            ("f32", HeaderValue::F32(1.5)),
            ("f64", HeaderValue::F64(2.5)),
            (
                "decimal",
                HeaderValue::Decimal {
                    scale: 2,
                    value: 314,
                },
            ),
            ("text", HeaderValue::Text("tide ≈".into())),
            ("long", HeaderValue::LongString(vec![0xff, 0xfe])),
            ("bytes", HeaderValue::Bytes(vec![1, 2, 3])),
            ("time", HeaderValue::Timestamp(1_700_000_000)),
            (
                "list",
                HeaderValue::List(vec![HeaderValue::Void, HeaderValue::Bool(false)]),
            ),
        ] {
            headers.insert(name.to_owned(), value);
        }
        let table = HeaderValue::Table(headers.clone());
        headers.insert("table".to_owned(), table);
        let ours = Properties {
            content_type: Some("application/json".into()),
            content_encoding: Some("utf-8".into()),
            headers,
            empty_headers: false,
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: Some("c".into()),
            reply_to: Some("r".into()),
            expiration: Some("60000".into()),
            message_id: Some("m".into()),
            timestamp: Some(1),
            kind: Some("order.v1".into()),
            user_id: Some("guest".into()),
            app_id: Some("shop".into()),
            cluster_id: Some("main".into()),
        };
        let raw = to_properties(&ours).expect("every value fits");
        assert_eq!(properties(&raw), ours);
    }

    #[test]
    fn an_empty_table_of_headers_is_not_none() {
        for empty_headers in [true, false] {
            let ours = Properties {
                empty_headers,
                ..Properties::default()
            };
            let raw = to_properties(&ours).expect("nothing is too long");
            assert_eq!(raw.headers().is_some(), empty_headers);
            assert_eq!(properties(&raw), ours);
        }
    }

    #[test]
    fn a_property_that_does_not_fit_is_named() {
        let ours = Properties {
            message_id: Some("m".repeat(256)),
            ..Properties::default()
        };
        let error = to_properties(&ours).expect_err("256 bytes are too many");
        assert!(error.to_string().contains("message_id"), "{error}");
    }

    #[test]
    fn whatever_a_broker_sends_can_be_sent_again_as_it_is() {
        tidegate_fuzzing::run("headers", &[], |payload| {
            let Some(delivery) = delivery_of(payload) else {
                return;
            };
            let there = to_properties(&delivery.properties).expect("it came from a broker");
            let back = properties(&there);
            // Not a number differs from itself, and its text does not.
            assert_eq!(format!("{back:?}"), format!("{:?}", delivery.properties));
        });
    }
}

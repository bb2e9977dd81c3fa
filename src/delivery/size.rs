//! The size of a message's content header on the wire (AMQP 0-9-1, 2.3.5.2 and 4.2.5). Pure.

use std::collections::BTreeMap;

use super::{HeaderValue, Properties};

/// A frame's own bytes (7 before the payload, 1 after it), and the fixed part of a content header: class, weight, body
/// size, property flags.
const FIXED: usize = 7 + 1 + 2 + 2 + 8 + 2;

/// The size in bytes of the frame that carries `properties`. The broker does not split it: it has to fit `frame_max`.
pub(crate) fn header_frame_size(properties: &Properties) -> usize {
    let texts = [
        &properties.content_type,
        &properties.content_encoding,
        &properties.correlation_id,
        &properties.reply_to,
        &properties.expiration,
        &properties.message_id,
        &properties.kind,
        &properties.user_id,
        &properties.app_id,
        &properties.cluster_id,
    ];
    let texts = texts.into_iter().flatten().map(|text| 1 + text.len());
    let headers = if properties.headers.is_empty() {
        0
    } else {
        table_size(&properties.headers)
    };
    let numbers = usize::from(properties.delivery_mode.is_some())
        + usize::from(properties.priority.is_some())
        + 8 * usize::from(properties.timestamp.is_some());
    FIXED + texts.sum::<usize>() + headers + numbers
}

/// The size in bytes of one header in its table.
pub(crate) fn header_size(name: &str, value: &HeaderValue) -> usize {
    1 + name.len() + value_size(value)
}

fn table_size(table: &BTreeMap<String, HeaderValue>) -> usize {
    let entries = table.iter().map(|(name, value)| header_size(name, value));
    4 + entries.sum::<usize>()
}

fn value_size(value: &HeaderValue) -> usize {
    1 + match value {
        HeaderValue::Void => 0,
        HeaderValue::Bool(_) | HeaderValue::I8(_) | HeaderValue::U8(_) => 1,
        HeaderValue::I16(_) | HeaderValue::U16(_) => 2,
        HeaderValue::I32(_) | HeaderValue::U32(_) | HeaderValue::F32(_) => 4,
        HeaderValue::Decimal { .. } => 5,
        HeaderValue::I64(_) | HeaderValue::F64(_) | HeaderValue::Timestamp(_) => 8,
        HeaderValue::Text(text) => 4 + text.len(),
        HeaderValue::LongString(bytes) | HeaderValue::Bytes(bytes) => 4 + bytes.len(),
        HeaderValue::List(values) => 4 + values.iter().map(value_size).sum::<usize>(),
        HeaderValue::Table(table) => table_size(table),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_frame_has_the_size_that_the_wire_format_gives_it() {
        let mut properties = Properties::default();
        assert_eq!(header_frame_size(&properties), 22);
        properties.message_id = Some("7".into());
        properties.delivery_mode = Some(2);
        properties.timestamp = Some(0);
        assert_eq!(header_frame_size(&properties), 22 + 2 + 1 + 8);
        for (name, value, size) in [
            ("a", HeaderValue::Text("bc".into()), 4 + 2),
            ("b", HeaderValue::I64(1), 8),
            (
                "c",
                HeaderValue::List(vec![HeaderValue::Void, true_()]),
                4 + 1 + 2,
            ),
            (
                "d",
                HeaderValue::Table(BTreeMap::from([("x".into(), true_())])),
                4 + 2 + 2,
            ),
        ] {
            assert_eq!(header_size(name, &value), 2 + 1 + size, "{name}");
            properties.headers = BTreeMap::from([(name.to_owned(), value)]);
            assert_eq!(header_frame_size(&properties), 33 + 4 + 3 + size, "{name}");
        }
    }

    fn true_() -> HeaderValue {
        HeaderValue::Bool(true)
    }
}

//! A delivery as HTTP request headers.

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::delivery::Delivery;
use crate::handler::metadata::{self, Room};
use crate::handler::trace::TraceContext;

/// Room for all `tidegate-header-*` of a request. Servers commonly refuse more than 16 KiB or 100 headers in
/// all (Node, hyper); this leaves the other half to the rest.
const ROOM: Room = Room {
    bytes: 8 * 1024,
    entries: 64,
};

/// Room for the headers of most requests, so that the map need not grow.
const CAPACITY: usize = 24;

/// How many message headers were left out, where any were.
const OMITTED: HeaderName = HeaderName::from_static("tidegate-headers-omitted");

/// The content codings of HTTP (RFC 9110, 8.4.1, and the IANA registry). Publishers also put a character
/// set there (`utf-8`), which a server would refuse in `content-encoding` with 415.
const CODINGS: [&str; 8] = [
    "gzip",
    "x-gzip",
    "deflate",
    "br",
    "zstd",
    "compress",
    "x-compress",
    "identity",
];

/// The headers that tell a server about `delivery`: `content-type`, `content-encoding` where HTTP knows the
/// coding, `tidegate-<property>`, `tidegate-header-<name>`, `traceparent` and `tracestate`.
pub(super) fn headers(delivery: &Delivery) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(CAPACITY);
    for (name, text) in metadata::facts(delivery) {
        map.insert(fact(name, &text), encode(&text));
    }
    let offered = metadata::headers(delivery)
        .map(|(name, value)| (sanitised(name), percent_encoded(&value).into_owned()))
        .collect();
    let (kept, omitted) = metadata::fit(offered, ROOM);
    for (name, value) in kept {
        map.insert(prefixed("tidegate-header-", &name), visible(&value));
    }
    if omitted > 0 {
        map.insert(OMITTED, HeaderValue::from(omitted));
    }
    if let Some(trace) = TraceContext::of(delivery) {
        map.insert("traceparent", visible(trace.traceparent));
        if let Some(state) = trace.tracestate {
            map.insert("tracestate", visible(state));
        }
    }
    map
}

/// The header of a fact.
fn fact(name: &str, text: &str) -> HeaderName {
    let name = match name {
        "queue" => "tidegate-queue",
        "exchange" => "tidegate-exchange",
        "routing-key" => "tidegate-routing-key",
        "attempt" => "tidegate-attempt",
        "redelivered" => "tidegate-redelivered",
        "message-id" => "tidegate-message-id",
        "content-type" => return CONTENT_TYPE,
        "content-encoding" if is_coding(text) => return CONTENT_ENCODING,
        // The others are rare.
        other => return prefixed("tidegate-", other),
    };
    HeaderName::from_static(name)
}

fn is_coding(text: &str) -> bool {
    CODINGS
        .iter()
        .any(|coding| text.eq_ignore_ascii_case(coding))
}

fn prefixed(prefix: &str, name: &str) -> HeaderName {
    HeaderName::try_from(format!("{prefix}{name}"))
        .expect("letters, digits and hyphens make a header name")
}

/// Letters and digits in lower case, anything else a hyphen: underscores and dots too, since proxies and
/// gateways drop or rewrite them.
fn sanitised(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect()
}

fn encode(text: &str) -> HeaderValue {
    visible(&percent_encoded(text))
}

fn visible(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("visible ASCII and inner spaces make a header value")
}

/// Visible ASCII and inner spaces as they are; every other byte of the UTF-8, and `%` itself, as `%XX`. So
/// percent-decoding a value always gives exactly the text.
fn percent_encoded(text: &str) -> Cow<'_, str> {
    use std::fmt::Write as _;
    let bytes = text.as_bytes();
    if bytes
        .iter()
        .all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'%')
    {
        return text.into();
    }
    let mut encoded = String::with_capacity(bytes.len());
    for (index, &byte) in bytes.iter().enumerate() {
        let is_edge = index == 0 || index + 1 == bytes.len();
        match byte {
            b'%' => encoded.push_str("%25"),
            b' ' if !is_edge => encoded.push(' '),
            b'!'..=b'~' => encoded.push(char::from(byte)),
            other => write!(encoded, "%{other:02X}").expect("a string takes any text"),
        }
    }
    encoded.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery;
    use crate::handler::testing;

    fn decoded(value: &HeaderValue) -> String {
        let text = value.to_str().unwrap();
        let mut bytes = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((&byte, tail)) = rest.split_first() {
            if byte == b'%' {
                let hex = std::str::from_utf8(&tail[..2]).unwrap();
                bytes.push(u8::from_str_radix(hex, 16).unwrap());
                rest = &tail[2..];
            } else {
                bytes.push(byte);
                rest = tail;
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn properties_and_headers_become_headers() {
        let sent = testing::delivery("{}")
            .header("x-tenant_ID", "acme")
            .header("retries", delivery::HeaderValue::I64(3))
            .header(
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            )
            .with(|delivery| {
                delivery.properties.content_type = Some("application/json; charset=utf-8".into());
                delivery.properties.content_encoding = Some("gzip".into());
                delivery.properties.correlation_id = Some("c-1".into());
                delivery.properties.timestamp = Some(1_700_000_000);
                delivery.properties.kind = Some("order.v1".into());
                delivery.properties.app_id = Some("shop".into());
                delivery.attempt = 2;
                delivery.redelivered = true;
            });
        let mut lines: Vec<String> = headers(&sent.0)
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "content-encoding: gzip",
                "content-type: application/json; charset=utf-8",
                "tidegate-app-id: shop",
                "tidegate-attempt: 2",
                "tidegate-correlation-id: c-1",
                "tidegate-exchange: shop",
                "tidegate-header-retries: 3",
                "tidegate-header-x-tenant-id: acme",
                "tidegate-message-id: m-1",
                "tidegate-queue: orders",
                "tidegate-redelivered: true",
                "tidegate-routing-key: order.new",
                "tidegate-timestamp: 1700000000",
                "tidegate-type: order.v1",
                "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ]
        );
    }

    #[test]
    fn a_character_set_in_content_encoding_is_not_taken_for_a_coding() {
        let sent = testing::delivery("{}")
            .with(|delivery| delivery.properties.content_encoding = Some("utf-8".into()));
        let map = headers(&sent.0);
        assert_eq!(map.get(CONTENT_ENCODING), None);
        assert_eq!(map["tidegate-content-encoding"], "utf-8");
    }

    #[test]
    fn a_malformed_trace_context_is_not_passed_on() {
        let sent = testing::delivery("").header("traceparent", "00-bad");
        assert!(
            headers(&sent.0)
                .keys()
                .all(|name| !name.as_str().contains("trace"))
        );
    }

    #[test]
    fn too_many_header_bytes_are_left_out_and_that_is_said() {
        let sent = testing::delivery("")
            .header("small", "kept")
            .header("large", "x".repeat(ROOM.bytes).as_str());
        let map = headers(&sent.0);
        assert_eq!(map["tidegate-header-small"], "kept");
        assert_eq!(map.get("tidegate-header-large"), None);
        assert_eq!(map[OMITTED], "1");
    }

    proptest! {
        #[test]
        fn any_text_arrives_whole(text in any::<String>(), name in any::<String>()) {
            prop_assume!(text.len() < 1_000);
            let sent = testing::delivery("")
                .header("given", text.as_str())
                .with(|delivery| delivery.routing_key.clone_from(&text));
            let map = headers(&sent.0);
            prop_assert_eq!(decoded(&map["tidegate-header-given"]), text.clone());
            prop_assert_eq!(decoded(&map["tidegate-routing-key"]), text);
            headers(&testing::delivery("").header(&name, "any name is safe").0);
        }
    }

    #[test]
    fn whatever_a_message_has_becomes_headers_within_their_room() {
        tidegate_fuzzing::run("headers", &[], |payload| {
            let Some(delivery) = crate::broker::delivery_of(payload) else {
                return;
            };
            let map = headers(&delivery);
            let own = map
                .iter()
                .filter(|(name, _)| name.as_str().starts_with("tidegate-header-"));
            let bytes: usize = own
                .map(|(name, value)| name.as_str().len() + value.len())
                .sum();
            assert!(bytes <= ROOM.bytes + ROOM.entries * "tidegate-header-".len());
        });
    }
}

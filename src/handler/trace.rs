//! The trace context of a message (W3C Trace Context), as it travels in message headers.

use crate::delivery::Delivery;

/// Longest `tracestate` that is passed on, in bytes: what the recommendation asks everyone to carry.
const TRACESTATE_LIMIT: usize = 512;

/// Most entries in a `tracestate` (W3C Trace Context, 3.3.1).
const TRACESTATE_ENTRIES: usize = 32;

/// The message headers that carry a trace context.
pub(super) const NAMES: [&str; 2] = ["traceparent", "tracestate"];

/// A message's trace context, valid.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TraceContext<'a> {
    pub(super) traceparent: &'a str,
    pub(super) tracestate: Option<&'a str>,
}

impl<'a> TraceContext<'a> {
    /// The context in `delivery`'s headers. A malformed `traceparent` counts as none, and takes the
    /// `tracestate` with it; a malformed `tracestate` goes alone (W3C Trace Context, 3.2 and 3.3).
    pub(super) fn of(delivery: &'a Delivery) -> Option<Self> {
        let text = |name| delivery.properties.headers.get(name)?.as_str();
        let [traceparent, tracestate] = NAMES;
        Some(Self {
            traceparent: text(traceparent).filter(|value| is_traceparent(value))?,
            tracestate: text(tracestate).filter(|value| is_tracestate(value)),
        })
    }
}

/// `version-trace_id-parent_id-flags`, lower-case hexadecimal. A version after 00 may append fields; version
/// ff and identifiers of zeros alone are invalid.
fn is_traceparent(value: &str) -> bool {
    let mut fields = value.split('-');
    let (Some(version), Some(trace), Some(parent), Some(flags)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return false;
    };
    let rest_is_allowed = match fields.next() {
        None => true,
        Some(_) => version != "00" && value.len() <= TRACESTATE_LIMIT && is_visible(value),
    };
    is_hex(version, 2)
        && version != "ff"
        && is_hex(trace, 32)
        && trace.bytes().any(|byte| byte != b'0')
        && is_hex(parent, 16)
        && parent.bytes().any(|byte| byte != b'0')
        && is_hex(flags, 2)
        && rest_is_allowed
}

fn is_hex(field: &str, digits: usize) -> bool {
    field.len() == digits
        && field
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_visible(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A list of `key=value`, separated by commas; empty entries are allowed.
fn is_tracestate(value: &str) -> bool {
    let mut entries = value
        .split(',')
        .map(|entry| entry.trim_matches([' ', '\t']));
    !value.trim().is_empty()
        && value.len() <= TRACESTATE_LIMIT
        && value.split(',').count() <= TRACESTATE_ENTRIES
        && entries.all(|entry| entry.is_empty() || is_entry(entry))
}

fn is_entry(entry: &str) -> bool {
    let Some((key, value)) = entry.split_once('=') else {
        return false;
    };
    let key_is_valid = key.len() <= 256
        && key.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && key.bytes().all(
            |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@'),
        );
    let value_is_valid = !value.is_empty()
        && value.len() <= 256
        && value
            .bytes()
            .all(|byte| matches!(byte, b' '..=b'~') && byte != b'=');
    key_is_valid && value_is_valid
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::testing;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_context_is_passed_as_it_is() {
        let delivery = testing::delivery("")
            .header("traceparent", PARENT)
            .header("tracestate", "vendor=x y,other@tenant=1");
        assert_eq!(
            TraceContext::of(&delivery.0),
            Some(TraceContext {
                traceparent: PARENT,
                tracestate: Some("vendor=x y,other@tenant=1"),
            })
        );
    }

    #[test]
    fn a_malformed_traceparent_takes_the_tracestate_with_it() {
        let zeros = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
        let no_parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01";
        let upper = "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01";
        let version = "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let long = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        for bad in [
            "",
            "00",
            zeros,
            no_parent,
            upper,
            version,
            long,
            "00-ü-x-01",
        ] {
            let delivery = testing::delivery("")
                .header("traceparent", bad)
                .header("tracestate", "vendor=1");
            assert_eq!(TraceContext::of(&delivery.0), None, "{bad}");
        }
    }

    #[test]
    fn a_later_version_may_append_fields() {
        assert!(is_traceparent(
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes"
        ));
        assert!(!is_traceparent(
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-a\r\nb: c"
        ));
    }

    #[test]
    fn a_malformed_tracestate_goes_alone() {
        let many = vec!["a=1"; TRACESTATE_ENTRIES + 1].join(",");
        let long = format!("a={}", "x".repeat(TRACESTATE_LIMIT));
        for bad in ["", " ", "novalue", "A=1", "a=b=c", "a=\n", &many, &long] {
            let delivery = testing::delivery("")
                .header("traceparent", PARENT)
                .header("tracestate", bad);
            let context = TraceContext::of(&delivery.0).unwrap();
            assert_eq!(context.tracestate, None, "{bad}");
        }
    }
}

//! The environment of a child of the `exec` handler.

use std::ffi::OsString;

use crate::delivery::Delivery;
use crate::handler::metadata::{self, Room};
use crate::handler::trace::TraceContext;
use crate::process::is_own_threshold;

/// What the worker's own variables begin with, and the variables that a child is given.
const PREFIX: &str = "TIDEGATE_";

/// Room for all `TIDEGATE_HEADER_*` of a child. Linux refuses to start a program with more than 128 KiB in
/// one variable, or with more than a quarter of the stack's limit (commonly 2 MiB) in all.
const ROOM: Room = Room {
    bytes: 32 * 1024,
    entries: 256,
};

/// The worker's environment as its children may see it: without any `TIDEGATE_*`, in upper or lower case,
/// because configuration from the environment (`TIDEGATE__BROKER__URL`) has secrets in it, and without the setting of its
/// own allocator.
pub(super) fn inherited(
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<(OsString, OsString)> {
    variables
        .into_iter()
        .filter(|variable| !is_own_threshold(variable))
        .filter(|(name, _)| {
            let name = name.as_encoded_bytes();
            !name
                .get(..PREFIX.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX.as_bytes()))
        })
        .collect()
}

/// The variables that tell a child about `delivery`: `TIDEGATE_<PROPERTY>`, `TIDEGATE_HEADER_<NAME>`,
/// `TRACEPARENT` and `TRACESTATE`. A value that contains NUL is left out, as no variable can carry it.
pub(super) fn variables(delivery: &Delivery) -> Vec<(String, String)> {
    let mut variables: Vec<_> = metadata::facts(delivery)
        .map(|(name, value)| (format!("{PREFIX}{}", upper(name)), value.into_owned()))
        .collect();
    let (possible, impossible): (Vec<_>, Vec<_>) = metadata::headers(delivery)
        .map(|(name, value)| (format!("{PREFIX}HEADER_{}", upper(name)), value))
        .partition(|(_, value)| !value.contains('\0'));
    let (kept, omitted) = metadata::fit(possible, ROOM);
    variables.extend(kept);
    let omitted = omitted + impossible.len();
    if omitted > 0 {
        variables.push((format!("{PREFIX}HEADERS_OMITTED"), omitted.to_string()));
    }
    if let Some(trace) = TraceContext::of(delivery) {
        variables.push(("TRACEPARENT".into(), trace.traceparent.into()));
        if let Some(state) = trace.tracestate {
            variables.push(("TRACESTATE".into(), state.into()));
        }
    }
    variables.retain(|(_, value)| !value.contains('\0'));
    variables
}

/// Letters and digits in upper case, anything else an underscore.
fn upper(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::handler::testing;

    #[test]
    fn the_workers_own_configuration_is_not_inherited() {
        let pairs = [
            ("PATH", "/bin"),
            ("TIDEGATE__BROKER__URL", "amqp://u:secret@h"),
            ("tidegate__broker__url", "amqp://u:secret@h"),
            ("TIDEGATE_TOKEN", "secret"),
            ("MALLOC_MMAP_THRESHOLD_", "1000000"),
            ("TIDE", "high"),
            ("ÄTIDEGATE_X", "kept"),
        ];
        let kept = inherited(pairs.map(|(name, value)| (name.into(), value.into())));
        let names: Vec<_> = kept
            .iter()
            .map(|(name, _)| name.to_str().unwrap())
            .collect();
        assert_eq!(names, ["PATH", "TIDE", "ÄTIDEGATE_X"]);
    }

    #[test]
    fn properties_and_headers_become_variables() {
        let sent = testing::delivery("")
            .header("x-tenant.id", "acme")
            .header(
                "traceparent",
                "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            )
            .with(|delivery| {
                delivery.properties.content_type = Some("text/plain".into());
                delivery.properties.kind = Some("order.v1".into());
            });
        let mut lines: Vec<_> = variables(&sent.0)
            .into_iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        lines.sort();
        assert_eq!(
            lines,
            [
                "TIDEGATE_ATTEMPT=1",
                "TIDEGATE_CONTENT_TYPE=text/plain",
                "TIDEGATE_EXCHANGE=shop",
                "TIDEGATE_HEADER_X_TENANT_ID=acme",
                "TIDEGATE_MESSAGE_ID=m-1",
                "TIDEGATE_QUEUE=orders",
                "TIDEGATE_REDELIVERED=false",
                "TIDEGATE_ROUTING_KEY=order.new",
                "TIDEGATE_TYPE=order.v1",
                "TRACEPARENT=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            ]
        );
    }

    #[test]
    fn what_cannot_be_carried_is_left_out_and_counted() {
        let sent = testing::delivery("")
            .header("nul", "a\0b")
            .header("large", "x".repeat(ROOM.bytes).as_str())
            .header("small", "kept")
            .with(|delivery| delivery.properties.app_id = Some("a\0b".into()));
        let variables = variables(&sent.0);
        let value = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("TIDEGATE_HEADER_SMALL"), Some("kept"));
        assert_eq!(value("TIDEGATE_HEADER_LARGE"), None);
        assert_eq!(value("TIDEGATE_HEADER_NUL"), None);
        assert_eq!(value("TIDEGATE_APP_ID"), None);
        assert_eq!(value("TIDEGATE_HEADERS_OMITTED"), Some("2"));
    }

    proptest! {
        #[test]
        fn every_name_is_one_that_a_shell_can_use(name in any::<String>(), value in any::<String>()) {
            for (name, value) in variables(&testing::delivery("").header(&name, value.as_str()).0) {
                prop_assert!(name.starts_with("TIDEGATE_") || name.starts_with("TRACE"));
                prop_assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'));
                prop_assert!(!value.contains('\0'));
            }
        }
    }

    #[test]
    fn whatever_a_message_has_becomes_variables_that_a_process_can_have() {
        tidegate_fuzzing::run("headers", &[], |payload| {
            let Some(delivery) = crate::broker::delivery_of(payload) else {
                return;
            };
            for (name, value) in variables(&delivery) {
                assert!(!name.is_empty() && !name.contains(['=', '\0']));
                assert!(!value.contains('\0'));
            }
        });
    }
}

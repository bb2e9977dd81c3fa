//! Whatever is given, the loader answers.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Place, errors, load_with};

/// Words that mean something here, so that trees reach deep, and some that do not.
fn key() -> impl Strategy<Value = String> {
    let known = [
        "broker",
        "worker",
        "drain",
        "heartbeat",
        "status",
        "pool",
        "node",
        "url",
        "name",
        "http",
        "grace",
        "busy",
        "idle",
        "enabled",
        "exchange",
        "control",
        "slots",
        "queue",
        "declare",
        "type",
        "max_length",
        "bind",
        "key",
        "concurrency",
        "prefetch",
        "timeout",
        "max_body",
        "retry",
        "min",
        "max",
        "max_attempts",
        "handler",
        "exec",
        "log",
        "print",
        "command",
        "directory",
        "env",
        "headers",
        "ca",
        "cert",
    ];
    prop_oneof![8 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => any::<String>()]
}

fn scalar() -> impl Strategy<Value = Value> {
    let texts = [
        "amqp://h",
        "5m",
        "1MiB",
        "off",
        "quorum",
        "-1s",
        "1e400s",
        "99999999999999999d",
        "9E9EiB",
    ];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(texts.to_vec()).prop_map(Value::from),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(5, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            table(inner),
        ]
    })
}

fn table(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    prop::collection::vec((key(), inner), 0..8)
        .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>()))
}

/// The name of a variable.
fn parts() -> impl Strategy<Value = String> {
    let part = prop_oneof![key(), "[0-9]{1,2}", "[0-9]{1,2}[a-z]", "_?[a-zé]{0,3}"];
    prop::collection::vec(part, 0..5).prop_map(|parts| format!("TIDEGATE__{}", parts.join("__")))
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), value().prop_map(|value| value.to_string())]
}

/// One scalar of the right sort for some key, in a right configuration.
fn right_but(pointer: &str, scalar: Value) -> Value {
    let mut tree = json!({
        "broker": {"url": "amqp://h", "connect_timeout": "1s", "heartbeat": "1s"},
        "worker": {"name": "w", "http": "off"},
        "drain": {"grace": "1s"},
        "heartbeat": {"busy": "1s", "idle": "1s"},
        "status": {"enabled": true, "exchange": "s", "control": "c"},
        "pool": {"p": {"slots": 1}},
        "node": [{
            "queue": "q", "type": "quorum", "max_length": 1, "concurrency": 1, "prefetch": 1,
            "bind": [{"exchange": "x", "key": ""}], "timeout": "1s", "max_body": "1B",
            "retry": {"max_attempts": 1, "min": "1s", "max": "1s"}, "handler": {"log": {"print": "line"}},
        }],
    });
    if let Some(at) = tree.pointer_mut(pointer) {
        *at = scalar;
    }
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_tree_and_no_variable_panics(
        tree in table(value()),
        variables in prop::collection::vec((parts(), text()), 0..24),
    ) {
        let place = Place::new();
        let path = place.file("tree.json", &tree.to_string());
        let variables: Vec<(&str, &str)> =
            variables.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let said = load_with(&path, &variables);
        // Such a tree may be right by luck; else everything that is said is one line.
        for line in errors(said) {
            prop_assert!(!line.contains('\n'));
        }
    }

    #[test]
    fn a_wrong_scalar_is_said_at_its_key_alone(
        pointer in prop::sample::select(vec![
            "/broker/heartbeat", "/worker/http", "/drain/grace", "/heartbeat/busy", "/status/enabled",
            "/pool/p/slots", "/node/0/type", "/node/0/max_length", "/node/0/concurrency",
            "/node/0/prefetch", "/node/0/timeout", "/node/0/max_body", "/node/0/retry/max_attempts",
            "/node/0/handler/log/print",
        ]),
        scalar in scalar(),
    ) {
        let place = Place::new();
        let path = place.file("tree.json", &right_but(pointer, scalar).to_string());
        if let Err(said) = load_with(&path, &[]) {
            let key = pointer[1..].replace("/0", "[0]").replace('/', ".");
            prop_assert_eq!(said.errors().len(), 1);
            prop_assert_eq!(said.errors()[0].key(), key);
        }
    }

    #[test]
    fn no_text_panics_in_any_format(text in any::<String>(), extension in prop::sample::select(vec!["toml", "yaml", "json"])) {
        let place = Place::new();
        let path = place.file(&format!("text.{extension}"), &text);
        prop_assert!(load_with(&path, &[]).is_err());
    }
}

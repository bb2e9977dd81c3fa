//! One content, three formats.

use secrecy::ExposeSecret as _;
use tidegate::config::HandlerSettings;

use super::{Place, errors, load_with};

const TOML: &str = r#"
drain.grace = "3s"
[broker]
url = "amqp://u:p%40ss@h:1/%2f"
[pool.shared]
slots = 3
[[node]]
queue = "a"
pool = "shared"
max_length = 10
bind = [{ exchange = "x", key = "k" }]
retry = { max_attempts = 2 }
handler.http = { url = "http://h/", headers = { X-One = "1" } }
[[node]]
queue = "b"
declare = false
handler.exec = { command = ["cat", "-"], env = { A = "b" } }
"#;

const YAML: &str = r#"
drain:
  grace: 3s
broker:
  url: amqp://u:p%40ss@h:1/%2f
pool:
  shared:
    slots: 3
node:
  - queue: a
    pool: shared
    max_length: 10
    bind:
      - { exchange: x, key: k }
    retry:
      max_attempts: 2
    handler:
      http:
        url: http://h/
        headers:
          X-One: "1"
  - queue: b
    declare: false
    handler:
      exec:
        command: [cat, "-"]
        env:
          A: b
"#;

const JSON: &str = r#"{
  "drain": {"grace": "3s"},
  "broker": {"url": "amqp://u:p%40ss@h:1/%2f"},
  "pool": {"shared": {"slots": 3}},
  "node": [
    {"queue": "a", "pool": "shared", "max_length": 10, "bind": [{"exchange": "x", "key": "k"}],
     "retry": {"max_attempts": 2}, "handler": {"http": {"url": "http://h/", "headers": {"X-One": "1"}}}},
    {"queue": "b", "declare": false, "handler": {"exec": {"command": ["cat", "-"], "env": {"A": "b"}}}}
  ]
}"#;

#[test]
fn toml_yaml_and_json_of_one_content_are_equal() {
    let place = Place::new();
    let read = |name: &str, text: &str| {
        let settings = load_with(&place.file(name, text), &[]).unwrap();
        // What `Debug` hides is added.
        let hidden = settings.nodes.iter().map(|node| match &node.handler {
            Some(HandlerSettings::Http(http)) => {
                format!("{} {}", http.url, http.headers["X-One"].expose_secret())
            }
            Some(HandlerSettings::Exec(exec)) => {
                format!("{:?} {}", exec.command, exec.env["A"].expose_secret())
            }
            _ => panic!("no other handler is there"),
        });
        let hidden: Vec<String> = hidden.collect();
        format!(
            "{settings:?} {hidden:?} {}",
            settings.broker.password.expose_secret()
        )
    };
    let toml = read("w.toml", TOML);
    assert!(
        toml.contains("max_attempts: 2") && toml.ends_with("p@ss"),
        "{toml}"
    );
    assert_eq!(toml, read("w.yaml", YAML));
    assert_eq!(toml, read("w.YML", YAML));
    assert_eq!(toml, read("w.json", JSON));
}

#[test]
fn text_that_is_not_of_its_format_is_one_error_with_its_place_and_without_its_words() {
    let place = Place::new();
    let rows = [
        (
            "a.toml",
            "[broker]\nurl = \"amqp://u:secret@h\nx = 1",
            "not TOML at line 2, column 25: invalid basic string, expected `\"`",
        ),
        (
            "b.toml",
            "a = 1\na = 2",
            "not TOML at line 2, column 1: duplicate key",
        ),
        (
            "c.toml",
            "a = 99999999999999999999",
            "a number is too large",
        ),
        (
            "a.json",
            "{\"broker\": {\"url\": secret}}",
            "not JSON: expected value at line 1 column 20",
        ),
        (
            "b.json",
            "\"secret\"",
            "the top level must be a table of sections with plain keys and values",
        ),
        (
            "a.yaml",
            "secret",
            "the top level must be a table of sections with plain keys and values",
        ),
        ("b.yaml", "a: 1\n---\nb: 2", "more than one YAML document"),
        (
            "c.yaml",
            "a: [secret",
            "not YAML: while parsing a flow sequence, expected ',' or ']' at byte 10 line 2 column 1",
        ),
    ];
    for (name, text, message) in rows {
        assert_eq!(
            errors(load_with(&place.file(name, text), &[])),
            [message],
            "of {name}"
        );
    }
    let nothing = errors(load_with(&place.file("d.yaml", "broker:\n"), &[]));
    assert_eq!(
        nothing[0],
        "node: at least one is required: a worker consumes at least one queue"
    );
}

#[test]
fn a_key_that_looks_like_a_path_is_an_unknown_key() {
    let place = Place::new();
    let known =
        "unknown key; known here: broker, worker, drain, heartbeat, status, log, pool, node, fleet";
    let rows = [
        ("a.toml", "\"node[99999999999]\" = 3"),
        ("b.yaml", "\"node[99999999999]\": 3"),
        ("c.json", "{\"node[99999999999]\": 3}"),
    ];
    for (name, text) in rows {
        let said = errors(load_with(&place.file(name, text), &[]));
        let wanted = format!("\"node[99999999999]\": {known}");
        assert!(said.contains(&wanted), "of {name}: {said:?}");
    }
    let dotted = errors(load_with(
        &place.file("d.toml", "\"drain.grace\" = \"3s\""),
        &[],
    ));
    assert!(
        dotted.contains(&format!("\"drain.grace\": {known}")),
        "{dotted:?}"
    );
}

//! From the answers of discovery to what is wanted.

use serde_json::json;

use super::*;

fn entry(id: &str) -> Value {
    json!({"id": id, "name": format!("Name of {id}"), "connector_priority_group": "DEFAULT",
        "config": {"connection": {"host": "rabbit", "vhost": "/", "use_ssl": false, "port": 5672,
            "user": "guest", "pass": "guest"},
        "listen": format!("listen_{id}"), "listen_exchange": "amqp.connector.exchange",
        "listen_callback_uri": null, "push": format!("push_{id}"),
        "push_exchange": "amqp.worker.exchange", "push_routing": format!("push_routing_{id}"),
        "dead_letter_routing": format!("dead_{id}")}})
}

fn all(connectors: &Value) -> BTreeMap<String, WantedNode> {
    discover(connectors, &Selection::default(), &BTreeMap::new())
        .unwrap()
        .nodes
}

#[test]
fn each_connector_has_its_push_queue() {
    let nodes = all(&json!([entry("a"), entry("b")]));
    assert_eq!(nodes.keys().collect::<Vec<_>>(), ["push_a", "push_b"]);
    assert_eq!(
        nodes["push_a"].role,
        Role::Push {
            exchange: "amqp.worker.exchange".into(),
            routing_key: "push_routing_a".into(),
            dead_letter: Some(("amqp.connector.exchange".into(), "dead_a".into())),
        }
    );
}

#[test]
fn a_callback_adds_the_listen_queue() {
    let mut connector = entry("a");
    connector["config"]["listen_callback_uri"] = "http://connector:7070/cb".into();
    connector["connector_priority_group"] = "REALTIME".into();
    let nodes = all(&json!([connector]));
    let Role::Listen { callback } = &nodes["listen_a"].role else {
        panic!("{nodes:?}");
    };
    assert_eq!(callback.as_str(), "http://connector:7070/cb");
    assert!(nodes["listen_a"].connector.realtime);
}

#[test]
fn a_bad_callback_costs_the_listen_queue_alone_and_not_what_was_there() {
    let mut connector = entry("a");
    connector["config"]["listen_callback_uri"] = "ftp://connector/cb".into();
    let answer = json!([connector, entry("b")]);
    let selection = Selection::default();
    let found = discover(&answer, &selection, &BTreeMap::new()).unwrap();
    assert_eq!(found.nodes.keys().collect::<Vec<_>>(), ["push_a", "push_b"]);
    assert_eq!(
        found.broken,
        [r#"connector a: its callback "ftp://connector/cb" is not an http URL"#]
    );
    connector["config"]["listen_callback_uri"] = "http://connector:7070/cb".into();
    let before = all(&json!([connector, entry("b")]));
    let found = discover(&answer, &selection, &before).unwrap();
    assert_eq!(found.nodes, before);
}

#[test]
fn useless_answers_change_nothing() {
    let before = BTreeMap::new();
    let answer = |value: &Value| discover(value, &Selection::default(), &before).unwrap_err();
    assert_eq!(answer(&json!([])), DiscoveryError::Empty);
    assert_eq!(answer(&json!(null)), DiscoveryError::NoList);
    assert!(matches!(
        answer(&json!([{"id": "a"}, null])),
        DiscoveryError::AllBroken { count: 2, .. }
    ));
}

#[test]
fn a_broken_connector_keeps_what_it_had_and_stops_nobody() {
    let before = all(&json!([entry("a"), entry("b"), entry("gone")]));
    let mut broken = entry("a");
    broken["config"]["connection"] = Value::Null;
    let found = discover(
        &json!([broken, entry("b"), entry("new")]),
        &Selection::default(),
        &before,
    )
    .unwrap();
    assert_eq!(
        found.nodes.keys().collect::<Vec<_>>(),
        ["push_a", "push_b", "push_new"]
    );
    assert!(
        found.broken[0].starts_with("connector a: "),
        "{:?}",
        found.broken
    );
}

#[test]
fn a_connector_that_cannot_be_told_removes_nobody() {
    let before = all(&json!([entry("a"), entry("b")]));
    let found = discover(&json!([null, entry("b")]), &Selection::default(), &before).unwrap();
    assert_eq!(found.nodes.keys().collect::<Vec<_>>(), ["push_a", "push_b"]);
}

#[test]
fn only_and_except_go_by_id_name_or_type() {
    let mut typed = entry("c");
    typed["connector_type"] = "EXTERNAL_IMPORT".into();
    let answer = json!([entry("a"), entry("b"), typed]);
    let nodes = |only: &[&str], except: &[&str]| {
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        let selection = Selection {
            only: words(only),
            except: words(except),
        };
        let found = discover(&answer, &selection, &BTreeMap::new()).unwrap();
        let queues: Vec<_> = found.nodes.into_keys().collect();
        (queues.join(" "), found.unmatched.join(" "))
    };
    assert_eq!(nodes(&["A"], &[]), ("push_a".into(), String::new()));
    assert_eq!(
        nodes(&[], &["name of B", "external_import"]),
        ("push_a".into(), String::new())
    );
    assert_eq!(
        nodes(&["a", "typo"], &["a"]),
        (String::new(), "typo".into())
    );
}

#[test]
fn a_brokers_port_may_be_text_or_absent() {
    for (port, tls, expected) in [
        (json!("5673"), false, 5673),
        (json!(null), true, 5671),
        (json!(null), false, 5672),
    ] {
        let mut connector = entry("a");
        connector["config"]["connection"]["port"] = port;
        connector["config"]["connection"]["use_ssl"] = tls.into();
        assert_eq!(all(&json!([connector]))["push_a"].broker.key.port, expected);
    }
}

#[test]
fn a_new_password_is_a_change() {
    let mut changed = entry("a");
    changed["config"]["connection"]["pass"] = "other".into();
    assert_ne!(all(&json!([entry("a")])), all(&json!([changed])));
    assert_eq!(all(&json!([entry("a")])), all(&json!([entry("a")])));
}

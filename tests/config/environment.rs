//! Variables over the file.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use tidegate::config::{HandlerSettings, Slots};

use super::{errors, node, toml};

#[test]
fn a_variable_sets_a_key_of_any_sort() {
    let variables = [
        ("TIDEGATE__BROKER__URL", "amqp://u:p@elsewhere/v"),
        ("tidegate__drain__grace", "3s"),
        ("TIDEGATE__STATUS__ENABLED", "False"),
        ("TIDEGATE__WORKER__HTTP", "off"),
        ("TIDEGATE__NODE__0__CONCURRENCY", "4"),
        ("TIDEGATE__NODE__0__MAX_BODY", "1MiB"),
        ("TIDEGATE__NODE__0__RETRY__MAX", "7s"),
        ("TIDEGATE__POOL__SHARED__SLOTS", "12"),
        ("TIDEGATE_LOG", "debug"),
        ("PATH", "/bin"),
    ];
    let settings = toml(&node(""), &variables).unwrap();
    assert_eq!(settings.broker.host, "elsewhere");
    assert_eq!(settings.drain.grace, Duration::from_secs(3));
    assert!(!settings.status.enabled);
    assert_eq!(settings.worker.http, None);
    assert_eq!(settings.nodes[0].slots, Slots::Own(4));
    assert_eq!(settings.nodes[0].prefetch, 8);
    assert_eq!(settings.nodes[0].max_body, 1 << 20);
    assert_eq!(settings.nodes[0].retry.max, Duration::from_secs(7));
    assert_eq!(settings.nodes[0].retry.max_attempts, 5);
    assert_eq!(settings.pools["shared"].slots, 12);
}

#[test]
fn variables_alone_configure_a_worker() {
    let variables = [
        ("TIDEGATE__BROKER__URL", "amqp://localhost"),
        ("TIDEGATE__NODE__1__QUEUE", "second"),
        (
            "TIDEGATE__NODE__1__HANDLER__EXEC__COMMAND",
            "[\"sort\", \"-u\"]",
        ),
        ("TIDEGATE__NODE__1__HANDLER__EXEC__ENV__Lang", "{\"a\":1}"),
        ("TIDEGATE__NODE__0__QUEUE", "first"),
        (
            "TIDEGATE__NODE__0__HANDLER__HTTP__URL",
            "http://localhost:9000/",
        ),
        (
            "TIDEGATE__NODE__0__BIND",
            "[{\"exchange\": \"x\", \"key\": \"\"}]",
        ),
    ];
    let settings = toml("", &variables).unwrap();
    assert_eq!(settings.nodes[0].queue, "first");
    assert_eq!(settings.nodes[0].bind[0].exchange, "x");
    let Some(HandlerSettings::Exec(exec)) = &settings.nodes[1].handler else {
        panic!("the second node runs a command");
    };
    assert_eq!(exec.command, ["sort", "-u"]);
    assert_eq!(exec.env["Lang"].expose_secret(), "{\"a\":1}");
}

#[test]
fn ten_and_more_nodes_keep_their_order() {
    let names: Vec<String> = (0..12)
        .map(|i| format!("TIDEGATE__NODE__{i}__QUEUE"))
        .collect();
    let queues: Vec<String> = (0..12).map(|i| format!("q{i}")).collect();
    let logs: Vec<String> = (0..12)
        .map(|i| format!("TIDEGATE__NODE__{i}__HANDLER__LOG"))
        .collect();
    let mut variables: Vec<(&str, &str)> = names
        .iter()
        .zip(&queues)
        .map(|(name, queue)| (name.as_str(), queue.as_str()))
        .collect();
    variables.extend(logs.iter().map(|name| (name.as_str(), "{}")));
    let settings = toml("broker.url = \"amqp://h\"", &variables).unwrap();
    let read: Vec<&str> = settings
        .nodes
        .iter()
        .map(|node| node.queue.as_str())
        .collect();
    assert_eq!(read, queues);
}

#[test]
fn a_wrong_variable_is_named() {
    let rows = [
        (
            ("TIDEGATE__NODE__0__CONCURRENCY", "many"),
            "node[0].concurrency = \"many\" (from TIDEGATE__NODE__0__CONCURRENCY): must be a whole number from 1 to 10000",
        ),
        (
            ("TIDEGATE__NODE__0__CONCURENCY", "4"),
            "node[0].concurency (from TIDEGATE__NODE__0__CONCURENCY): unknown key; did you mean \"concurrency\"?",
        ),
        (
            ("TIDEGATE__BROKER__URL", "amqp://u:secret@h:x"),
            "broker.url (from TIDEGATE__BROKER__URL): is not a URL such as amqp://user:password@host:5672/vhost: invalid port number",
        ),
        (
            ("TIDEGATE__NODE__2__QUEUE", "later"),
            "node[2] (from TIDEGATE__NODE__2__QUEUE): the next element is number 1",
        ),
        (
            ("TIDEGATE__NODE__FIRST__QUEUE", "x"),
            "node.first (from TIDEGATE__NODE__FIRST__QUEUE): node is a list: its elements are numbered, from 0",
        ),
        (
            ("TIDEGATE__NODE__0__QUEUE__NAME", "x"),
            "node[0].queue.name (from TIDEGATE__NODE__0__QUEUE__NAME): node[0].queue is a string, which has no keys",
        ),
        (
            ("TIDEGATE__NODE__0__RETRY", "3"),
            "node[0].retry (from TIDEGATE__NODE__0__RETRY): must be a table, not a string; a variable holds it as JSON",
        ),
        (
            ("TIDEGATE__DRAIN____GRACE", "3s"),
            "TIDEGATE__DRAIN____GRACE: has an empty part; write TIDEGATE__SECTION__KEY",
        ),
        (
            ("TIDEGATE__DRAIN__GRACE", "30"),
            "drain.grace = \"30\" (from TIDEGATE__DRAIN__GRACE): needs a unit, such as \"25s\"",
        ),
    ];
    for (variable, message) in rows {
        assert_eq!(errors(toml(&node(""), &[variable])), [message]);
    }
}

#[test]
fn two_variables_for_one_key_are_an_error() {
    let both = [
        ("TIDEGATE__DRAIN__GRACE", "3s"),
        ("TIDEGATE__DRAIN__grace", "4s"),
    ];
    let message = "drain.grace (from TIDEGATE__DRAIN__grace): is set by two variables whose names differ in case only";
    assert_eq!(errors(toml(&node(""), &both)), [message]);
}

#[test]
fn a_variable_for_a_whole_table_comes_before_one_for_its_key() {
    let variables = [
        ("TIDEGATE__NODE__0__RETRY__MAX", "9s"),
        (
            "TIDEGATE__NODE__0__RETRY",
            "{\"max\": \"8s\", \"max_attempts\": 2}",
        ),
    ];
    let settings = toml(&node(""), &variables).unwrap();
    assert_eq!(settings.nodes[0].retry.max, Duration::from_secs(9));
    assert_eq!(settings.nodes[0].retry.max_attempts, 2);
}

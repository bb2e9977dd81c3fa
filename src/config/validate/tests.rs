//! Settings made in code keep the rules, or an error says which one is broken.

use std::time::Duration;

use super::*;
use crate::config::{DeadLetterSettings, PoolSettings, QueueType};

fn settings() -> Settings {
    let broker = BrokerSettings::from_url("amqp://localhost").expect("a URL");
    let mut settings = Settings::new(broker);
    settings.nodes.push(NodeSettings::new("orders"));
    settings
}

/// The errors of the settings after `change`.
fn errors(change: impl FnOnce(&mut Settings)) -> Vec<String> {
    let mut settings = settings();
    change(&mut settings);
    let errors = settings.validate().expect_err("a rule is broken");
    errors.errors().iter().map(ToString::to_string).collect()
}

fn of_node(change: impl FnOnce(&mut NodeSettings)) -> Vec<String> {
    errors(|settings| change(&mut settings.nodes[0]))
}

#[test]
fn the_defaults_keep_every_rule() {
    assert_eq!(settings().validate(), Ok(()));
    assert_eq!(NodeSettings::new("orders").validate(), Ok(()));
}

#[test]
fn durations_that_would_break_a_worker_are_refused() {
    let rule = "must be from 10ms to 24h";
    let zero = Duration::ZERO;
    assert_eq!(
        of_node(|node| node.retry.min = zero),
        [format!("node[\"orders\"].retry.min = 0ns: {rule}")]
    );
    assert_eq!(
        of_node(|node| node.timeout = zero),
        [format!("node[\"orders\"].timeout = 0ns: {rule}")]
    );
    assert_eq!(
        of_node(|node| node.hold_max = Duration::MAX),
        [format!(
            "node[\"orders\"].hold_max = {:?}: {rule}",
            Duration::MAX
        )]
    );
    assert_eq!(
        errors(|settings| settings.drain.grace = zero),
        ["drain.grace = 0ns: must be from 1s to 24h"]
    );
    assert_eq!(
        errors(|settings| settings.broker.heartbeat = Duration::from_millis(1_500)),
        ["broker.heartbeat = 1.5s: must be whole seconds"]
    );
}

#[test]
fn the_shorter_of_two_durations_must_be_the_shorter() {
    assert_eq!(
        of_node(|node| node.retry.min = Duration::from_mins(10)),
        [r#"node["orders"].retry.min = 600s: must not be longer than max, which is 5m"#]
    );
    assert_eq!(
        errors(|settings| settings.heartbeat.idle = Duration::from_mins(1)),
        ["heartbeat.busy = 300s: must not be longer than idle, which is 1m"]
    );
}

#[test]
fn numbers_that_no_worker_can_work_with_are_refused() {
    let found = of_node(|node| {
        node.slots = Slots::Own(0);
        node.prefetch = 0;
        node.retry.max_attempts = 0;
        node.max_body = 0;
    });
    assert_eq!(
        found,
        [
            r#"node["orders"].concurrency = 0: must be a whole number from 1 to 10000"#,
            r#"node["orders"].prefetch = 0: must be a whole number from 1 to 65535"#,
            r#"node["orders"].max_body = 0: must be from 1 B to 512.0 MiB"#,
            r#"node["orders"].retry.max_attempts = 0: must be a whole number from 1 to 1000"#,
        ]
    );
    let pool = PoolSettings {
        slots: 0,
        overflow: Some("other".to_owned()),
    };
    let found = errors(|settings| {
        settings.pools.insert("shared".to_owned(), pool);
    });
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn names_that_the_broker_refuses_are_refused_here() {
    let long = "q".repeat(256);
    assert_eq!(of_node(|node| node.queue = String::new()).len(), 1);
    assert_eq!(of_node(|node| node.queue = long.clone()).len(), 1);
    assert_eq!(
        of_node(|node| node.queue = "amq.orders".to_owned()).len(),
        1
    );
    assert_eq!(
        of_node(|node| node.dead_letter.routing_key = long.clone()).len(),
        1
    );
    let own = |node: &mut NodeSettings| {
        node.dead_letter = DeadLetterSettings {
            exchange: String::new(),
            routing_key: "orders".to_owned(),
        };
    };
    assert_eq!(of_node(own).len(), 1);
    assert_eq!(
        errors(|settings| settings.worker.name = "a.b".to_owned()).len(),
        1
    );
    assert_eq!(
        errors(|settings| settings.status.control = settings.status.exchange.clone()),
        [r#"status.control = "tidegate.status": must differ from exchange"#]
    );
}

#[test]
fn what_belongs_together_is_checked_together() {
    let twice = errors(|settings| settings.nodes.push(NodeSettings::new("orders")));
    assert_eq!(
        twice,
        [r#"node["orders"].queue = "orders": another node consumes it already"#]
    );
    let missing = of_node(|node| node.slots = Slots::Pool("shared".to_owned()));
    assert_eq!(missing, [r#"node["orders"].pool = "shared": unknown pool"#]);
    let delayed = of_node(|node| {
        node.kind = QueueType::Classic;
        node.delayed_retry = true;
    });
    assert_eq!(delayed.len(), 1, "{delayed:?}");
}

#[test]
fn no_error_shows_a_secret() {
    let found = errors(|settings| {
        settings.broker.password = "hunter2\0".to_owned().into();
        settings.fleet.token = Some("hunter2".to_owned().into());
        settings.nodes[0].handler = Some(HandlerSettings::Exec(ExecSettings {
            command: vec!["send".to_owned(), "hunter2\0".to_owned()],
            directory: None,
            env: [("KEY".to_owned(), "hunter2\0".to_owned().into())].into(),
        }));
    });
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|text| !text.contains("hunter2")));
}

//! Queues that exist are used as they are, and only what is missing is declared.

use lapin::types::AMQPValue;
use serde_json::Value;

use crate::harness::gate::Gate;
use crate::harness::run;
use crate::harness::status::StatusTap;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

async fn queue(vhost: &Vhost, name: &str) -> Value {
    let path = format!("/api/queues/{}/{name}", vhost.name());
    vhost.management().get(&path).await.unwrap()
}

const RETRY: &str =
    "concurrency = 2\npriority = 5\nretry = { max_attempts = 2, min = \"10ms\", max = \"10ms\" }";

#[tokio::test(flavor = "multi_thread")]
async fn an_existing_queue_with_other_arguments_is_worked_as_it_is() {
    let number = AMQPValue::LongLongInt;
    let classic = [
        ("x-queue-type", text("classic")),
        ("x-max-priority", number(3)),
        ("x-message-ttl", number(600_000)),
        ("x-dead-letter-exchange", text("it's 'theirs'")),
        ("x-overflow", text("reject-publish")),
    ];
    let quorum = [
        ("x-queue-type", text("quorum")),
        ("x-delivery-limit", number(7)),
        ("x-max-length", number(1_000)),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
        ("x-dead-letter-strategy", text("at-most-once")),
    ];
    for (kind, arguments) in [("classic", classic), ("quorum", quorum)] {
        // What is configured differs in every respect.
        let configured = if kind == "classic" {
            "quorum"
        } else {
            "classic"
        };
        let vhost = Vhost::new().await;
        vhost.declare_with("orders", arguments).await;
        // Its dead letters go to a queue that is there already, too.
        let limited = [("x-max-length", number(50))];
        vhost.declare_with("orders.dead", limited).await;
        vhost.publish("orders", 5).await;
        let before = queue(&vhost, "orders").await["arguments"].clone();
        let tap = StatusTap::start(&vhost).await;
        let gate = Gate::open().await;
        gate.answer(|request| match (request.id.as_str(), request.attempt) {
            ("1", 1) => 503,
            ("2", _) => 400,
            _ => 200,
        });
        let lines = format!("max_length = 5000\n{RETRY}");
        let config = WorkerConfig::new(vhost.url()).declaring_node(
            "orders",
            configured,
            &gate.url(),
            &lines,
        );
        let mut worker = Worker::ready(&config).await;
        let line = worker
            .logged("the queue differs from the configuration; it is used as it is")
            .await;
        let differences = line.text("differences");
        let expected = format!("x-queue-type is \"{kind}\", not \"{configured}\"");
        assert!(differences.contains(&expected), "{differences}");
        assert!(differences.contains("x-max-length is "), "{differences}");
        gate.finished(6).await;
        vhost.until_ready("orders.dead", 1).await;
        let state = tap.state("running").await;
        assert_eq!(state.json["nodes"][0]["type"], kind);
        let consuming = worker.logged("consuming").await;
        let single = consuming.0["single_active_consumer"].as_bool();
        assert_eq!(single, Some(kind == "quorum"), "{consuming:?}");
        worker.drained().await;
        assert_eq!(queue(&vhost, "orders").await["arguments"], before);
        assert_eq!(vhost.ready("orders").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_queue_gets_the_arguments_and_the_consumer_its_priority() {
    let vhost = Vhost::new().await;
    let gate = Gate::open().await;
    let lines =
        format!("arguments = {{ x-overflow = \"reject-publish\", x-expires = 60000 }}\n{RETRY}");
    let config =
        WorkerConfig::new(vhost.url()).declaring_node("orders", "quorum", &gate.url(), &lines);
    let mut worker = Worker::ready(&config).await;
    let arguments = &queue(&vhost, "orders").await["arguments"];
    assert_eq!(arguments["x-overflow"], "reject-publish");
    assert_eq!(arguments["x-expires"], 60_000);
    assert_eq!(arguments["x-queue-type"], "quorum");
    let path = format!("/api/consumers/{}", vhost.name());
    eventually("the consumer has its priority", async || {
        let consumers = vhost.management().get(&path).await?;
        let consumers = consumers.as_array().cloned().unwrap_or_default();
        let found = consumers
            .iter()
            .find(|consumer| consumer["queue"]["name"] == "orders");
        let priority = found.map(|consumer| consumer["arguments"]["x-priority"].clone());
        expect_that(priority == Some(5.into()), || format!("{consumers:?}"))
    })
    .await;
    worker.drained().await;
}

/// The name and the state of each item that `tidegate declare` lists.
async fn declare(config: &std::path::Path, arguments: &[&str]) -> (Option<i32>, Vec<String>) {
    let config = config.to_str().unwrap();
    let arguments = [&["declare", "-c", config, "--json"], arguments].concat();
    let run = run::ended(run::spawn(&arguments)).await;
    let items = run.json()["items"].as_array().unwrap().clone();
    let items = items.iter().map(|item| {
        let text = |key: &str| item[key].as_str().unwrap().to_owned();
        format!("{} {}", text("name"), text("state"))
    });
    (run.code, items.collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn declare_creates_what_a_worker_needs_that_declares_nothing() {
    for kind in ["classic", "quorum"] {
        let vhost = Vhost::new().await;
        vhost
            .declare_with("orders", [("x-queue-type", text(kind))])
            .await;
        let gate = Gate::open().await;
        gate.answer(|request| if request.attempt == 1 { 503 } else { 400 });
        let config = WorkerConfig::for_orders(vhost.url(), &gate, RETRY);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("worker.toml");
        std::fs::write(&file, config.toml()).unwrap();

        let listed = |state: &str| {
            let mut items = vec!["orders exists".to_owned()];
            let companions = ["orders.dead", "orders.retry.10"];
            items.extend(companions.map(|name| format!("{name} {state}")));
            items
        };
        let (code, items) = declare(&file, &["--dry-run"]).await;
        assert_eq!(code, Some(0), "{items:?}");
        assert_eq!(items[2..], listed("missing"));
        assert_eq!(vhost.facts("orders.dead").await, None, "it was a dry run");
        let (code, items) = declare(&file, &[]).await;
        assert_eq!(code, Some(0), "{items:?}");
        assert_eq!(items[2..], listed("created"));
        let dead = queue(&vhost, "orders.dead").await;
        assert_eq!(dead["type"], kind);
        let delay = queue(&vhost, "orders.retry.10").await;
        let expires = &delay["arguments"]["x-expires"];
        assert!(expires.is_null(), "nobody declares it again: {delay}");
        let (_, items) = declare(&file, &[]).await;
        assert_eq!(items[2..], listed("exists"));

        vhost.publish("orders", 1).await;
        let mut worker = Worker::ready(&config).await;
        gate.finished(2).await;
        vhost.until_ready("orders.dead", 1).await;
        worker.drained().await;

        // A worker that declares takes them as they are.
        let config =
            WorkerConfig::new(vhost.url()).declaring_node("orders", kind, &gate.url(), RETRY);
        vhost.publish("orders", 1).await;
        let mut worker = Worker::ready(&config).await;
        gate.finished(4).await;
        vhost.until_ready("orders.dead", 2).await;
        worker.drained().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn declare_names_what_it_will_not_create() {
    let vhost = Vhost::new().await;
    vhost
        .declare_with("events", [("x-queue-type", text("stream"))])
        .await;
    let gate = Gate::open().await;
    let elsewhere =
        "dead_letter = { exchange = \"theirs\", routing_key = \"\" }\nretry = { max_attempts = 1 }";
    vhost.declare("bills", "quorum").await;
    let config = WorkerConfig::new(vhost.url())
        .http_node("missing", &gate.url(), "")
        .http_node("events", &gate.url(), "")
        .http_node("bills", &gate.url(), elsewhere);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("worker.toml");
    std::fs::write(&file, config.toml()).unwrap();
    let (code, items) = declare(&file, &[]).await;
    assert_eq!(code, Some(1));
    assert_eq!(
        items[2..],
        [
            "missing failed",
            "events failed",
            "bills exists",
            "theirs failed"
        ]
    );
    assert_eq!(vhost.facts("missing").await, None);
    assert_eq!(vhost.facts("events.dead").await, None);
}

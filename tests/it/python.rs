//! A worker in another language, examples/python, as the fleet sees it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tidegate::internal::status::control::Reply;
use tidegate::lifecycle::Phase;

use crate::harness::commander::Commander;
use crate::harness::gate::Gate;
use crate::harness::status::{StatusMessage, StatusTap};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::Worker;

/// A Python that has pika.
fn python() -> PathBuf {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    let candidates = [
        PathBuf::from("python3"),
        PathBuf::from("/usr/bin/python3"),
        root.join("target/python/bin/python"),
    ];
    let has_pika = |python: &PathBuf| {
        let import = Command::new(python).args(["-c", "import pika"]).output();
        import.is_ok_and(|output| output.status.success())
    };
    let found = candidates.into_iter().find(has_pika);
    found.expect("a Python with pika is needed: scripts/test sees to it")
}

/// The example, consuming `orders` of `vhost` and posting to `gate`.
async fn started(vhost: &Vhost, gate: &Gate, tap: &StatusTap) -> (Worker, String) {
    let mut command = tokio::process::Command::new(python());
    let script =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("examples/python/worker.py");
    command
        .arg(script)
        .args(["--queue", "orders", "--url", gate.url().as_str()])
        .args(["--name", "py-1", "--slots", "3", "--beat", "0.5"])
        .args(["--grace", "60"])
        .env("AMQP_URL", vhost.url().as_str())
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let worker = Worker::run(command);
    (worker, tap.running_id().await)
}

fn ok(reply: &Reply, phase: Phase) {
    assert!(reply.ok, "{reply:?}");
    assert_eq!(reply.phase, phase);
}

/// Everything that was answered and everything that is left, each once, is everything.
async fn all_accounted_for(vhost: &Vhost, gate: &Gate, count: usize) {
    let left = vhost.take_ids("orders").await;
    let done = gate.ids();
    let all: BTreeSet<&String> = done.iter().chain(&left).collect();
    assert_eq!(all.len(), count, "none is lost");
    assert_eq!(done.len() + left.len(), count, "none is done twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_python_appears_beats_and_obeys_a_drain() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 30).await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::closed().await;
    let (mut worker, id) = started(&vhost, &gate, &tap).await;
    gate.release(4);
    gate.finished(4).await;
    gate.started(7).await;
    let beat = tap
        .seen("a beat", |message| {
            message.kind() == "beat" && message.json["nodes"][0]["done"] == 4
        })
        .await;
    assert_eq!(beat.json["load"], 1.0);
    let commander = Commander::new(&vhost).await;
    let ping = json!({"command": "ping"});
    ok(&commander.command(&id, &ping).await, Phase::Running);
    let states = tap.of_kind("state").len();
    ok(
        &commander.command(&id, &json!({"command": "report"})).await,
        Phase::Running,
    );
    eventually("the state is said again", async || {
        let count = tap.of_kind("state").len();
        expect_that(count > states, || format!("{count}"))
    })
    .await;
    let fly = commander.command(&id, &json!({"command": "fly"})).await;
    assert_eq!(
        (fly.ok, fly.error.as_deref()),
        (
            false,
            Some("command = 'fly': this worker obeys drain, report, cadence, ping")
        )
    );

    let pace =
        json!({"command": "cadence", "interval_ms": 20_000, "for_ms": 600_000, "by": "test"});
    ok(&commander.command(&id, &pace).await, Phase::Running);
    tap.seen("a beat at the requested pace", |message| {
        message.kind() == "beat" && message.json["lease_ms"] == 60_000
    })
    .await;
    let wrong = json!({"command": "cadence", "interval_ms": 0, "for_ms": 1});
    let refused = commander.command(&id, &wrong).await;
    assert!(!refused.ok, "{refused:?}");

    let drain = json!({"v": 1, "command": "drain", "reason": "deploy\n42"});
    ok(&commander.command(&id, &drain).await, Phase::Draining);
    ok(&commander.command(&id, &drain).await, Phase::Draining);
    let draining = tap.state("draining").await;
    assert_eq!(draining.json["reason"], "command: deploy 42");
    vhost.until_ready("orders", 30 - 4 - 3).await;
    ok(&commander.command(&id, &ping).await, Phase::Draining);
    // What a platform does to a worker that is still there.
    worker.terminate();
    gate.release_all();
    assert_eq!(worker.ended().await.code, Some(0));
    let report = tap.drain().await.json;
    assert_eq!(report["outcome"], "clean");
    assert_eq!(report["finished"], 3);
    assert_eq!(
        (&report["interrupted"], &report["unconfirmed"]),
        (&json!(0), &json!(0))
    );
    let messages = tap.messages();
    messages.iter().for_each(StatusMessage::obeys_its_schema);
    let place = |found: &dyn Fn(&StatusMessage) -> bool| messages.iter().rposition(found).unwrap();
    let last_beat = place(&|message| message.kind() == "beat");
    let first_draining = messages
        .iter()
        .position(|message| message.phase() == "draining");
    assert!(Some(last_beat) < first_draining, "a beat came in the drain");
    assert_eq!(messages.last().unwrap().kind(), "drain");
    all_accounted_for(&vhost, &gate, 30).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_in_python_drains_on_sigterm_under_load() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    vhost.publish("orders", 300).await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::open().await;
    let (mut worker, _id) = started(&vhost, &gate, &tap).await;
    gate.finished(20).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    assert_eq!(tap.drain().await.json["reason"], "SIGTERM");
    all_accounted_for(&vhost, &gate, 300).await;
}

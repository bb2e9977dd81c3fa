//! Commands to a running worker: what it does, what it answers, what it refuses.

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, connection};
use serde_json::{Value, json};
use tidegate::internal::status::control::{COMMAND_TYPE, Reply};
use tidegate::lifecycle::Phase;

use crate::harness::commander::Commander;
use crate::harness::gate::Gate;
use crate::harness::management::segment;
use crate::harness::scene::{listening_worker, proxied_worker};
use crate::harness::status::{StatusMessage, StatusTap};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

fn ok(reply: &Reply, phase: Phase) {
    assert!(reply.ok, "{reply:?}");
    assert_eq!((reply.phase, reply.error.as_deref()), (phase, None));
}

fn refused(reply: &Reply, phase: Phase, error: &str) {
    assert!(!reply.ok, "{reply:?}");
    assert_eq!((reply.phase, reply.error.as_deref()), (phase, Some(error)));
}

fn command(word: &str) -> Value {
    json!({"v": 1, "command": word})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_paused_and_resumed_and_says_so() {
    let (vhost, tap, gate, mut worker) = listening_worker("").await;
    let id = tap.running_id().await;
    let commander = Commander::new(&vhost).await;
    let reply = commander.command(&id, &command("ping")).await;
    ok(&reply, Phase::Running);
    assert_eq!(
        (reply.v, &reply.worker, reply.command.as_str()),
        (1, &id, "ping")
    );

    let pause = json!({"command": "pause", "reason": "the database moves"});
    ok(&commander.command(&id, &pause).await, Phase::Paused);
    worker.until_readiness(503).await;
    let (_, why) = worker.get("/readyz").await.unwrap();
    assert_eq!(why, "the worker is paused\n");
    let paused = tap.state("paused").await.json;
    assert_eq!(paused["reason"], "command: the database moves");
    vhost.until_consumers("orders", 0).await;
    vhost.publish("orders", 2).await;
    ok(&commander.command(&id, &pause).await, Phase::Paused);
    assert_eq!(vhost.ready("orders").await, 2);

    ok(
        &commander.command(&id, &command("resume")).await,
        Phase::Running,
    );
    gate.finished(2).await;
    worker.until_ready().await;
    let mark = paused["seq"].as_u64();
    let resumed = tap
        .seen("running again", |message| {
            message.phase() == "running" && message.json["seq"].as_u64() > mark
        })
        .await;
    assert_eq!(resumed.json.get("reason"), None);
    ok(
        &commander.command(&id, &command("resume")).await,
        Phase::Running,
    );

    ok(
        &commander.command(&id, &command("pause")).await,
        Phase::Paused,
    );
    tap.seen("paused without a reason", |message| {
        message.json["reason"] == "command" && message.phase() == "paused"
    })
    .await;
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_drain_is_a_drain_and_nothing_but_a_second_signal_aborts_it() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 6).await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "concurrency = 2\nprefetch = 4");
    let mut worker = Worker::listening(&config).await;
    gate.started(2).await;
    let id = tap.running_id().await;
    let commander = Commander::new(&vhost).await;
    let drain = json!({"command": "drain", "reason": "deploy\u{7} 42"});
    ok(&commander.command(&id, &drain).await, Phase::Draining);
    vhost.until_ready("orders", 4).await;
    let draining = tap.state("draining").await.json;
    assert_eq!(draining["reason"], "command: deploy 42");
    let again = json!({"command": "drain", "reason": "again"});
    ok(&commander.command(&id, &again).await, Phase::Draining);
    ok(
        &commander.command(&id, &command("ping")).await,
        Phase::Draining,
    );
    refused(
        &commander.command(&id, &command("pause")).await,
        Phase::Draining,
        "phase = draining: only a running worker can be paused",
    );
    refused(
        &commander.command(&id, &command("resume")).await,
        Phase::Draining,
        "phase = draining: only a paused worker can be resumed",
    );
    // What a platform does when it finds the worker still there.
    worker.terminate();
    worker
        .logged("ignored: the worker is draining already")
        .await;
    let mark = draining["seq"].as_u64();
    ok(
        &commander.command(&id, &command("report")).await,
        Phase::Draining,
    );
    tap.seen("the state once more", |message| {
        message.phase() == "draining" && message.json["seq"].as_u64() > mark
    })
    .await;
    gate.release_all();
    let report = worker.ended_with(0).await;
    assert_eq!(report.text("reason"), "command: deploy 42");
    assert_eq!(report.number("finished"), 2);
    assert_eq!(tap.drain().await.json["reason"], "command: deploy 42");
    // The broker removes the queue a moment after it has confirmed the connection's end.
    let key = format!("worker.{id}");
    eventually("no worker, no queue", async || {
        let sent = commander.send(&key, None, b"{}".to_vec()).await;
        expect_that(sent == Err("NO_ROUTE".to_owned()), || format!("{sent:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_command_reaches_all_workers() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let gate = Gate::open().await;
    let mut workers = Vec::new();
    for name in ["a", "b", "c"] {
        let config = WorkerConfig::for_orders(vhost.url(), &gate, "").name(name);
        workers.push(Worker::listening(&config).await);
    }
    let commander = Commander::new(&vhost).await;
    let drain = json!({"command": "drain"}).to_string().into_bytes();
    let sent = commander
        .send("all", Some(COMMAND_TYPE), drain)
        .await
        .unwrap();
    let replies = commander.replies(&sent, 3).await;
    for reply in &replies {
        ok(reply, Phase::Draining);
    }
    for worker in &mut workers {
        let report = worker.ended_with(0).await;
        assert_eq!(report.text("reason"), "command");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_command_gets_an_error_and_a_log_line() {
    let (vhost, tap, _gate, mut worker) = listening_worker("").await;
    let id = tap.running_id().await;
    let commander = Commander::new(&vhost).await;
    let key = format!("worker.{id}");
    let huge = vec![b'x'; 20_000];
    for (kind, body, expected) in [
        (None, &b"\xff\xfe"[..], "body: must be a JSON object"),
        (None, b"", "body: must be a JSON object"),
        (None, b"7", "body = 7: must be a JSON object"),
        (None, &huge, "body = 20000 bytes: at most 16384"),
        (
            None,
            br#"{"command":"fly"}"#,
            "command = \"fly\": must be one of",
        ),
        (
            Some("other"),
            br#"{"command":"ping"}"#,
            "type = \"other\": must be",
        ),
        (
            Some(COMMAND_TYPE),
            br#"{"command":"cadence","interval_ms":-1,"for_ms":1}"#,
            "interval_ms = -1: must be a whole number from 1 to 3600000",
        ),
    ] {
        let sent = commander.send(&key, kind, body.to_vec()).await.unwrap();
        let reply = commander.replies(&sent, 1).await.remove(0);
        let error = reply.error.clone().unwrap_or_default();
        assert!(!reply.ok && error.starts_with(expected), "{reply:?}");
        assert_eq!(reply.phase, Phase::Running);
        let logged = worker.logged_where("the refusal", |line| {
            line.message() == "a command is refused" && line.text("error") == error
        });
        assert_eq!(logged.await.level(), "WARN");
    }
    ok(
        &commander.command(&id, &command("ping")).await,
        Phase::Running,
    );
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_is_the_whole_state_and_a_full_beat() {
    let seldom = "[heartbeat]\nbusy = \"1h\"\nidle = \"1h\"";
    let (vhost, tap, _gate, mut worker) = listening_worker(seldom).await;
    let id = tap.running_id().await;
    let before = tap.messages().len();
    let commander = Commander::new(&vhost).await;
    for round in 1..=2 {
        ok(
            &commander.command(&id, &command("report")).await,
            Phase::Running,
        );
        eventually("both come", async || {
            let count = tap.messages().len() - before;
            expect_that(count == 2 * round, || format!("{count}"))
        })
        .await;
    }
    let messages = tap.messages().split_off(before);
    let kinds: Vec<_> = messages.iter().map(StatusMessage::kind).collect();
    assert_eq!(kinds, ["state", "beat", "state", "beat"]);
    assert!(messages[1].json["full"] == true && messages[3].json["full"] == true);
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_obeyed_again_after_a_lost_connection_and_while_replies_cannot_go_out() {
    let (vhost, tap, proxy, _gate, mut worker) = proxied_worker("").await;
    worker.until_listening().await;
    let id = tap.running_id().await;
    let commander = Commander::new(&vhost).await;
    ok(
        &commander.command(&id, &command("ping")).await,
        Phase::Running,
    );
    proxy.cut();
    worker.logged("the connection to the broker is lost").await;
    worker.logged_times("listening for commands", 2).await;
    ok(
        &commander.command(&id, &command("ping")).await,
        Phase::Running,
    );

    let publish = proxy.log().connection_named("publish");
    let reason = "low on memory".into();
    let blocked = connection::AMQPMethod::Blocked(connection::Blocked { reason });
    proxy.inject(
        publish,
        AMQPFrame::Method(0, AMQPClass::Connection(blocked)),
    );
    let drain = command("drain").to_string().into_bytes();
    let key = format!("worker.{id}");
    // It may come before the news that the connection is blocked; the drain is obeyed anyway.
    commander
        .send(&key, Some(COMMAND_TYPE), drain)
        .await
        .unwrap();
    let report = worker.ended_with(0).await;
    assert_eq!(report.text("reason"), "command");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_status_there_is_no_control_either() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let gate = Gate::open().await;
    let config =
        WorkerConfig::for_orders(vhost.url(), &gate, "").tables("[status]\nenabled = false");
    let mut worker = Worker::ready(&config).await;
    let exchange = format!("/api/exchanges/{}/tidegate.control", segment(vhost.name()));
    assert_eq!(vhost.management().status(&exchange).await, Ok(404));
    worker.drained().await;
}

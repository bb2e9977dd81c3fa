//! What a worker says of itself: status messages, health, metrics.

use crate::harness::commander::Commander;
use crate::harness::gate::Gate;
use crate::harness::proxy::{Direction, Event, Proxy};
use crate::harness::scene::proxied_worker;
use crate::harness::status::{BEATS, StatusMessage, StatusTap};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_says_what_it_is_and_what_becomes_of_it() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::new(vhost.url())
        .name("web-1")
        .grace("7s")
        .http_node("orders", &gate.url(), "concurrency = 3\nprefetch = 9")
        .node("more", "type = \"classic\"\nhandler = { log = {} }");
    let mut worker = Worker::ready(&config).await;
    let running = tap.state("running").await.json;
    assert_eq!(running["name"], "web-1");
    assert_eq!(running["pid"], worker.pid().as_raw());
    assert!(running["worker"].as_str().unwrap().starts_with("web-1-01"));
    let mut orders = serde_json::json!({"queue": "orders", "handler": "http", "slots": 3,
                                        "prefetch": 9, "phase": "running"});
    if vhost.broker_is_at_least(4, 3).await {
        // Older brokers do not tell the type of a queue that is not declared here.
        orders["type"] = "quorum".into();
    }
    // The delays of its retries; the first node declares nothing.
    let delays = [
        1_000, 2_259, 5_102, 11_525, 26_031, 58_799, 132_815, 300_000,
    ];
    let more = serde_json::json!({"queue": "more", "type": "classic", "handler": "log", "slots": 8,
                                  "prefetch": 16, "retry_ms": delays, "phase": "running"});
    assert_eq!(running["nodes"], serde_json::json!([orders, more]));
    worker.drained().await;
    let draining = tap.state("draining").await.json;
    let deadline = draining["deadline_ms"].as_u64().unwrap();
    assert!((6_000..=7_000).contains(&deadline), "{deadline}");
    assert!(
        draining["lease_ms"].as_u64().unwrap() > deadline,
        "the silence of the drain is covered"
    );
    assert_eq!(draining["reason"], "SIGTERM");
    let drain = tap.drain().await.json;
    assert_eq!(drain["lease_ms"], 0, "it will not be heard from again");
    let messages = tap.messages();
    messages.iter().for_each(StatusMessage::obeys_its_schema);
    let sequence: Vec<_> = messages
        .iter()
        .map(|m| m.json["seq"].as_u64().unwrap())
        .collect();
    let expected: Vec<u64> = (1..=messages.len() as u64).collect();
    assert_eq!(sequence, expected);
    assert_eq!(messages.last().unwrap().kind(), "drain");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_four_messages_and_a_pause_and_a_resume_are_one_each_however_many_nodes() {
    let vhost = Vhost::new().await;
    let tap = StatusTap::start(&vhost).await;
    let mut config = WorkerConfig::new(vhost.url());
    for number in 0..100 {
        let queue = format!("q{number}");
        config = config.node(&queue, "type = \"classic\"\nhandler = { log = {} }");
    }
    let mut worker = Worker::listening(&config).await;
    let running = tap.state("running").await;
    assert_eq!(running.json["nodes"].as_array().unwrap().len(), 100);
    let id = running.json["worker"].as_str().unwrap();
    let commander = Commander::new(&vhost).await;
    let command = async |word: &str, phase: &str, count: usize| {
        let reply = commander
            .command(id, &serde_json::json!({"command": word}))
            .await;
        assert!(reply.ok, "{reply:?}");
        eventually(format_args!("it is {phase}"), async || {
            let phases = tap.phases();
            let told = phases.iter().filter(|told| *told == phase).count();
            expect_that(told == count, || format!("{phases:?}"))
        })
        .await;
    };
    command("pause", "paused", 1).await;
    command("resume", "running", 2).await;
    worker.drained().await;
    tap.drain().await;
    let mut phases = tap.phases();
    // A start that takes less than the time that changes are gathered in is one state.
    phases.retain(|phase| phase != "starting");
    assert_eq!(phases, ["running", "paused", "running", "draining"]);
    let count = tap.messages().len();
    assert!((5..=6).contains(&count), "{:?}", tap.messages());
    assert_eq!(tap.of_kind("drain").len(), 1);
    assert_eq!(tap.of_kind("beat").len(), 0);
    let nodes = |state: &StatusMessage| {
        let nodes = state.json["nodes"].as_array().unwrap().clone();
        nodes
            .iter()
            .map(|node| node["phase"].clone())
            .collect::<Vec<_>>()
    };
    for state in tap.of_kind("state") {
        let phase = state.json["phase"].clone();
        assert!(
            nodes(&state).iter().all(|node| *node == phase),
            "{}",
            state.json
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_says_its_state_anew_after_a_lost_connection_only_when_it_has_changed() {
    let (_vhost, tap, proxy, _gate, mut worker) = proxied_worker("").await;
    proxy.cut();
    worker.logged("the connection to the broker is lost").await;
    worker.until_ready().await;
    // Both connections are back.
    worker.logged_times("connected to the broker", 4).await;
    worker.drained().await;
    tap.drain().await;
    let phases = tap.phases();
    assert_eq!(
        phases.iter().filter(|phase| *phase == "running").count(),
        1,
        "{phases:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_status_exchange_everything_works_and_nothing_is_published() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 3).await;
    let tap = StatusTap::start(&vhost).await;
    let proxy = Proxy::start(vhost.url()).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(&proxy.url(vhost.url()), &gate, "")
        .tables("[status]\nenabled = false");
    let mut worker = Worker::ready(&config).await;
    gate.finished(3).await;
    worker.drained().await;
    assert!(tap.messages().is_empty());
    let names = proxy.log().connection_names();
    assert_eq!(names.len(), 2, "one to consume, one to publish: {names:?}");
    assert_eq!(vhost.ready("orders").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_metrics_tell_the_truth() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 5).await;
    let gate = Gate::closed().await;
    gate.answer(|request| if request.id == "1" { 500 } else { 200 });
    let config = WorkerConfig::new(vhost.url()).declaring_node(
        "orders",
        "quorum",
        &gate.url(),
        "concurrency = 2\nprefetch = 4\nretry = { min = \"1h\", max = \"1h\" }",
    );
    let mut worker = Worker::ready(&config).await;
    assert_eq!(
        worker.get("/livez").await.unwrap(),
        (200, "ok\n".to_owned())
    );
    gate.release(3);
    gate.finished(3).await;
    gate.started(5).await;
    // The copy of the one that is retried may take longer than what began after it.
    let lines = [
        r#"tidegate_deliveries_total{queue="orders",outcome="done"} 2"#,
        r#"tidegate_deliveries_total{queue="orders",outcome="retry"} 1"#,
        r#"tidegate_in_flight{queue="orders"} 2"#,
        r#"tidegate_slots{queue="orders"} 2"#,
        r#"tidegate_handler_seconds_count{queue="orders"} 3"#,
    ];
    worker.until_metrics(&lines).await;
    worker.terminate();
    worker.until_readiness(503).await;
    let (_, why) = worker.get("/readyz").await.unwrap();
    assert_eq!(why, "the worker is draining\n");
    assert_eq!(
        worker.get("/livez").await.unwrap().0,
        200,
        "a draining worker lives"
    );
    gate.release_all();
    worker.ended_with(0).await;
    let waiting = vhost.take_ids("orders.retry.3600000").await;
    assert_eq!(waiting, ["1"], "it waits for its retry");
    assert_eq!(vhost.take_all("orders").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_waits_for_a_status_connection_that_is_coming_back() {
    let (_vhost, tap, proxy, _gate, mut worker) = proxied_worker("").await;
    let hold = proxy.hold(Direction::ToBroker, |event| event.connects_as("publish"));
    let begun = proxy.now();
    proxy.cut();
    worker.logged("the channel is lost").await;
    worker.until_ready().await;
    hold.holds_one().await;
    worker.terminate();
    // The consume channel is closed: all that is left of the drain is its report.
    let closed = |event: &Event| event.seq > begun && event.is("channel.close-ok");
    proxy.seen("the consume channel's close-ok", closed).await;
    hold.release();
    let report = worker.ended_with(0).await;
    assert_eq!(report.0["published"], true);
    tap.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_status_connection_work_goes_on_and_a_drain_ends() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 3).await;
    let proxy = Proxy::start(vhost.url()).await;
    let _hold = proxy.hold(Direction::ToBroker, |event| event.connects_as("publish"));
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(&proxy.url(vhost.url()), &gate, "").tables(BEATS);
    let mut worker = Worker::ready(&config).await;
    gate.finished(3).await;
    let report = worker.drained().await;
    assert_eq!(report.number("unconfirmed"), 0);
    assert_eq!(report.0["published"], false);
    assert_eq!(vhost.ready("orders").await, 0);
}

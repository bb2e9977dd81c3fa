//! The connection, the channel or the queue is lost: in each phase, and above all in a drain.

use std::time::{Duration, Instant};

use crate::harness::broker::DedicatedBroker;
use crate::harness::gate::Gate;
use crate::harness::proxy::{Direction, Event, Proxy};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that, stretched};
use crate::harness::worker::{Worker, WorkerConfig};

const LOST: &str = "the connection to the broker is lost";

/// A virtual host with `messages` in queue `orders`, a proxy to it, a closed gate, and a worker's configuration.
async fn scene(messages: usize, node: &str) -> (Vhost, Proxy, Gate, WorkerConfig) {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", messages).await;
    let proxy = Proxy::start(vhost.url()).await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::for_orders(&proxy.url(vhost.url()), &gate, node);
    (vhost, proxy, gate, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_settlement_never_reaches_a_new_channel() {
    let (vhost, proxy, gate, config) = scene(4, "concurrency = 4\nprefetch = 2").await;
    let mut worker = Worker::ready(&config).await;
    gate.started(2).await;
    // Both deliveries go back to the queue, and to somebody else; the worker gets two others, with tags 1 and 2.
    proxy.refuse(true);
    proxy.cut();
    worker.logged("the channel is lost").await;
    vhost.until_ready("orders", 4).await;
    let taken = vhost.take("orders", 2).await;
    assert_eq!(
        taken.iter().map(|it| &*it.id).collect::<Vec<_>>(),
        ["0", "1"]
    );
    proxy.refuse(false);
    gate.started(4).await;
    gate.release_id("0");
    gate.release_id("1");
    gate.finished(2).await;
    // A settlement of the new channel goes out after anything stale would have.
    gate.release_id("2");
    let to_broker =
        |event: &Event| event.is("basic.ack") && event.direction() == Some(Direction::ToBroker);
    proxy.seen("a settlement", to_broker).await;
    let log = proxy.log();
    let consume = *log
        .connection_names()
        .iter()
        .rfind(|(_, name)| name.contains("consume"))
        .unwrap()
        .0;
    let settled = log.all(|event| {
        event.connection == consume
            && event.direction() == Some(Direction::ToBroker)
            && (event.is("basic.ack") || event.is("basic.nack") || event.is("basic.reject"))
    });
    assert_eq!(settled.len(), 1, "a stale settlement went out\n{log}");
    worker.kill().await;
    vhost.until_ready("orders", 1).await;
    assert_eq!(vhost.take_all("orders").await[0].id, "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_goes_on_after_its_connection_was_cut_again_and_again() {
    let (vhost, proxy, gate, config) = scene(60, "concurrency = 4\nprefetch = 8").await;
    gate.release_all();
    let mut worker = Worker::ready(&config).await;
    for round in 1..=3 {
        vhost
            .publish_all("orders", (0..60).map(|n| format!("{round}-{n}")))
            .await;
        proxy.cut();
    }
    gate.messages_came(60 * 4).await;
    vhost.until_ready("orders", 0).await;
    let report = worker.drained().await;
    assert_eq!(report.number("interrupted"), 0);
    assert_eq!(
        vhost.take_all("orders").await.len(),
        0,
        "everything is settled"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_the_first_connection_is_tried_ends_the_worker_at_once() {
    let (_vhost, proxy, _gate, config) = scene(0, "").await;
    proxy.refuse(true);
    let mut worker = Worker::spawn(&config);
    worker
        .logged("cannot connect to the broker; trying again")
        .await;
    worker.until_readiness(503).await;
    worker.terminate();
    let report = worker.ended_with(0).await;
    assert_eq!(report.text("outcome"), "clean");
    assert_eq!(report.0["published"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_a_connection_hangs_ends_the_worker_by_the_deadline() {
    let (_vhost, proxy, _gate, config) = scene(0, "").await;
    proxy.freeze(Direction::ToClient, true);
    let mut worker = Worker::spawn(&config);
    worker.logged("worker starting").await;
    proxy
        .seen("a connection", |event| event.name() == "protocol-header")
        .await;
    worker.terminate();
    worker.ended_with(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_while_reconnecting_waits_for_what_runs_and_for_no_broker() {
    let (vhost, proxy, gate, config) = scene(3, "concurrency = 2\nprefetch = 3").await;
    let mut worker = Worker::ready(&config).await;
    gate.started(2).await;
    proxy.refuse(true);
    proxy.cut();
    worker.logged(LOST).await;
    worker.until_readiness(503).await;
    worker.terminate();
    worker.logged("drain begins").await;
    assert!(!worker.has_ended(), "what runs is finished");
    gate.release_all();
    let report = worker.ended_with(0).await;
    assert_eq!(report.number("finished"), 2);
    assert_eq!(
        report.number("unconfirmed"),
        2,
        "their outcomes could not be settled"
    );
    assert_eq!(report.number("interrupted"), 0);
    vhost.until_ready("orders", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_goes_while_draining_does_not_keep_the_worker() {
    let (vhost, proxy, gate, config) = scene(10, "concurrency = 2\nprefetch = 4").await;
    let mut worker = Worker::ready(&config).await;
    gate.started(2).await;
    worker.terminate();
    vhost.until_ready("orders", 8).await;
    proxy.refuse(true);
    proxy.cut();
    worker.logged(LOST).await;
    gate.release_all();
    let report = worker.ended_with(0).await;
    assert_eq!(report.number("finished"), 2);
    assert_eq!(report.number("handed_back"), 2);
    assert!(report.number("unconfirmed") >= 2, "{report:?}");
    assert_eq!(report.0["published"], false);
    assert_eq!(gate.count(), 2);
    vhost.until_ready("orders", 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_freezes_while_draining_does_not_keep_the_worker() {
    let (vhost, proxy, gate, config) = scene(4, "concurrency = 2\nprefetch = 2").await;
    let mut worker = Worker::ready(&config).await;
    gate.started(2).await;
    proxy.freeze(Direction::ToClient, true);
    worker.terminate();
    worker.logged("drain begins").await;
    gate.release_all();
    let report = worker.ended_with(0).await;
    assert_eq!(report.number("finished"), 2);
    assert_eq!(report.number("interrupted"), 0);
    assert_eq!(report.number("unconfirmed"), 2, "no close-ok, no proof");
    proxy.cut();
    eventually("only what was not done is left", async || {
        let ready = vhost.ready("orders").await;
        expect_that((2..=4).contains(&ready), || format!("{ready} ready"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_broker_delays_neither_the_deadline_nor_the_end_after_it() {
    let (vhost, proxy, gate, config) = scene(4, "concurrency = 2\nprefetch = 2").await;
    let mut worker = Worker::ready(&config.grace("1s")).await;
    gate.started(2).await;
    proxy.freeze(Direction::ToClient, true);
    worker.terminate();
    let report = worker.ended_with(3).await;
    assert_eq!(report.number("interrupted"), 2);
    // Grace, closing limit, and a second for a machine that is slow: far from the sum of all single limits.
    let duration = Duration::from_millis(report.number("duration_ms"));
    assert!(duration >= Duration::from_secs(1), "{duration:?}");
    assert!(duration < stretched(Duration::from_secs(5)), "{duration:?}");
    proxy.cut();
    vhost.until_ready("orders", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_deleted_while_draining_does_not_disturb_the_drain() {
    let (vhost, _proxy, gate, config) = scene(6, "concurrency = 2\nprefetch = 4").await;
    let mut worker = Worker::ready(&config).await;
    gate.started(2).await;
    worker.terminate();
    vhost.until_ready("orders", 4).await;
    vhost.delete("orders").await;
    gate.release_all();
    let report = worker.ended_with(0).await;
    assert_eq!(report.number("finished"), 2);
    assert_eq!(report.number("interrupted"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_deleted_while_running_is_consumed_again_when_it_is_back() {
    let (vhost, _proxy, gate, config) = scene(1, "concurrency = 2\nprefetch = 4").await;
    gate.release_all();
    let mut worker = Worker::ready(&config).await;
    gate.finished(1).await;
    vhost.delete("orders").await;
    let refusal = "the broker refuses the queue; trying again";
    let refused = worker.logged(refusal).await;
    assert!(
        refused.text("error").contains("no queue 'orders'"),
        "{refused:?}"
    );
    worker.until_readiness(503).await;
    vhost.declare("orders", "quorum").await;
    vhost.publish_all("orders", ["again".to_owned()]).await;
    gate.finished(2).await;
    worker.until_ready().await;
    let attempts = worker.log().count(refusal);
    assert!(attempts < 100, "{attempts} attempts: a hot loop");
    worker.drained().await;
    assert_eq!(vhost.ready("orders").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_and_started_again_loses_nothing() {
    let mut broker = DedicatedBroker::start().await;
    let mut vhost = broker.vhost().await;
    vhost.declare("orders", "quorum").await;
    vhost.publish("orders", 50).await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "concurrency = 4\nprefetch = 8");
    let mut worker = Worker::ready(&config).await;
    gate.release(10);
    gate.finished(10).await;
    gate.started(14).await;
    broker.kill().await;
    worker.logged(LOST).await;
    gate.release_all();
    broker.start_again().await;
    vhost.reconnect().await;
    worker.until_ready().await;
    gate.messages_came(50).await;
    worker.drained().await;
    assert_eq!(vhost.take_all("orders").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_alarm_does_not_delay_a_drain() {
    let broker = DedicatedBroker::start().await;
    let vhost = broker.vhost().await;
    vhost.declare("orders", "classic").await;
    vhost.publish("orders", 6).await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "concurrency = 2\nprefetch = 4");
    let mut worker = Worker::ready(&config).await;
    worker.logged("worker running").await;
    gate.started(2).await;
    broker.set_memory_alarm(true).await;
    worker.terminate();
    worker.logged("drain begins").await;
    gate.release_all();
    let report = worker.ended_with(0).await;
    // The broker blocks what publishes, not what consumes: the acknowledgements are known to have arrived.
    assert_eq!(report.number("finished"), 2);
    assert_eq!(report.number("unconfirmed"), 0);
    assert_eq!(report.0["published"], false);
    let limit = Duration::from_secs(30);
    assert!(
        Duration::from_millis(report.number("duration_ms")) < limit,
        "{report:?}"
    );
    broker.set_memory_alarm(false).await;
    assert_eq!(vhost.take_all("orders").await.len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_in_a_memory_alarm_ends_at_once() {
    let broker = DedicatedBroker::start().await;
    let vhost = broker.vhost().await;
    vhost.declare("orders", "classic").await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "");
    let mut worker = Worker::listening(&config).await;
    broker.set_memory_alarm(true).await;
    let begun = Instant::now();
    let report = worker.drained().await;
    let took = begun.elapsed();
    assert_eq!(report.0["published"], false);
    // Each wait for the broker that blocks would take half a second or more.
    assert!(took < stretched(Duration::from_millis(500)), "{took:?}");
    broker.set_memory_alarm(false).await;
}

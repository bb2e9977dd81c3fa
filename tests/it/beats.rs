//! Beats: what they say, when they come, when they stop, and that they are never in the way.

use std::time::{Duration, Instant};

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, channel, connection};

use crate::harness::broker::DedicatedBroker;
use crate::harness::gate::Gate;
use crate::harness::management::segment;
use crate::harness::proxy::{Direction, Event};
use crate::harness::scene::proxied_worker;
use crate::harness::status::{BEATS, StatusMessage, StatusTap};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

/// Beats only when there is a reason to.
const SELDOM: &str = "[heartbeat]\nbusy = \"1h\"\nidle = \"1h\"";

fn seq(message: &StatusMessage) -> u64 {
    message.json["seq"].as_u64().unwrap()
}

/// Waits until the tap has heard `count` beats after the place `from`.
async fn beats(tap: &StatusTap, from: usize, count: usize) -> Vec<StatusMessage> {
    eventually(format_args!("{count} more beats come"), async || {
        let beats = tap.of_kind("beat").split_off(from);
        expect_that(beats.len() >= count, || format!("{}", beats.len())).map(|()| beats)
    })
    .await
}

fn beat_count(tap: &StatusTap) -> usize {
    tap.of_kind("beat").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn beats_name_every_node_and_then_those_that_have_changed() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.declare("quiet", "classic").await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::closed().await;
    gate.answer(|request| if request.id == "1" { 500 } else { 200 });
    let retry = "concurrency = 4\nretry = { min = \"1h\", max = \"1h\" }";
    let config = WorkerConfig::new(vhost.url())
        .tables(BEATS)
        .declaring_node("orders", "quorum", &gate.url(), retry)
        .http_node("quiet", &gate.url(), "concurrency = 4");
    let mut worker = Worker::ready(&config).await;
    let first = tap.seen("a beat", |message| message.kind() == "beat").await;
    assert_eq!(first.json["full"], true, "{}", first.json);
    assert_eq!(first.json["load"], 0.0);
    assert_eq!(first.json["lease_ms"], 3000);
    assert_eq!(first.json["nodes"].as_array().unwrap().len(), 2);

    vhost.publish("orders", 4).await;
    gate.release_id("0");
    gate.release_id("1");
    gate.finished(2).await;
    gate.started(4).await;
    let busy = tap
        .seen("a beat of two that run", |message| {
            let orders = &message.json["nodes"][0];
            orders["in_flight"] == 2 && orders["retried"] == 1 && orders["done"] == 1
        })
        .await
        .json;
    let orders = &busy["nodes"][0];
    assert_eq!(orders["queue"], "orders");
    assert_eq!(busy["load"], 0.25);
    if busy["full"] == false {
        assert_eq!(busy["nodes"].as_array().unwrap().len(), 1, "{busy}");
    }
    tap.seen("a beat that says how long they run", |message| {
        message.json["nodes"][0]["oldest_ms"].as_u64() > orders["oldest_ms"].as_u64()
    })
    .await;
    gate.release_all();
    let beats = beats(&tap, 0, 11).await;
    let full: Vec<_> = beats[..11]
        .iter()
        .map(|beat| beat.json["full"] == true)
        .collect();
    let mut expected = [false; 11];
    (expected[0], expected[10]) = (true, true);
    assert_eq!(full, expected, "every tenth is full");
    let (_, metrics) = worker.get("/metrics").await.unwrap();
    let sent = metrics.lines().find_map(|line| {
        line.strip_prefix("tidegate_status_messages_total{kind=\"beat\"} ")?
            .parse::<u64>()
            .ok()
    });
    assert!(sent >= Some(11), "{metrics}");
    assert!(metrics.contains("tidegate_beats_saved_total "), "{metrics}");
    worker.drained().await;
    tap.drain().await;
    tap.messages()
        .iter()
        .for_each(StatusMessage::obeys_its_schema);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_beats_at_once_and_for_good() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 1).await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::closed().await;
    let config = |name: &str| WorkerConfig::new(vhost.url()).tables(BEATS).name(name);
    let mut worker = Worker::ready(&config("a").http_node("orders", &gate.url(), "")).await;
    gate.started(1).await;
    // Another worker's beats are the clock.
    vhost.declare("clock", "classic").await;
    let mut clock = Worker::ready(&config("clock").http_node("clock", &gate.url(), "")).await;
    let beats_of = |name: &str| {
        let mut beats = tap.of_kind("beat");
        beats.retain(|beat| beat.json["name"] == name);
        beats
    };
    let ticks = async |more: usize| {
        let before = beats_of("clock").len();
        eventually("time passes", async || {
            let ticks = beats_of("clock").len() - before;
            expect_that(ticks >= more, || format!("{ticks}"))
        })
        .await;
    };
    ticks(3).await;
    assert!(!beats_of("a").is_empty());
    worker.terminate();
    let draining = tap.state("draining").await;
    ticks(4).await;
    let last = beats_of("a").pop().unwrap();
    assert!(seq(&last) < seq(&draining), "a beat came in the drain");
    gate.release_all();
    worker.ended().await;
    tap.drain().await;
    clock.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_connection_comes_one_current_beat_and_it_is_full() {
    let (vhost, tap, proxy, gate, mut worker) = proxied_worker(SELDOM).await;
    assert_eq!(beat_count(&tap), 0, "a state counts as a beat");
    proxy.refuse(true);
    proxy.cut();
    worker.until_readiness(503).await;
    worker
        .logged("cannot connect to the broker; trying again")
        .await;
    proxy.refuse(false);
    let beat = tap.seen("a beat", |message| message.kind() == "beat").await;
    assert_eq!(beat.json["full"], true);
    vhost.publish("orders", 2).await;
    gate.finished(2).await;
    worker.until_ready().await;
    worker.drained().await;
    tap.drain().await;
    assert_eq!(beat_count(&tap), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_exchange_is_made_again_and_disturbs_nothing() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "").tables(BEATS);
    let mut worker = Worker::ready(&config).await;
    beats(&tap, 0, 1).await;
    let exchange = format!("/api/exchanges/{}/tidegate.status", segment(vhost.name()));
    vhost.management().delete(&exchange).await.unwrap();
    let failed = worker
        .logged("a status message could not be sent; work goes on")
        .await;
    assert_eq!(failed.text("kind"), "beat");
    assert!(failed.text("error").contains("404"), "{failed:?}");
    let tap = StatusTap::start(&vhost).await;
    beats(&tap, 0, 2).await;
    vhost.publish("orders", 2).await;
    gate.finished(2).await;
    let connected = worker.log().count("connected to the broker");
    assert_eq!(connected, 2, "no connection was lost over it");
    worker.drained().await;
    tap.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_channel_is_replaced_and_the_connection_stays() {
    let (vhost, tap, proxy, gate, mut worker) = proxied_worker(BEATS).await;
    beats(&tap, 0, 2).await;
    let log = proxy.log();
    let publish = log.connection_named("publish");
    let published = log.published();
    let channel = published
        .iter()
        .rfind(|message| message.connection == publish)
        .unwrap()
        .channel;
    // The broker knows nothing of it, and must not hear the answer.
    let _hold = proxy.hold(Direction::ToBroker, move |event| {
        event.connection == publish && event.channel == channel
    });
    let close = channel::Close {
        reply_code: 406,
        reply_text: "PRECONDITION_FAILED - for a test".into(),
        class_id: 0,
        method_id: 0,
    };
    let close = AMQPClass::Channel(channel::AMQPMethod::Close(close));
    let begun = beat_count(&tap);
    proxy.inject(publish, AMQPFrame::Method(channel, close));
    beats(&tap, begun, 3).await;
    let sequence: Vec<_> = tap.messages().iter().map(seq).collect();
    let missed = sequence[sequence.len() - 1] - sequence.len() as u64;
    assert!(missed <= 1, "one may have been on its way: {sequence:?}");
    let log = worker.log().log();
    let lost = log.iter().find(|line| line.message().contains("lost"));
    assert!(lost.is_none(), "the connection is the same: {lost:?}");
    vhost.publish("orders", 2).await;
    gate.finished(2).await;
    worker.drained().await;
    tap.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_connection_queues_no_beats_up() {
    let (vhost, tap, proxy, gate, mut worker) = proxied_worker(BEATS).await;
    beats(&tap, 0, 1).await;
    let publish = proxy.log().connection_named("publish");
    let reason = "low on memory".into();
    let blocked = connection::AMQPMethod::Blocked(connection::Blocked { reason });
    proxy.inject(
        publish,
        AMQPFrame::Method(0, AMQPClass::Connection(blocked)),
    );
    let before = beat_count(&tap);
    // Four beats would have been due.
    let begun = Instant::now();
    eventually("time passes", async || {
        expect_that(begun.elapsed() > Duration::from_secs(4), || "wait".into())
    })
    .await;
    vhost.publish("orders", 2).await;
    gate.finished(2).await;
    vhost.until_ready("orders", 0).await;
    assert!(beat_count(&tap) <= before + 1);
    let unblocked = connection::AMQPMethod::Unblocked(connection::Unblocked {});
    let mark = tap.messages().len();
    proxy.inject(
        publish,
        AMQPFrame::Method(0, AMQPClass::Connection(unblocked)),
    );
    eventually("beats come again", async || {
        let more = tap.messages().len() - mark;
        expect_that(more >= 2, || format!("{more}"))
    })
    .await;
    let messages = tap.messages();
    let again = messages[mark..].iter().map(seq).take(2).collect::<Vec<_>>();
    assert!(
        again[0] <= seq(&messages[mark - 1]) + 2,
        "at most one was on its way and given up: {again:?}"
    );
    worker.drained().await;
    tap.drain().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_alarm_holds_back_beats_and_neither_work_nor_drain() {
    let broker = DedicatedBroker::start().await;
    let vhost = broker.vhost().await;
    vhost.declare("orders", "classic").await;
    vhost.publish("orders", 6).await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::closed().await;
    let config =
        WorkerConfig::for_orders(vhost.url(), &gate, "concurrency = 2\nprefetch = 4").tables(BEATS);
    let mut worker = Worker::ready(&config).await;
    gate.started(2).await;
    beats(&tap, 0, 1).await;
    broker.set_memory_alarm(true).await;
    gate.release(3);
    gate.finished(3).await;
    gate.started(5).await;
    vhost.until_ready("orders", 0).await;
    worker.terminate();
    gate.release_all();
    let report = worker.ended_with(0).await;
    assert_eq!(report.number("unconfirmed"), 0);
    assert_eq!(report.0["published"], false);
    broker.set_memory_alarm(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_confirms_nothing_does_not_keep_a_drain() {
    let (_vhost, tap, proxy, _gate, mut worker) = proxied_worker(BEATS).await;
    // The states before it are confirmed then.
    beats(&tap, 0, 1).await;
    let publish = proxy.log().connection_named("publish");
    let confirm = move |event: &Event| event.connection == publish && event.is("basic.ack");
    let hold = proxy.hold(Direction::ToClient, confirm);
    hold.holds_one().await;
    // A beat waits for its confirm; neither the state nor the report waits for the beat.
    worker.terminate();
    tap.state("draining").await;
    tap.drain().await;
    let report = worker.ended_with(0).await;
    assert_eq!(report.0["published"], false);
}

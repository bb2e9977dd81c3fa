//! What a drain leaves behind: everything that ran is settled, everything else is as it was.

use std::collections::BTreeSet;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::AMQPMethod;
use lapin::types::AMQPValue;

use crate::harness::gate::Gate;
use crate::harness::proxy::{Direction, Proxy};
use crate::harness::status::StatusTap;
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};

const MESSAGES: usize = 200;

/// A drain at full load, in the middle of a queue.
async fn drains_under_load(kind: &str) {
    let vhost = Vhost::with_queue("orders", kind).await;
    vhost.publish("orders", MESSAGES).await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "concurrency = 8\nprefetch = 32");
    let mut worker = Worker::ready(&config).await;
    gate.release(50);
    gate.finished(50).await;
    gate.started(58).await;
    // Everything that the prefetch allows is with the worker: 8 run, 24 wait.
    vhost.until_ready("orders", 200 - 50 - 32).await;

    worker.terminate();
    worker.logged("drain begins").await;
    worker.until_readiness(503).await;
    // What has not started is back before anything that runs has finished.
    vhost.until_ready("orders", 200 - 50 - 8).await;
    gate.release_all();
    let report = worker.ended_with(0).await;
    assert_eq!(report.text("outcome"), "clean");
    assert_eq!(report.text("reason"), "SIGTERM");
    let counts = ["finished", "handed_back", "interrupted", "unconfirmed"];
    assert_eq!(counts.map(|count| report.number(count)), [8, 24, 0, 0]);
    let message = tap.drain().await.json;
    for count in counts {
        assert_eq!(message[count], report.number(count), "{count}");
    }
    assert_eq!(gate.count(), 58, "nothing starts in a drain");

    // Ready plus finished is everything: nothing is left unacknowledged, and nothing was done twice.
    let left = vhost.take_all("orders").await;
    let finished: BTreeSet<String> = gate.ids().into_iter().collect();
    assert_eq!(finished.len(), 58);
    assert_eq!(left.len(), MESSAGES - 58);
    assert!(left.iter().all(|message| !finished.contains(&message.id)));
    let redelivered = left.iter().filter(|message| message.redelivered).count();
    // A quorum queue may have been asked for one more, to have it take the last settlements.
    let asked_for = usize::from(kind == "quorum");
    assert!(
        (24..=24 + asked_for).contains(&redelivered),
        "only what was handed back has been delivered before, not {redelivered}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_under_load_settles_what_runs_and_hands_back_the_rest_of_a_quorum_queue() {
    drains_under_load("quorum").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_under_load_settles_what_runs_and_hands_back_the_rest_of_a_classic_queue() {
    drains_under_load("classic").await;
}

/// More than a quorum queue is told at once (32): what a channel keeps back, its end would forget.
#[tokio::test(flavor = "multi_thread")]
async fn drains_that_hand_back_hundreds_to_a_quorum_queue_repeat_nothing() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 1_500).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "concurrency = 8\nprefetch = 500");
    for round in 1..=8 {
        let mut worker = Worker::ready(&config).await;
        gate.finished(round * 100).await;
        let report = worker.drained().await;
        assert_eq!(report.text("outcome"), "clean");
        assert_eq!(report.number("unconfirmed"), 0);
    }
    let mut all = gate.ids();
    let processed = all.len();
    all.extend(vhost.take_ids("orders").await);
    assert_eq!(
        all.len(),
        1_500,
        "{processed} processed, and the rest is left"
    );
    assert_eq!(all.into_iter().collect::<BTreeSet<_>>().len(), 1_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_arriving_during_cancel_is_handed_back() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 1).await;
    let proxy = Proxy::start(vhost.url()).await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::for_orders(
        &proxy.url(vhost.url()),
        &gate,
        "concurrency = 4\nprefetch = 8",
    );
    let mut worker = Worker::ready(&config).await;
    gate.started(1).await;

    let hold = proxy.hold(Direction::ToBroker, |event| event.is("basic.cancel"));
    worker.terminate();
    hold.holds_one().await;
    vhost.publish_all("orders", ["late".to_owned()]).await;
    proxy
        .seen("the late delivery", |event| match event.method() {
            Some(AMQPClass::Basic(AMQPMethod::Deliver(deliver))) => deliver.delivery_tag == 2,
            _ => false,
        })
        .await;
    hold.release();
    vhost.until_ready("orders", 1).await;
    gate.release_all();
    let report = worker.ended_with(0).await;
    assert_eq!(report.number("finished"), 1);
    assert_eq!(report.number("handed_back"), 1);
    assert_eq!(
        gate.ids(),
        ["0"],
        "free slots do not start what comes in a drain"
    );
    assert_eq!(vhost.take_ids("orders").await, ["late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_one_worker_drain_side_by_side_and_share_their_pool() {
    let vhost = Vhost::new().await;
    let gate = Gate::closed().await;
    let mut config = WorkerConfig::new(vhost.url()).tables("[pool.shared]\nslots = 3");
    for queue in ["one", "two", "three"] {
        vhost.declare(queue, "quorum").await;
        vhost
            .publish_all(queue, (0..20).map(|n| format!("{queue}-{n}")))
            .await;
        config = config.http_node(queue, &gate.url(), "pool = \"shared\"\nprefetch = 4");
    }
    let mut worker = Worker::ready(&config).await;
    // Each node has as many as its prefetch allows: none of them is late.
    for queue in ["one", "two", "three"] {
        vhost.until_ready(queue, 16).await;
    }
    gate.release(9);
    gate.finished(9).await;
    gate.started(12).await;
    let before = gate.ids();
    for queue in ["one", "two", "three"] {
        let started = before.iter().filter(|id| id.starts_with(queue)).count();
        assert!(started >= 2, "{queue} starves: {before:?}");
    }
    for queue in ["one", "two", "three"] {
        let acked = before[..9]
            .iter()
            .filter(|id| id.starts_with(queue))
            .count();
        let ready = 20 - acked - 4;
        vhost
            .until_ready(queue, u32::try_from(ready).unwrap())
            .await;
    }
    worker.terminate();
    worker.logged("drain begins").await;
    gate.release_all();
    let report = worker.ended_with(0).await;
    assert_eq!(report.number("finished"), 3);
    assert_eq!(report.number("handed_back"), 9);
    let mut left = 0;
    for queue in ["one", "two", "three"] {
        left += vhost.take_all(queue).await.len();
    }
    assert_eq!(left + gate.count(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_active_consumer_hands_over_only_after_its_last_delivery_is_settled() {
    let vhost = Vhost::new().await;
    let arguments = [
        ("x-queue-type", AMQPValue::LongString("quorum".into())),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
    ];
    vhost.declare_with("ordered", arguments).await;
    vhost.publish("ordered", 10).await;
    let (first_gate, second_gate) = (Gate::closed().await, Gate::open().await);
    // The worker is not told: it recognises the queue by the broker's answer to its declaration.
    let node = |gate: &Gate| {
        format!(
            "concurrency = 1\nprefetch = 4\nhandler = {{ http = {{ url = {:?} }} }}",
            gate.url().as_str()
        )
    };
    let proxy = Proxy::start(vhost.url()).await;
    let config = WorkerConfig::new(&proxy.url(vhost.url()))
        .name("first")
        .node("ordered", &node(&first_gate));
    let mut first = Worker::ready(&config).await;
    let consuming = first.logged("consuming").await;
    assert_eq!(consuming.0["single_active_consumer"], true);
    first_gate.started(1).await;
    let config = WorkerConfig::new(vhost.url())
        .name("second")
        .node("ordered", &node(&second_gate));
    let mut second = Worker::ready(&config).await;

    first.terminate();
    first.logged("drain begins").await;
    first.until_readiness(503).await;
    assert_eq!(
        second_gate.count(),
        0,
        "two consumers work on an ordered queue"
    );
    first_gate.release_all();
    first.ended_with(0).await;
    second_gate.finished(9).await;

    assert_eq!(first_gate.ids(), ["0"]);
    let rest: Vec<String> = (1..10).map(|n| n.to_string()).collect();
    assert_eq!(second_gate.ids(), rest, "order is kept");
    let log = proxy.log();
    assert!(
        !log.sent(log.connection_named("consume"))
            .contains(&"basic.cancel".to_owned())
    );
    second.drained().await;
}

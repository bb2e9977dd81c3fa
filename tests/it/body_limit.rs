//! Messages that came to their queue before the broker had its limit (`max_message_size`): they can be worked, but not
//! published again.

use lapin::BasicProperties;
use serde_json::json;

use crate::dead::scene::{Letter, dead, furnish, taken_ids};
use crate::harness::broker::DedicatedBroker;
use crate::harness::gate::Gate;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};
use crate::opencti::bench::{Bench, identity, message};

const LIMIT: usize = 4_000;

fn large(id: &str) -> (BasicProperties, Vec<u8>) {
    let properties = BasicProperties::default()
        .with_message_id(id.into())
        .with_delivery_mode(2);
    (properties, vec![b'x'; LIMIT + 1])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_is_retried_in_its_place_and_disturbs_no_copy() {
    let broker = DedicatedBroker::start().await;
    let vhost = broker.vhost().await;
    let gate = Gate::open().await;
    gate.answer(|request| match (request.id.as_str(), request.attempt) {
        ("dead", _) => 400,
        (_, 1) => 503,
        _ => 200,
    });
    for queue in ["orders", "orders.dead"] {
        vhost.declare(queue, "quorum").await;
    }
    vhost
        .publish_messages("orders", [large("large"), large("dead")])
        .await;
    broker.limit_bodies(LIMIT).await;
    let node = "concurrency = 4\nprefetch = 10\nretry = { min = \"50ms\", max = \"100ms\" }";
    let config =
        WorkerConfig::new(vhost.url()).declaring_node("orders", "quorum", &gate.url(), node);
    let mut worker = Worker::ready(&config).await;
    worker
        .logged("a copy was not taken; its delivery is kept, and the copy tried again")
        .await;
    let small: Vec<_> = (0..30).map(|number| format!("m-{number}")).collect();
    vhost.publish_all("orders", small.clone()).await;
    eventually("each message has run twice", async || {
        let mut runs = small.iter().map(|id| gate.attempts(id));
        expect_that(
            runs.all(|runs| runs == [1, 2]) && gate.attempts("large") == [1, 2],
            || format!("{:?}", gate.ids()),
        )
    })
    .await;
    // The letter is kept, not run again, and goes as soon as a broker takes it.
    broker.limit_bodies(LIMIT * 2).await;
    eventually("the connections are closed", async || {
        let closed = vhost.close_connections("tidegate").await;
        expect_that(closed > 0, || "none is there".to_owned())
    })
    .await;
    let letters = vhost.take_once_ready("orders.dead", 1).await;
    assert_eq!(
        (&*letters[0].id, letters[0].body.len()),
        ("dead", LIMIT + 1)
    );
    worker.drained().await;
    assert_eq!(gate.attempts("dead"), [1]);
    assert_eq!(gate.attempts("large"), [1, 2]);
    assert_eq!(vhost.take_all("orders").await.len(), 0);
    let log = worker.log().text();
    let closed = log.matches("larger than configured").count();
    assert!(
        closed <= 2,
        "one channel is closed for it, and what was on that: {log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_leaves_a_large_letter_and_sends_the_others() {
    let broker = DedicatedBroker::start().await;
    let vhost = broker.vhost().await;
    furnish(&vhost, "quorum").await;
    let enlarged = |id| (Letter::new(id).message().0, vec![b'x'; LIMIT + 1]);
    let expiring = |id| {
        let (properties, body) = enlarged(id);
        (properties.with_expiration("600000".into()), body)
    };
    let small = |id| Letter::new(id).message();
    let letters = [
        small("a"),
        enlarged("b"),
        small("c"),
        enlarged("d"),
        expiring("e"),
        small("f"),
    ];
    vhost.publish_messages("orders.dead", letters).await;
    broker.limit_bodies(LIMIT).await;
    let run = dead(&vhost, &["replay", "orders", "--json"]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(run.json()["queues"][0]["replayed"], 3, "{run:?}");
    assert!(
        run.stdout.contains("the broker takes at most 4000"),
        "{run:?}"
    );
    assert_eq!(taken_ids(&vhost, "orders").await, ["a", "c", "f"]);
    assert_eq!(taken_ids(&vhost, "orders.dead").await, ["b", "d", "e"]);
    assert_eq!(vhost.ready("orders.replay").await, 0, "no entry is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_bundle_that_is_too_large_is_imported_by_the_worker_that_split_it() {
    let broker = DedicatedBroker::start().await;
    let Some(bench) = Bench::on(broker.vhost(), &["a"]).await else {
        return;
    };
    let mut objects = [1, 2, 3].map(identity);
    objects[1]["description"] = "x".repeat(LIMIT).into();
    bench
        .send("a", &[message(&objects, &json!({"work_id": "work-1"}))])
        .await;
    broker.limit_bodies(LIMIT).await;
    let mut worker = bench.worker(&[]);
    bench.until_works_complete(1).await;
    assert_eq!(bench.imports(), [1, 1, 1]);
    bench.expect_exact_reports();
    bench.vhost.until_ready("push_a", 0).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    assert_eq!(bench.vhost.take_all("push_a").await.len(), 0);
}

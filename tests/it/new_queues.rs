//! Queues that the worker has declared a moment ago.

use std::collections::BTreeSet;

use crate::harness::broker::DedicatedBroker;
use crate::harness::gate::Gate;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_in_a_new_delay_queue_survives_a_killed_broker() {
    let mut broker = DedicatedBroker::start().await;
    let mut vhost = broker.vhost().await;
    vhost.declare("orders", "quorum").await;
    vhost.publish("orders", 4).await;
    // The queue and its messages are on disk; only what the worker declares is new.
    let settled = "the queue is old enough";
    let begun = std::time::Instant::now();
    eventually(settled, async || {
        let age = begun.elapsed();
        expect_that(age.as_secs() >= 2, || format!("{age:?}"))
    })
    .await;
    let gate = Gate::open().await;
    gate.answer(|request| if request.attempt == 1 { 503 } else { 200 });
    let node =
        "concurrency = 4\nprefetch = 4\nretry = { max_attempts = 9, min = \"20s\", max = \"20s\" }";
    let config =
        WorkerConfig::new(vhost.url()).declaring_node("orders", "quorum", &gate.url(), node);
    let mut worker = Worker::ready(&config).await;
    gate.finished(4).await;
    // The copies are confirmed by now, or will be in a moment; nothing has been acknowledged yet.
    vhost.until_ready("orders.retry.20000", 4).await;
    broker.kill().await;
    broker.start_again().await;
    vhost.reconnect().await;
    eventually("every message has been done", async || {
        let requests = gate.requests();
        let done = requests.iter().filter(|request| request.attempt > 1);
        let done: BTreeSet<_> = done.map(|request| request.id.clone()).collect();
        expect_that(done.len() == 4, || format!("{done:?}"))
    })
    .await;
    worker.drained().await;
    assert_eq!(vhost.take_all("orders").await.len(), 0);
}

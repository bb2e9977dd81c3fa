//! Connections that are cut under load: each object once, each work told exactly.

use std::time::Duration;

use rand::RngExt as _;
use serde_json::json;

use super::bench::{Bench, identity, message, times};
use super::stops::{expect_all_once, load, random};
use crate::harness::proxy::{Direction, Event, Proxy};
use crate::harness::wait::eventually;

/// A bench whose worker reaches the broker through a proxy.
async fn behind_a_proxy(connectors: &[&str]) -> Option<(Bench, Proxy)> {
    let mut bench = Bench::new(connectors).await?;
    let proxy = Proxy::start(bench.vhost.url()).await;
    bench.broker = proxy.url(bench.vhost.url());
    bench.connectors(connectors, None);
    Some((bench, proxy))
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_import_each_object_once() {
    let Some((bench, proxy)) = behind_a_proxy(&["a", "b", "c", "d"]).await else {
        return;
    };
    bench.platform.set_latency(Duration::from_millis(60));
    let mut random = random();
    let cuts = times("TIDEGATE_TEST_OPENCTI_CUTS", 4);
    let largest = if cuts > 4 { 200 } else { 60 };
    let bundles = [(); 2].map(|()| random.random_range(50..=largest));
    let loaded = load(&bench, bundles).await;
    let (objects, _) = loaded;
    let mut worker = bench.worker(&[]);
    for cut in 1..=cuts {
        let from = (cut - 1) * objects / (cuts + 1);
        let to = cut * objects / (cuts + 1);
        bench.until_imported(random.random_range(from..=to)).await;
        proxy.cut();
    }
    expect_all_once(&bench, loaded).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_whose_confirms_are_lost_are_imported_once() {
    let Some((bench, proxy)) = behind_a_proxy(&["a"]).await else {
        return;
    };
    let mut worker = bench.worker(&[]);
    bench.until_consumed(&worker).await;
    let confirms = proxy.hold(Direction::ToClient, |event: &Event| event.is("basic.ack"));
    let parts = 20;
    let objects: Vec<_> = (0..parts).map(identity).collect();
    let whole = message(&objects, &json!({"work_id": "work"}));
    bench.send("a", &[whole]).await;
    // The broker has them all, and the worker does not know.
    bench.vhost.until_ready("push_a", parts).await;
    confirms.holds_one().await;
    proxy.cut();
    confirms.release();
    eventually("the work is complete and the queue empty", async || {
        let work = bench.platform.work("work");
        let left = bench.vhost.ready("push_a").await;
        let told = (work.processed, work.expected, left);
        let expected = (u64::from(parts), u64::from(parts), 0);
        crate::harness::wait::expect_that(told == expected, || format!("{told:?}"))
    })
    .await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    bench.vhost.until_ready("push_a", 0).await;
    assert_eq!(bench.imports(), vec![1; parts as usize]);
    bench.expect_exact_reports();
}

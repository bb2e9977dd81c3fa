//! The shortest way through everything: a worker starts, works, says so, and drains.

use crate::harness::gate::Gate;
use crate::harness::proxy::Proxy;
use crate::harness::status::StatusTap;
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_works_off_its_queue_and_drains() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 5).await;
    let tap = StatusTap::start(&vhost).await;
    let proxy = Proxy::start(vhost.url()).await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::for_orders(
        &proxy.url(vhost.url()),
        &gate,
        "concurrency = 2\nprefetch = 4",
    )
    .name("smoke");
    let mut worker = Worker::ready(&config).await;
    vhost.until_consumers("orders", 1).await;
    tap.state("running").await;
    gate.started(2).await;
    gate.release_id("0");
    gate.finished(1).await;
    gate.started(3).await;
    worker.terminate();
    worker.logged("drain begins").await;
    tap.state("draining").await;
    gate.release_all();
    let ended = worker.ended().await;
    let report = ended.report.expect("a drain ends with a report");
    assert_eq!(ended.code, Some(0));
    assert_eq!(report.text("outcome"), "clean");
    assert_eq!(report.text("reason"), "SIGTERM");
    assert_eq!(gate.count(), 3);
    vhost.until_ready("orders", 2).await;
    let drain = tap.drain().await;
    assert_eq!(drain.json["outcome"], "clean");
    assert!(drain.json["name"] == "smoke", "{}", drain.json);
    let phases = tap.phases();
    assert!(
        phases.ends_with(&["running".into(), "draining".into()]),
        "{phases:?}"
    );
    let sent = proxy.log().sent(proxy.log().connection_named("consume"));
    let cancel = sent.iter().position(|name| name == "basic.cancel");
    let close = sent.iter().rposition(|name| name == "channel.close");
    assert!(cancel.is_some() && cancel < close, "{sent:?}");
    assert_eq!(vhost.take_all("orders").await.len(), 2);

    assert!(gate.last_answer().is_some_and(|last| last < ended.at));
    let first = &gate.requests()[0];
    assert_eq!((first.attempt, first.redelivered), (1, false));
    assert_eq!(first.headers["tidegate-queue"], "orders");
    assert!(Some(first.came) <= first.answered);
    let quiet = worker.log().log().iter().all(|line| line.level() == "INFO");
    assert!(quiet && worker.stdout().text().is_empty());
}

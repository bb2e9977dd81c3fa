//! The shortest way through everything: a worker starts, works, says so, and drains.

use crate::harness::gate::Gate;
use crate::harness::proxy::Proxy;
use crate::harness::status::StatusTap;
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_works_off_its_queue_and_drains() {
    let vhost = Vhost::new().await;
    vhost.declare("orders", "quorum").await;
    vhost.publish("orders", 5).await;
    let tap = StatusTap::start(&vhost).await;
    let proxy = Proxy::start(vhost.url()).await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::new(&proxy.url(vhost.url()))
        .name("smoke")
        .http_node("orders", &gate.url(), "concurrency = 2\nprefetch = 4");
    let mut worker = Worker::ready(&config).await;
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
    let log = proxy.log();
    let cancel = log.first("cancel", |event| event.is("basic.cancel"));
    let close = log.first("close", |event| {
        event.is("channel.close") && event.seq > cancel.seq
    });
    assert!(cancel.seq < close.seq, "{log}");
    let left = vhost.take_all("orders").await;
    assert_eq!(left.len(), 2);
}

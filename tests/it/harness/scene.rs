//! How many tests begin: one worker, and what stands around it.

use super::gate::Gate;
use super::proxy::Proxy;
use super::status::StatusTap;
use super::vhost::Vhost;
use super::wait::{eventually, expect_that};
use super::worker::{Worker, WorkerConfig};

/// A worker that listens for commands, with `tables` in its configuration. It posts what is in the queue `orders` to an
/// open gate, and the tap hears its status from the start.
pub(crate) async fn listening_worker(tables: &str) -> (Vhost, StatusTap, Gate, Worker) {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "").tables(tables);
    let worker = Worker::listening(&config).await;
    (vhost, tap, gate, worker)
}

/// A worker that is ready, with `tables` in its configuration, and whose connections go through a proxy. It posts what is
/// in the queue `orders` to an open gate, and the tap hears its status from the start. It has said that it runs, and knows
/// that this has arrived: if the connection were cut before, it would say so again.
pub(crate) async fn proxied_worker(tables: &str) -> (Vhost, StatusTap, Proxy, Gate, Worker) {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let tap = StatusTap::start(&vhost).await;
    let proxy = Proxy::start(vhost.url()).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(&proxy.url(vhost.url()), &gate, "").tables(tables);
    let worker = Worker::ready(&config).await;
    tap.state("running").await;
    eventually("each state is confirmed", async || {
        let (_, metrics) = worker.get("/metrics").await?;
        let said = tap.phases().len();
        let confirmed = format!("tidegate_status_messages_total{{kind=\"state\"}} {said}\n");
        expect_that(metrics.contains(&confirmed), || metrics)
    })
    .await;
    (vhost, tap, proxy, gate, worker)
}

//! A delivery that is unacknowledged for longer than the broker's `consumer_timeout`.

use crate::harness::broker::DedicatedBroker;
use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_delivery_runs_once_and_disturbs_no_other_queue() {
    let broker = DedicatedBroker::start().await;
    let set = "application:set_env(rabbit, channel_tick_interval, 1000), \
               application:set_env(rabbit, consumer_timeout, 4000).";
    broker.server().rabbitmqctl(&["eval", set]).await.unwrap();
    let vhost = broker.vhost().await;
    for queue in ["slow", "other"] {
        vhost.declare(queue, "quorum").await;
    }
    let (slow, other) = (Gate::closed().await, Gate::closed().await);
    let node = "concurrency = 2\nprefetch = 2";
    let config = WorkerConfig::new(vhost.url())
        .http_node("slow", &slow.url(), node)
        .http_node("other", &other.url(), node);
    let mut worker = Worker::ready(&config).await;
    vhost.publish("slow", 1).await;
    slow.started(1).await;
    vhost.publish("other", 1).await;
    let overdue = |line: &crate::harness::worker::LogLine| {
        line.message().starts_with("consumer time-out") || line.text("error").contains("timed out")
    };
    worker.logged_where("consumer time-out", overdue).await;
    other.release_all();
    other.finished(1).await;
    let counted = "tidegate_consumer_timeouts_total{queue=\"slow\"} 1\n";
    let adopted = "tidegate_adoptions_total{queue=\"slow\",known=\"running\"}";
    worker.until_metrics(&[counted, adopted]).await;
    slow.release_all();
    slow.finished(1).await;
    vhost.until_ready("slow", 0).await;
    worker.drained().await;
    assert_eq!((slow.count(), other.count()), (1, 1), "each runs once");
    let log = worker.log().text();
    assert!(
        !log.contains("the connection to the broker is lost"),
        "{log}"
    );
    for queue in ["slow", "other"] {
        assert_eq!(vhost.take_all(queue).await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_and_declared_again_is_no_consumer_time_out() {
    for kind in ["classic", "quorum"] {
        let vhost = Vhost::new().await;
        let gate = Gate::closed().await;
        let config = WorkerConfig::new(vhost.url()).declaring_node("orders", kind, &gate.url(), "");
        let mut worker = Worker::ready(&config).await;
        vhost.publish("orders", 1).await;
        gate.started(1).await;
        vhost.delete("orders").await;
        worker.logged_times("consuming", 2).await;
        gate.release_all();
        worker.drained().await;
        let log = worker.log().log();
        let told = log
            .iter()
            .find(|line| line.message().starts_with("consumer time-out"));
        assert!(told.is_none(), "{kind}: {told:?}");
    }
}

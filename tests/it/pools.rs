//! Slots that nodes share.

use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn no_node_of_a_pool_starves_beside_one_with_a_long_backlog() {
    let vhost = Vhost::new().await;
    for queue in ["busy", "calm", "rare"] {
        vhost.declare(queue, "classic").await;
    }
    let ids = |queue: &str, count: usize| {
        let queue = queue.to_owned();
        (0..count).map(move |number| format!("{queue}-{number}"))
    };
    vhost.publish_all("busy", ids("busy", 60)).await;
    vhost.publish_all("calm", ids("calm", 10)).await;
    let gate = Gate::closed().await;
    let pool = "pool = \"shared\"\nprefetch = 20";
    let config = WorkerConfig::new(vhost.url())
        .tables("[pool.shared]\nslots = 1")
        .http_node("busy", &gate.url(), pool)
        .http_node("calm", &gate.url(), pool)
        .http_node("rare", &gate.url(), pool);
    let mut worker = Worker::ready(&config).await;
    gate.started(1).await;
    // Both have their messages before slots are given.
    vhost.until_ready("busy", 40).await;
    vhost.until_ready("calm", 0).await;
    for started in 2..=20 {
        gate.release(1);
        gate.started(started).await;
        assert_eq!(gate.in_flight(), 1, "one slot runs one delivery");
    }
    let share = |queue: &str| {
        let ids = gate.ids();
        ids.iter().filter(|id| id.starts_with(queue)).count()
    };
    assert!(share("calm") >= 8, "{:?}", gate.ids());
    assert!(share("busy") >= 8, "{:?}", gate.ids());

    // One that comes late waits for no backlog either.
    vhost.publish_all("rare", ids("rare", 1)).await;
    vhost.until_ready("rare", 0).await;
    for _ in 0..6 {
        let before = gate.count();
        gate.release(1);
        gate.started(before + 1).await;
    }
    assert_eq!(share("rare"), 1, "{:?}", gate.ids());
    gate.release_all();
    gate.finished(71).await;
    worker.drained().await;
}

//! Beats that are slower than a worker would send them, because it is told so.

use serde_json::json;

use crate::harness::commander::Commander;
use crate::harness::fleet::FleetProgram;
use crate::harness::gate::Gate;
use crate::harness::status::{BEATS, StatusTap};
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn a_cadence_slows_beats_down_for_a_while() {
    let vhost = Vhost::new().await;
    vhost.declare("orders", "quorum").await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::new(vhost.url())
        .tables(BEATS)
        .http_node("orders", &gate.url(), "");
    let mut worker = Worker::ready(&config).await;
    worker.logged("listening for commands").await;
    let state = tap.state("running").await;
    let id = state.json["worker"].as_str().unwrap();
    let commander = Commander::new(&vhost).await;
    let slow = json!({"command": "cadence", "interval_ms": 1_800_000, "for_ms": 3_600_000});
    let reply = commander.command(id, &slow).await;
    assert!(reply.ok, "{reply:?}");
    let last = tap
        .seen("the last beat for long", |message| {
            message.kind() == "beat" && message.json["lease_ms"] == 6_000_000
        })
        .await;
    let lifted = json!({"command": "cadence", "interval_ms": 1, "for_ms": 0});
    let reply = commander.command(id, &lifted).await;
    assert!(reply.ok, "{reply:?}");
    let next = tap
        .seen("the next beat", |message| {
            message.kind() == "beat" && message.json["seq"].as_u64() > last.json["seq"].as_u64()
        })
        .await;
    assert_eq!(next.json["lease_ms"], 3000);
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_large_for_its_platform_slows_its_workers_down() {
    let vhost = Vhost::new().await;
    vhost.declare("orders", "quorum").await;
    let tap = StatusTap::start(&vhost).await;
    let fleet = FleetProgram::ready(vhost.url(), "beats_per_second = 1").await;
    let gate = Gate::open().await;
    let mut workers = Vec::new();
    for name in ["web-1", "web-2", "web-3", "web-4"] {
        let config = WorkerConfig::new(vhost.url())
            .name(name)
            .tables(BEATS)
            .http_node("orders", &gate.url(), "");
        let worker = Worker::ready(&config).await;
        fleet.until(name, "running").await;
        workers.push(worker);
    }
    // Four workers at one beat a second: one in four seconds each, at least, and three times that is the lease.
    for name in ["web-1", "web-4"] {
        tap.seen("a slow beat", |message| {
            message.kind() == "beat"
                && message.json["name"] == name
                && message.json["lease_ms"].as_u64() >= Some(12_000)
        })
        .await;
    }
    for worker in &mut workers {
        worker.drained().await;
    }
}

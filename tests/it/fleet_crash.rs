//! Workers that do not stop in order: killed, stopped by the system, cut off.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::broker::DedicatedBroker;
use crate::harness::fleet::{FleetProgram, TOKEN};
use crate::harness::gate::Gate;
use crate::harness::proxy::Proxy;
use crate::harness::puppet::Puppet;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that, stretched};
use crate::harness::worker::{Worker, WorkerConfig};

const QUICK: &str = "[heartbeat]\nbusy = \"1s\"\nidle = \"1s\"";

async fn worker(vhost: &Vhost, gate: &Gate) -> Worker {
    vhost.declare("orders", "quorum").await;
    let config = WorkerConfig::for_orders(vhost.url(), gate, "")
        .name("web-1")
        .tables(QUICK);
    Worker::listening(&config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_is_lost_without_any_event() {
    let vhost = Vhost::new().await;
    let gate = Gate::open().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let mut worker = worker(&vhost, &gate).await;
    let running = fleet
        .until_where("web-1", "heard by a beat", |worker| {
            !worker["load"].is_null()
        })
        .await;
    let lease = Duration::from_millis(running["lease"]["ms"].as_u64().unwrap());
    assert!(lease <= Duration::from_secs(5), "{lease:?}");
    worker.kill().await;
    let killed = Instant::now();
    let gone = fleet.until("web-1", "lost").await;
    assert!(killed.elapsed() < stretched(lease + Duration::from_secs(5)));
    let id = gone["id"].as_str().unwrap();
    let detail = fleet.json(&format!("/api/v1/workers/{id}")).await;
    let last = detail["history"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["kind"], &last["state"]),
        (&json!("lost"), &json!("lost"))
    );
    assert_eq!(fleet.json("/api/v1/summary").await["week"]["lost"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_is_silent_and_back_when_it_goes_on() {
    let vhost = Vhost::new().await;
    let gate = Gate::open().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let worker = worker(&vhost, &gate).await;
    let running = fleet
        .until_where("web-1", "heard by a beat", |worker| {
            !worker["load"].is_null()
        })
        .await;
    let id = running["id"].as_str().unwrap();
    worker.signal(Signal::SIGSTOP);
    fleet.until("web-1", "silent").await;
    let (status, body) = fleet.command(id, "pause", Some(TOKEN), None).await;
    assert_eq!(status, 504, "{body}");
    worker.signal(Signal::SIGCONT);
    let back = fleet
        .until_where("web-1", "back", |worker| worker["state"] != "silent")
        .await;
    assert!(["running", "paused"].contains(&back["state"].as_str().unwrap()));
    let detail = fleet.json(&format!("/api/v1/workers/{id}")).await;
    let history = detail["history"].as_array().unwrap().iter();
    let kinds: Vec<_> = history
        .map(|entry| entry["kind"].as_str().unwrap().to_owned())
        .collect();
    let place = |kind: &str| kinds.iter().rposition(|its| its == kind);
    assert!(place("silent") < place("back"), "{kinds:?}");
    assert!(place("silent").is_some(), "{kinds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_broker_s_events_a_crash_shows_at_once() {
    let broker = DedicatedBroker::start().await;
    let enabled = broker.server().enable("rabbitmq_event_exchange").await;
    enabled.unwrap();
    let vhost = broker.vhost().await;
    // The plugin publishes its events in the default virtual host.
    let fleet = FleetProgram::ready(vhost.url(), "events_vhost = \"/\"").await;
    fleet
        .until_summary("the events are followed", |summary| {
            summary["broker"]["events"] == true
        })
        .await;
    let gate = Gate::open().await;
    vhost.declare("orders", "quorum").await;
    // Leases of three minutes: they cannot be what tells.
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "").name("web-1");
    let mut worker = Worker::listening(&config).await;
    fleet.until("web-1", "running").await;
    worker.kill().await;
    let killed = Instant::now();
    fleet.until("web-1", "lost").await;
    let took = killed.elapsed();
    assert!(took < stretched(Duration::from_secs(2)), "{took:?}");

    // One that stops in order is never lost on the way.
    let mut orderly = Worker::listening(&config).await;
    fleet.until("web-1", "running").await;
    orderly.drained().await;
    let stopped = fleet.until("web-1", "stopped").await;
    let id = stopped["id"].as_str().unwrap();
    let history = fleet.json(&format!("/api/v1/workers/{id}")).await["history"].clone();
    assert!(!history.to_string().contains("lost"), "{history}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_loses_its_connection_misjudges_nobody_and_misses_nothing() {
    let vhost = Vhost::new().await;
    let proxy = Proxy::start(vhost.url()).await;
    let mut puppet = Puppet::new(&vhost, "puppet-1").await;
    puppet.lease = 1_000;
    let fleet = FleetProgram::ready(&proxy.url(vhost.url()), "").await;
    puppet.say("state", &puppet.state(1, "running")).await;
    fleet.until("puppet-1", "running").await;
    let mut other = Puppet::new(&vhost, "puppet-2").await;
    other.lease = 60_000;
    other.say("state", &other.state(1, "running")).await;
    fleet.until("puppet-2", "running").await;
    proxy.refuse(true);
    proxy.cut();
    fleet
        .until_summary("the loss is seen", |summary| {
            summary["broker"]["connected"] == false
        })
        .await;
    assert_eq!(fleet.process.get("/readyz").await.unwrap().0, 503);
    // Said while nobody hears: the log keeps it.
    other.say("drain", &other.drain(2)).await;
    let late = Puppet::new(&vhost, "puppet-3").await;
    late.say("state", &late.state(1, "paused")).await;
    proxy.refuse(false);
    fleet.until("puppet-2", "stopped").await;
    fleet.until("puppet-3", "paused").await;
    fleet.process.until_ready().await;
    eventually("puppet-1 has answered", async || {
        let found = fleet.until("puppet-1", "running").await;
        expect_that(!found["lease"].is_null(), || found.to_string())
    })
    .await;
    let detail = fleet.json("/api/v1/workers/puppet-1").await;
    assert_eq!(detail["history"].as_array().unwrap().len(), 1, "{detail}");
}

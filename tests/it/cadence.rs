//! Beats at the pace that others ask for: commands, pages, `tidegate status`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::commander::Commander;
use crate::harness::events::Events;
use crate::harness::fleet::FleetProgram;
use crate::harness::gate::Gate;
use crate::harness::run;
use crate::harness::scene::listening_worker;
use crate::harness::status::{BEATS, StatusMessage, StatusTap};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn a_cadence_slows_beats_down_for_a_while() {
    let (vhost, tap, _gate, mut worker) = listening_worker(BEATS).await;
    let id = tap.running_id().await;
    let commander = Commander::new(&vhost).await;
    let slow = json!({"command": "cadence", "interval_ms": 1_800_000, "for_ms": 3_600_000});
    let reply = commander.command(&id, &slow).await;
    assert!(reply.ok, "{reply:?}");
    let last = tap
        .seen("the last beat for long", |message| {
            message.kind() == "beat" && message.json["lease_ms"] == 5_400_000
        })
        .await;
    let lifted = json!({"command": "cadence", "interval_ms": 1, "for_ms": 0});
    let reply = commander.command(&id, &lifted).await;
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
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let tap = StatusTap::start(&vhost).await;
    let fleet = FleetProgram::ready(vhost.url(), "beats_per_second = 1").await;
    let gate = Gate::open().await;
    let mut workers = Vec::new();
    for name in ["web-1", "web-2", "web-3", "web-4"] {
        let config = WorkerConfig::for_orders(vhost.url(), &gate, "")
            .name(name)
            .tables(BEATS);
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

/// Workers that beat every five to ten minutes by themselves, and are asked for no more yet.
async fn quiet_workers(vhost: &Vhost, gate: &Gate, names: &[&str]) -> Vec<Worker> {
    vhost.declare("orders", "quorum").await;
    let mut workers = Vec::new();
    for name in names {
        let config = WorkerConfig::for_orders(vhost.url(), gate, "").name(name);
        workers.push(Worker::listening(&config).await);
    }
    workers
}

/// The leases of the beats of the worker called `name` so far, in milliseconds.
fn leases(tap: &StatusTap, name: &str) -> Vec<u64> {
    let beats = tap.of_kind("beat");
    let own = beats.iter().filter(|beat| beat.json["name"] == name);
    own.map(|beat| beat.json["lease_ms"].as_u64().unwrap())
        .collect()
}

/// A worker's own lease is three intervals of five minutes at least; that of a requested pace is seconds.
const OWN_LEASE: u64 = 3 * 300_000;

fn is_asked_for(lease: u64) -> bool {
    lease < 10_000
}

/// Waits until the worker beats on request.
async fn beats_fast(tap: &StatusTap, name: &str) {
    eventually(format_args!("{name} beats fast"), async || {
        let leases = leases(tap, name);
        let fast = leases
            .iter()
            .rev()
            .take_while(|lease| is_asked_for(**lease));
        expect_that(fast.count() >= 3, || format!("{leases:?}"))
    })
    .await;
}

/// Waits until the worker has gone back to its own interval.
async fn beats_by_itself(tap: &StatusTap, name: &str) {
    eventually(format_args!("{name} beats by itself"), async || {
        let leases = leases(tap, name);
        let own = leases.last().is_some_and(|lease| *lease >= OWN_LEASE);
        expect_that(own, || format!("{leases:?}"))
    })
    .await;
}

async fn look(fleet: &FleetProgram, query: &str) -> Events {
    let path = format!("/api/v1/events{query}");
    Events::of(fleet.send(Method::GET, &path, None, None).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_beat_while_somebody_looks_and_not_else() {
    let (vhost, gate) = (Vhost::new().await, Gate::open().await);
    let tap = StatusTap::start(&vhost).await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let mut workers = quiet_workers(&vhost, &gate, &["web-1"]).await;
    let before = fleet.until("web-1", "running").await;
    assert_eq!(before["figures"], Value::Null, "nobody has looked");
    assert_eq!(leases(&tap, "web-1"), [0_u64; 0]);

    let events = look(&fleet, "").await;
    beats_fast(&tap, "web-1").await;
    let first = tap.of_kind("beat")[0].json.clone();
    assert_eq!(
        first["full"], true,
        "the first beat for a new looker: {first}"
    );
    let fresh = fleet
        .until_where("web-1", "with figures", |worker| {
            !worker["figures"].is_null()
        })
        .await;
    let age = fresh["figures"]["age_ms"].as_u64().unwrap();
    assert!(age < 5_000, "{age}");
    let summary = fleet.json("/api/v1/summary").await;
    assert!(
        summary["figures_age_ms"].as_u64() < Some(5_000),
        "{summary}"
    );

    drop(events);
    beats_by_itself(&tap, "web-1").await;
    for worker in &mut workers {
        worker.drained().await;
    }
    tap.messages()
        .iter()
        .for_each(StatusMessage::obeys_its_schema);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_shows_one_worker_asks_one_worker() {
    let (vhost, gate) = (Vhost::new().await, Gate::open().await);
    let tap = StatusTap::start(&vhost).await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let _workers = quiet_workers(&vhost, &gate, &["web-1", "web-2"]).await;
    let shown = fleet.until("web-1", "running").await;
    fleet.until("web-2", "running").await;
    let _events = look(&fleet, "?figures=watched").await;
    let watch = async |body: Value| {
        let url = fleet.process.url("/api/v1/watch").await;
        let request = reqwest::Client::new().post(url).json(&body);
        request.send().await.unwrap().status()
    };
    assert_eq!(watch(json!({"workers": [shown["id"]]})).await, 204);
    beats_fast(&tap, "web-1").await;
    assert_eq!(leases(&tap, "web-2"), [0_u64; 0], "nobody looks at it");
    for wrong in [
        json!({"wrokers": []}),
        json!({"workers": vec!["x"; 201]}),
        json!("all"),
    ] {
        assert_eq!(watch(wrong.clone()).await, 400, "{wrong}");
    }
    let plain = fleet
        .send(Method::POST, "/api/v1/watch", None, Some("{}".to_owned()))
        .await;
    assert_eq!(plain.status(), 400, "another site's form could send this");
    assert_eq!(watch(json!({"all": true})).await, 204);
    beats_fast(&tap, "web-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_fleet_programs_each_asks_and_ends_for_itself() {
    let (vhost, gate) = (Vhost::new().await, Gate::open().await);
    let tap = StatusTap::start(&vhost).await;
    let one = FleetProgram::ready(vhost.url(), "").await;
    let mut other = FleetProgram::ready(vhost.url(), "").await;
    let _workers = quiet_workers(&vhost, &gate, &["web-1"]).await;
    one.until("web-1", "running").await;
    other.until("web-1", "running").await;
    let first = look(&one, "").await;
    let _second = look(&other, "").await;
    beats_fast(&tap, "web-1").await;
    // The one that stops ends its own requests, and no others.
    other.process.terminate();
    assert_eq!(other.process.ended().await.code, Some(0));
    let before = leases(&tap, "web-1").len();
    eventually("it still beats fast", async || {
        let later = leases(&tap, "web-1").split_off(before);
        let fast = later.iter().all(|lease| is_asked_for(*lease));
        assert!(fast, "{later:?}");
        expect_that(later.len() >= 5, || format!("{later:?}"))
    })
    .await;
    drop(first);
    beats_by_itself(&tap, "web-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_asks_for_figures_and_leaves_the_workers_as_they_were() {
    let (vhost, gate) = (Vhost::new().await, Gate::open().await);
    let tap = StatusTap::start(&vhost).await;
    let _workers = quiet_workers(&vhost, &gate, &["web-1", "web-2"]).await;
    for name in ["web-1", "web-2"] {
        tap.seen("its running state", |message| {
            message.json["name"] == name && message.phase() == "running"
        })
        .await;
    }
    let states = tap.of_kind("state").len();
    let child = run::spawn(&["status", "--json", "--url", vhost.url().as_str()]);
    let shown = run::ended(child).await.json();
    for worker in shown["workers"].as_array().unwrap() {
        let age = worker["figures"]["age_ms"].as_u64();
        assert!(age.is_some_and(|age| age < 5_000), "{worker}");
    }
    for name in ["web-1", "web-2"] {
        beats_by_itself(&tap, name).await;
        assert!(leases(&tap, name).len() <= 5, "{:?}", leases(&tap, name));
    }
    assert_eq!(
        tap.of_kind("state").len(),
        states,
        "no state is published for a look"
    );
}

//! The fleet program and real workers: what it shows of them while they run, drain and stop.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::events::Events;
use crate::harness::fleet::{FleetProgram, TOKEN};
use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

const QUICK: &str = "[heartbeat]\nbusy = \"1s\"\nidle = \"1s\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_seen_to_run_to_drain_and_to_stop() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 3).await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "concurrency = 2\nprefetch = 4")
        .name("web-1")
        .tables(QUICK);
    let mut worker = Worker::ready(&config).await;
    let running = fleet
        .until_where("web-1", "running with two deliveries", |worker| {
            worker["state"] == "running" && worker["nodes"][0]["in_flight"] == 2
        })
        .await;
    assert_eq!(running["pid"], worker.pid().as_raw());
    assert_eq!(running["nodes"][0]["queue"], "orders");
    assert_eq!(running["nodes"][0]["slots"], 2);
    assert!(running["lease"]["left_ms"].as_u64() <= running["lease"]["ms"].as_u64());
    let summary = fleet.json("/api/v1/summary").await;
    assert_eq!(summary["workers"]["running"], 1);
    assert_eq!(
        (&summary["nodes"], &summary["slots"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(summary["broker"]["connected"], true);

    worker.terminate();
    let draining = fleet.until("web-1", "draining").await;
    assert_eq!(draining["reason"], "SIGTERM");
    assert!(draining["deadline_at"].as_str() > draining["since"].as_str());
    gate.release_all();
    assert_eq!(worker.ended().await.code, Some(0));
    let stopped = fleet.until("web-1", "stopped").await;
    assert_eq!(stopped["drain"]["outcome"], "clean");
    assert_eq!(stopped["drain"]["finished"], 2);
    assert_eq!(stopped["lease"], Value::Null);
    let id = stopped["id"].as_str().unwrap();
    let detail = fleet.json(&format!("/api/v1/workers/{id}")).await;
    let history = detail["history"].as_array().unwrap();
    let mut states: Vec<_> = history.iter().map(|entry| &entry["state"]).collect();
    // A worker that runs before its status can be published never says that it started.
    states.retain(|state| *state != "starting");
    assert_eq!(states, ["running", "draining", "stopped"]);
    let drains = fleet.json("/api/v1/drains").await;
    assert_eq!(drains["drains"][0]["worker"], id);
    let week = &fleet.json("/api/v1/summary").await["week"];
    assert_eq!((&week["drains"], &week["clean"]), (&json!(1), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_reach_workers_and_need_the_token() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "").name("web-1");
    let mut worker = Worker::listening(&config).await;
    let running = fleet.until("web-1", "running").await;
    let id = running["id"].as_str().unwrap();

    let (status, body) = fleet.command(id, "pause", None, None).await;
    assert_eq!(
        (status.as_u16(), &body["error"]["code"]),
        (401, &json!("unauthorised"))
    );
    let (status, _) = fleet
        .command(id, "pause", Some("commander-tokem"), None)
        .await;
    assert_eq!(status, 403);
    let (status, body) = fleet.command(id, "dance", Some(TOKEN), None).await;
    assert_eq!(status, 405, "{body}");
    let (status, body) = fleet.command("nobody", "pause", Some(TOKEN), None).await;
    assert_eq!(status, 404, "{body}");
    for body in ["{", "{\"raeson\": \"x\"}", "{\"reason\": 5}"] {
        let (status, _) = fleet
            .command(id, "pause", Some(TOKEN), Some(body.to_owned()))
            .await;
        assert_eq!(status, 400, "{body}");
    }
    let large = format!("{{\"reason\": \"{}\"}}", "x".repeat(20_000));
    let (status, _) = fleet.command(id, "pause", Some(TOKEN), Some(large)).await;
    assert_eq!(status, 413);
    assert_eq!(fleet.until("web-1", "running").await["state"], "running");

    let reason = Some(r#"{"reason": "maintenance"}"#.to_owned());
    let (status, body) = fleet.command(id, "pause", Some(TOKEN), reason).await;
    assert_eq!(
        (status.as_u16(), &body["phase"]),
        (200, &json!("paused")),
        "{body}"
    );
    let paused = fleet.until("web-1", "paused").await;
    assert!(paused["reason"].as_str().unwrap().contains("maintenance"));
    let (status, _) = fleet.command(id, "resume", Some(TOKEN), None).await;
    assert_eq!(status, 200);
    fleet.until("web-1", "running").await;
    let (status, _) = fleet.command(id, "drain", Some(TOKEN), None).await;
    assert_eq!(status, 200);
    assert_eq!(worker.ended().await.code, Some(0));
    fleet.until("web-1", "stopped").await;
    let (status, body) = fleet.command(id, "pause", Some(TOKEN), None).await;
    assert_eq!(
        (status.as_u16(), &body["error"]["code"]),
        (404, &json!("gone"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_commands_are_off_and_a_read_token_closes_reads() {
    let vhost = Vhost::new().await;
    let open = FleetProgram::spawn(vhost.url(), "");
    open.process.until_ready().await;
    let (status, body) = open
        .command("w", "drain", Some("anything-at-all"), None)
        .await;
    assert_eq!(
        (status.as_u16(), &body["error"]["code"]),
        (403, &json!("commands_off"))
    );
    assert_eq!(open.json("/api/v1/summary").await["commands"], false);

    let closed = FleetProgram::ready(vhost.url(), "read_token = \"reader-token\"").await;
    for path in ["summary", "workers", "workers/x", "drains", "events"] {
        let path = format!("/api/v1/{path}");
        let response = closed.send(Method::GET, &path, None, None).await;
        assert_eq!(response.status(), 401, "{path}");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        let wrong = closed
            .send(Method::GET, &path, Some("reader-tokem"), None)
            .await;
        assert_eq!(wrong.status(), 403, "{path}");
    }
    assert_eq!(closed.process.get("/metrics").await.unwrap().0, 401);
    for token in [TOKEN, "reader-token"] {
        let response = closed
            .send(Method::GET, "/api/v1/summary", Some(token), None)
            .await;
        assert_eq!(response.status(), 200);
    }
    let (status, body) = closed
        .command("w", "drain", Some("reader-token"), None)
        .await;
    assert_eq!(status, 403, "{body}");
    for path in ["/", "/app.js", "/livez", "/readyz"] {
        assert_eq!(closed.process.get(path).await.unwrap().0, 200, "{path}");
    }
}

/// What two programs must agree on: everything but what depends on when they heard it.
fn told(mut workers: Vec<Value>) -> Vec<Value> {
    for worker in &mut workers {
        let fields = worker.as_object_mut().unwrap();
        for of_receipt in ["lease", "last_heard", "load", "figures"] {
            fields.remove(of_receipt);
        }
        if fields["state"] == "lost" {
            fields.remove("since");
        }
        for node in fields["nodes"].as_array_mut().unwrap() {
            let node = node.as_object_mut().unwrap();
            node.retain(|key, _| ["queue", "phase", "slots", "handler"].contains(&key.as_str()));
        }
    }
    workers
}

#[tokio::test(flavor = "multi_thread")]
async fn two_programs_agree_and_one_that_restarts_shows_the_same() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let gate = Gate::open().await;
    let config = |name: &str| {
        WorkerConfig::for_orders(vhost.url(), &gate, "")
            .name(name)
            .tables(QUICK)
    };
    let first = FleetProgram::ready(vhost.url(), "").await;
    let mut stops = Worker::ready(&config("stops")).await;
    let mut crashes = Worker::ready(&config("crashes")).await;
    let stays = Worker::ready(&config("stays")).await;
    let pauses = Worker::listening(&config("pauses")).await;
    let id = first.until("pauses", "running").await["id"].clone();
    let (status, _) = first
        .command(id.as_str().unwrap(), "pause", Some(TOKEN), None)
        .await;
    assert_eq!(status, 200);
    stops.drained().await;
    crashes.kill().await;
    first.until("crashes", "lost").await;
    first.until("stops", "stopped").await;
    first.until("pauses", "paused").await;

    let mut second = FleetProgram::ready(vhost.url(), "").await;
    let same = async |fleet: &FleetProgram| {
        eventually("both show the same", async || {
            let (one, two) = (told(first.workers().await), told(fleet.workers().await));
            expect_that(one == two && one.len() == 4, || {
                format!("{one:#?}\n{two:#?}")
            })
        })
        .await;
    };
    same(&second).await;
    second.process.kill().await;
    let third = FleetProgram::ready(vhost.url(), "").await;
    same(&third).await;
    let (one, two) = (
        first.json("/api/v1/drains").await,
        third.json("/api/v1/drains").await,
    );
    assert_eq!(one["drains"], two["drains"]);
    drop((stays, pauses));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_looks_sees_every_change_and_a_snapshot_when_it_comes_back() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let mut fleet = FleetProgram::ready(vhost.url(), "").await;
    let look = async || Events::of(fleet.send(Method::GET, "/api/v1/events", None, None).await);
    let mut events = look().await;
    let snapshot = events.next().await.unwrap();
    assert_eq!(snapshot.kind, "snapshot");
    assert_eq!(snapshot.data["workers"], json!([]));
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "").name("web-1");
    let mut worker = Worker::ready(&config).await;
    let running = events
        .until("running", |event| {
            event.kind == "worker" && event.data["state"] == "running"
        })
        .await;
    let summary = events
        .until("a summary", |event| event.kind == "summary")
        .await;
    assert_ne!(running.id, summary.id);
    worker.drained().await;
    events
        .until("stopped", |event| event.data["state"] == "stopped")
        .await;
    events
        .until("its drain", |event| event.kind == "drain")
        .await;
    drop(events);
    let mut again = look().await;
    let snapshot = again.next().await.unwrap();
    assert_eq!(snapshot.data["workers"][0]["state"], "stopped");
    assert_eq!(snapshot.data["drains"][0]["name"], "web-1");
    let metrics = fleet.process.get("/metrics").await.unwrap().1;
    assert!(
        metrics.contains("tidegate_fleet_workers{state=\"stopped\"} 1"),
        "{metrics}"
    );

    fleet.process.terminate();
    let ended = fleet.process.ended().await;
    assert_eq!(ended.code, Some(0), "open events do not keep it");
    while again.next().await.is_some() {}
}

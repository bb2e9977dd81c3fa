//! Old and new programs side by side, as in a roll: an older build of `tidegate` is given by its path in the variable
//! `TIDEGATE_TEST_OLD_PROGRAM`.
//!
//! ```sh
//! TIDEGATE_TEST_OLD_PROGRAM=/path/to/old/tidegate cargo nextest run --run-ignored only -E 'test(roll::)'
//! ```

use std::path::PathBuf;

use serde_json::Value;

use crate::harness::fleet::{FleetProgram, TOKEN};
use crate::harness::gate::Gate;
use crate::harness::run;
use crate::harness::status::BEATS;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

fn old_program() -> PathBuf {
    let path = std::env::var_os("TIDEGATE_TEST_OLD_PROGRAM");
    path.expect("TIDEGATE_TEST_OLD_PROGRAM names an older build of tidegate")
        .into()
}

fn config(vhost: &Vhost, gate: &Gate, name: &str) -> WorkerConfig {
    WorkerConfig::for_orders(vhost.url(), gate, "")
        .name(name)
        .tables(BEATS)
}

async fn old_worker(vhost: &Vhost, gate: &Gate, name: &str) -> Worker {
    let toml = config(vhost, gate, name).toml();
    let worker = Worker::spawn_other(&old_program(), "worker", &toml, &[]);
    worker.until_ready().await;
    worker.until_listening().await;
    worker
}

async fn new_worker(vhost: &Vhost, gate: &Gate, name: &str) -> Worker {
    Worker::listening(&config(vhost, gate, name)).await
}

async fn old_fleet(vhost: &Vhost) -> FleetProgram {
    let lines = format!("token = \"{TOKEN}\"");
    let fleet = FleetProgram::spawn_other(&old_program(), vhost.url(), &lines);
    fleet.process.until_ready().await;
    fleet
}

/// Pauses and resumes the worker, and waits until the fleet shows it.
async fn command(fleet: &FleetProgram, name: &str) {
    let running = fleet.until(name, "running").await;
    let id = running["id"].as_str().unwrap();
    for (word, state) in [("pause", "paused"), ("resume", "running")] {
        let (status, answer) = fleet.command(id, word, Some(TOKEN), None).await;
        assert_eq!(status, 200, "{answer}");
        fleet.until(name, state).await;
    }
}

/// Waits until the fleet has counted `expected` deliveries that are done.
async fn done(fleet: &FleetProgram, expected: u64) {
    eventually("all is counted", async || {
        let workers = fleet.workers().await;
        let done: u64 = workers
            .iter()
            .filter_map(|worker| worker["nodes"][0]["done"].as_u64())
            .sum();
        expect_that(done == expected, || format!("{workers:?}"))
    })
    .await;
}

/// Kills one worker and drains the other one, and waits until every fleet shows both ends.
async fn end(mut killed: Worker, mut drained: Worker, fleets: &[&FleetProgram], names: [&str; 2]) {
    killed.kill().await;
    drained.drained().await;
    for fleet in fleets {
        fleet.until(names[0], "lost").await;
        let stopped = fleet.until(names[1], "stopped").await;
        assert_eq!(stopped["drain"]["outcome"], "clean");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an older build of tidegate"]
async fn a_new_fleet_program_shows_and_commands_old_workers() {
    let (vhost, gate) = (Vhost::new().await, Gate::open().await);
    vhost.declare("orders", "quorum").await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let (one, other) = (
        old_worker(&vhost, &gate, "old-1").await,
        old_worker(&vhost, &gate, "old-2").await,
    );
    command(&fleet, "old-1").await;
    vhost.publish("orders", 5).await;
    done(&fleet, 5).await;
    let fresh = fleet
        .until_where("old-2", "with figures", |worker| {
            !worker["figures"].is_null()
        })
        .await;
    assert!(fresh["figures"]["age_ms"].as_u64().is_some(), "{fresh}");
    end(one, other, &[&fleet], ["old-1", "old-2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an older build of tidegate"]
async fn an_old_fleet_program_shows_and_commands_new_workers() {
    let (vhost, gate) = (Vhost::new().await, Gate::open().await);
    vhost.declare("orders", "quorum").await;
    let fleet = old_fleet(&vhost).await;
    let (one, other) = (
        new_worker(&vhost, &gate, "new-1").await,
        new_worker(&vhost, &gate, "new-2").await,
    );
    command(&fleet, "new-1").await;
    vhost.publish("orders", 5).await;
    done(&fleet, 5).await;
    end(one, other, &[&fleet], ["new-1", "new-2"]).await;
}

/// What both programs must agree on.
fn states(workers: &[Value]) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    workers
        .iter()
        .map(|worker| (text(&worker["id"]), text(&worker["state"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an older build of tidegate"]
async fn old_and_new_fleet_programs_agree_on_old_and_new_workers() {
    let (vhost, gate) = (Vhost::new().await, Gate::open().await);
    vhost.declare("orders", "quorum").await;
    let old = old_fleet(&vhost).await;
    let new = FleetProgram::ready(vhost.url(), "").await;
    let (one, other) = (
        old_worker(&vhost, &gate, "old-1").await,
        new_worker(&vhost, &gate, "new-1").await,
    );
    command(&old, "new-1").await;
    command(&new, "old-1").await;
    let agree = async || {
        eventually("both show the same", async || {
            let (before, after) = (states(&old.workers().await), states(&new.workers().await));
            expect_that(before == after && before.len() == 2, || {
                format!("{before:?} {after:?}")
            })
        })
        .await;
    };
    agree().await;
    end(one, other, &[&old, &new], ["old-1", "new-1"]).await;
    agree().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an older build of tidegate"]
async fn status_of_either_build_shows_the_figures_of_old_and_new_workers() {
    let (vhost, gate) = (Vhost::new().await, Gate::open().await);
    vhost.declare("orders", "quorum").await;
    // Nobody beats by itself while this test lasts.
    let seldom = "[heartbeat]\nbusy = \"1h\"\nidle = \"1h\"";
    let config = |name: &str| {
        let config = WorkerConfig::new(vhost.url()).name(name).tables(seldom);
        config.http_node("orders", &gate.url(), "")
    };
    let old = Worker::spawn_other(&old_program(), "worker", &config("old-1").toml(), &[]);
    let new = Worker::spawn(&config("new-1"));
    for worker in [&old, &new] {
        worker.until_ready().await;
        worker.until_listening().await;
    }
    let arguments = ["status", "--json", "--url", vhost.url().as_str()];
    for child in [
        run::spawn(&arguments),
        run::spawn_other(&old_program(), &arguments),
    ] {
        let shown = run::ended(child).await;
        assert_eq!(shown.code, Some(0), "{shown:?}");
        let shown = shown.json();
        let workers = shown["workers"].as_array().unwrap();
        assert_eq!(workers.len(), 2, "{shown}");
        assert!(
            workers.iter().all(|worker| !worker["load"].is_null()),
            "{shown}"
        );
    }
}

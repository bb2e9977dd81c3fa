//! `tidegate status`, `drain`, `pause` and `resume`: real workers, seen and commanded from a terminal.

use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::process::{Child, Command};

use crate::harness::fleet::FleetProgram;
use crate::harness::gate::Gate;
use crate::harness::run::{self, Run, ended};
use crate::harness::status::StatusTap;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Output, Worker, WorkerConfig};

/// What came of the command to the only worker.
fn only(run: &Run) -> Value {
    let report = run.json();
    let workers = report["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 1, "{report}");
    workers[0].clone()
}

fn spawn(vhost: &Vhost, arguments: &[&str]) -> Child {
    run::spawn(&[arguments, &["--url", vhost.url().as_str()]].concat())
}

async fn run(vhost: &Vhost, arguments: &[&str]) -> Run {
    ended(spawn(vhost, arguments)).await
}

/// A virtual host with queue `orders`, and a closed gate for its handlers.
async fn scene() -> (Vhost, Gate) {
    let vhost = Vhost::with_queue("orders", "classic").await;
    (vhost, Gate::closed().await)
}

async fn worker(vhost: &Vhost, gate: &Gate, name: &str) -> Worker {
    let node = "concurrency = 1\nprefetch = 1";
    let config = WorkerConfig::for_orders(vhost.url(), gate, node).name(name);
    Worker::ready(&config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_is_shown_without_a_fleet_program() {
    let (vhost, gate) = scene().await;
    let missing = run(&vhost, &["status"]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    let expected = "no worker has ever said anything on this virtual host";
    assert!(missing.stderr.contains(expected), "{missing:?}");

    let mut workers = [
        worker(&vhost, &gate, "web").await,
        worker(&vhost, &gate, "mail").await,
    ];
    vhost.publish("orders", 1).await;
    gate.started(1).await;
    let shown = run(&vhost, &["status", "--json"]).await;
    let picture = shown.json();
    assert_eq!(
        (&picture["log"], &picture["connected"]),
        (&false.into(), &true.into())
    );
    assert_eq!(picture["summary"]["workers"]["running"], 2, "{picture}");
    let found: Vec<_> = picture["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|worker| {
            (
                &worker["name"],
                &worker["state"],
                &worker["nodes"][0]["queue"],
            )
        })
        .collect();
    let (running, orders) = (Value::from("running"), Value::from("orders"));
    let (web, mail) = (Value::from("web"), Value::from("mail"));
    assert_eq!(
        found,
        [(&mail, &running, &orders), (&web, &running, &orders)]
    );
    let in_flight = |worker: &Value| worker["nodes"][0]["in_flight"].as_u64().unwrap();
    let busy: u64 = picture["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(in_flight)
        .sum();
    assert_eq!(busy, 1, "beats are asked for: {picture}");

    let shown = run(&vhost, &["status"]).await;
    assert_eq!((shown.code, &*shown.stderr), (Some(0), ""), "{shown:?}");
    assert!(shown.stdout.starts_with("2 live  2 running\n"), "{shown:?}");
    assert!(shown.stdout.contains("there is no log"), "{shown:?}");
    let log = vhost.facts("tidegate.status.log").await;
    assert_eq!(log, None, "a look declares nothing");
    gate.release_all();
    for worker in &mut workers {
        worker.drained().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_in_json_says_what_changes() {
    let (vhost, gate) = scene().await;
    let mut worker = worker(&vhost, &gate, "web").await;
    let mut watching = spawn(&vhost, &["status", "--watch", "--json"]);
    let printed = Output::default();
    tokio::spawn(printed.clone().read(watching.stdout.take().unwrap()));
    let until = async |wanted: &str| {
        eventually(format_args!("the worker is shown {wanted}"), async || {
            let lines = printed.log();
            let last = lines
                .last()
                .map(|line| line.0["workers"][0]["state"].clone());
            expect_that(last == Some(wanted.into()), || format!("{last:?}"))
        })
        .await;
    };
    until("running").await;
    worker.drained().await;
    until("stopped").await;
    let pid = Pid::from_raw(i32::try_from(watching.id().unwrap()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(ended(watching).await.code, Some(0));
    let drawn = run(&vhost, &["status", "--watch"]).await;
    assert_eq!(drawn.code, Some(2), "no terminal: {drawn:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_whose_output_was_closed_from_the_beginning_ends_at_once() {
    let (vhost, gate) = scene().await;
    let mut worker = worker(&vhost, &gate, "web").await;
    worker.until_listening().await;
    let mut shell = Command::new("sh");
    let watching = shell
        .args(["-c", "exec \"$0\" \"$@\" >&-"])
        .args([env!("CARGO_BIN_EXE_tidegate"), "status", "--watch"])
        .args(["--json", "--url", vhost.url().as_str()])
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let watched = ended(watching).await;
    assert_eq!(watched.code, Some(0), "{watched:?}");
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_paused_resumed_and_drained_by_name_id_or_its_beginning() {
    let (vhost, gate) = scene().await;
    let mut worker = worker(&vhost, &gate, "web").await;
    let paused = run(&vhost, &["pause", "web", "--reason", "deploy", "--json"]).await;
    assert_eq!(paused.code, Some(0), "{paused:?}");
    let result = only(&paused);
    assert_eq!(
        (&result["outcome"], &result["phase"]),
        (&"obeyed".into(), &"paused".into())
    );
    let id = result["worker"].as_str().unwrap().to_owned();
    worker.until_readiness(503).await;
    let resumed = run(&vhost, &["resume", &id[..id.len() - 3]]).await;
    assert_eq!(resumed.stdout, format!("{id}: running\n"), "{resumed:?}");
    worker.until_ready().await;
    let drained = run(
        &vhost,
        &["drain", "web", "--wait", "--reason", "deploy 42", "--json"],
    )
    .await;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    let result = only(&drained);
    assert_eq!(
        (&result["outcome"], &result["drain"]["outcome"]),
        (&"stopped".into(), &"clean".into())
    );
    let report = worker.ended_with(0).await;
    let reason = report.text("reason");
    assert!(reason.contains("deploy 42"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_takes_too_long_is_said_and_goes_on() {
    let (vhost, gate) = scene().await;
    let mut worker = worker(&vhost, &gate, "web").await;
    vhost.publish("orders", 1).await;
    gate.started(1).await;
    let late = run(
        &vhost,
        &["drain", "web", "--wait", "--timeout", "1ms", "--json"],
    )
    .await;
    assert_eq!(late.code, Some(1), "{late:?}");
    assert_eq!(only(&late)["outcome"], "timed_out");
    let refused = run(&vhost, &["pause", "web", "--json"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let result = only(&refused);
    assert_eq!(
        (&result["outcome"], &result["phase"]),
        (&"refused".into(), &"draining".into())
    );
    assert!(result["error"].is_string(), "{result}");
    // A second drain changes nothing, and can be waited for.
    let waiting = spawn(&vhost, &["drain", "web", "--wait", "--json"]);
    eventually("the worker is told again", async || {
        let lines = worker.log().log();
        let drains = lines
            .iter()
            .filter(|line| line.message() == "commanded" && line.text("command") == "drain");
        let drains = drains.count();
        expect_that(drains == 2, || format!("{drains} times"))
    })
    .await;
    gate.release_all();
    assert_eq!(worker.ended().await.code, Some(0));
    let drained = ended(waiting).await;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert_eq!(only(&drained)["outcome"], "stopped", "{drained:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_was_interrupted_is_said_by_exit_code_3() {
    let (vhost, gate) = scene().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "concurrency = 1\nprefetch = 1")
        .name("web")
        .grace("1s");
    let mut worker = Worker::ready(&config).await;
    vhost.publish("orders", 1).await;
    gate.started(1).await;
    let drained = run(&vhost, &["drain", "web", "--wait", "--json"]).await;
    assert_eq!(drained.code, Some(3), "{drained:?}");
    let result = only(&drained);
    assert_eq!(
        (&result["outcome"], &result["drain"]["interrupted"]),
        (&"interrupted".into(), &1.into())
    );
    assert_eq!(worker.ended().await.code, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_unknown_gone_or_killed_as_it_drains_is_told_apart() {
    let (vhost, gate) = scene().await;
    let mut killed = worker(&vhost, &gate, "web").await;
    vhost.publish("orders", 1).await;
    gate.started(1).await;
    let unknown = run(&vhost, &["drain", "nobody", "web", "--json"]).await;
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    let outcomes = unknown.json();
    assert_eq!(outcomes["workers"][0]["outcome"], "unknown", "{outcomes}");
    assert_eq!(outcomes["workers"][1]["outcome"], "not_tried", "{outcomes}");
    let usage = run(&vhost, &["drain"]).await;
    assert_eq!(usage.code, Some(2), "{usage:?}");

    let tap = StatusTap::start(&vhost).await;
    let waiting = spawn(&vhost, &["drain", "web", "--wait", "--json"]);
    tap.state("draining").await;
    killed.kill().await;
    let gone = ended(waiting).await;
    assert_eq!(gone.code, Some(1), "{gone:?}");
    assert_eq!(only(&gone)["outcome"], "gone", "{gone:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_drained_one_by_one() {
    let (vhost, gate) = scene().await;
    gate.release_all();
    let mut workers = Vec::new();
    for name in ["web", "web", "mail"] {
        workers.push(worker(&vhost, &gate, name).await);
    }
    let tap = StatusTap::start(&vhost).await;
    let drained = run(&vhost, &["drain", "--all", "--max-at-once", "1"]).await;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert_eq!(drained.stdout.lines().count(), 3, "{drained:?}");
    for worker in &mut workers {
        assert_eq!(worker.ended().await.code, Some(0));
    }
    eventually("every report is here", async || {
        let reports = tap.of_kind("drain").len();
        expect_that(reports == 3, || format!("{reports}"))
    })
    .await;
    // The next began when the one before had stopped.
    let messages = tap.messages();
    let story: Vec<_> = messages
        .iter()
        .filter(|message| message.kind() == "drain" || message.phase() == "draining")
        .map(|message| (message.kind(), message.json["worker"].as_str().unwrap()))
        .collect();
    for pair in story.chunks(2) {
        assert_eq!((pair[0].0, pair[1].0), ("state", "drain"), "{story:?}");
        assert_eq!(pair[0].1, pair[1].1, "{story:?}");
    }
    let nobody = run(&vhost, &["drain", "--all"]).await;
    assert_eq!(
        (nobody.code, &*nobody.stdout),
        (Some(0), "no live worker\n"),
        "{nobody:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn all_means_all_that_live_although_the_log_knows_one_that_is_lost() {
    let (vhost, gate) = scene().await;
    gate.release_all();
    // The fleet program keeps the log, from which commands learn of the worker that is lost.
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let mut workers = Vec::new();
    for name in ["a", "b", "c"] {
        workers.push(worker(&vhost, &gate, name).await);
    }
    fleet.until("c", "running").await;
    drop(fleet);
    workers[0].kill().await;
    for command in ["pause", "resume"] {
        let run = run(&vhost, &[command, "--all", "--json"]).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.json()["ok"].as_bool().unwrap(), "{run:?}");
    }
    let drained = run(&vhost, &["drain", "--all", "--max-at-once", "1"]).await;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    for worker in &mut workers[1..] {
        assert_eq!(worker.ended().await.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_depend_on_who_reads_its_results() {
    let (vhost, gate) = scene().await;
    gate.release_all();
    let mut workers = [
        worker(&vhost, &gate, "web").await,
        worker(&vhost, &gate, "mail").await,
    ];
    let mut draining = spawn(&vhost, &["drain", "--all", "--max-at-once", "1"]);
    drop(draining.stdout.take());
    let drained = ended(draining).await;
    assert_eq!(
        (drained.code, &*drained.stderr),
        (Some(0), ""),
        "{drained:?}"
    );
    for worker in &mut workers {
        assert_eq!(worker.ended().await.code, Some(0));
    }
}

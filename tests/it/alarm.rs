//! Commands while the broker is in an alarm: it reads nothing from connections that publish, so that no worker can be
//! asked or commanded.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::broker::DedicatedBroker;
use crate::harness::fleet::FleetProgram;
use crate::harness::gate::Gate;
use crate::harness::run::{Run, ended, spawn};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

/// What is said of the alarm, with the broker's own words at its end.
const ALARM: &str = "the broker is in an alarm and blocks connections that publish: low on memory";
/// The time after which a publish that was stopped used to give up.
const STOP_LIMIT: Duration = Duration::from_secs(10);

async fn run(vhost: &Vhost, arguments: &[&str]) -> Run {
    ended(spawn(
        &[arguments, &["--url", vhost.url().as_str()]].concat(),
    ))
    .await
}

/// A broker, and a virtual host with a queue.
async fn scene() -> (DedicatedBroker, Vhost) {
    let broker = DedicatedBroker::start().await;
    let vhost = broker.vhost().await;
    vhost.declare("orders", "classic").await;
    (broker, vhost)
}

/// The worker `web`, which has nothing to do.
async fn web(vhost: &Vhost) -> Worker {
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "").name("web");
    Worker::listening(&config).await
}

/// The command fails, names the alarm, and says nothing about workers.
fn names_the_alarm(run: &Run) {
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stderr.contains(ALARM), "{run:?}");
    assert_eq!(run.stdout, "", "{run:?}");
    assert!(!run.stderr.contains("fleet program"), "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_alarm_nothing_is_claimed_about_workers_that_nobody_has_heard() {
    let (broker, vhost) = scene().await;
    let mut worker = web(&vhost).await;
    broker.set_memory_alarm(true).await;
    let (all, paused, one, shown, queues) = tokio::join!(
        run(&vhost, &["drain", "--all", "--wait"]),
        run(&vhost, &["pause", "--all"]),
        run(&vhost, &["drain", "web"]),
        run(&vhost, &["status"]),
        run(&vhost, &["status", "--queues"]),
    );
    for run in [&all, &paused, &one] {
        names_the_alarm(run);
    }
    for run in [&shown, &queues] {
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stdout.contains(ALARM), "{run:?}");
        assert!(!run.stdout.contains("no worker"), "{run:?}");
    }
    assert!(!worker.has_ended());
    broker.set_memory_alarm(false).await;
    let drained = run(&vhost, &["drain", "--all", "--wait"]).await;
    assert_eq!(drained.code, Some(0), "{drained:?}");
    worker.ended_with(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_alarm_the_log_of_states_says_what_was_known_and_nobody_is_commanded() {
    let (broker, vhost) = scene().await;
    // The fleet program keeps the log, from which commands learn of workers.
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let mut worker = web(&vhost).await;
    fleet.until("web", "running").await;
    drop(fleet);
    broker.set_memory_alarm(true).await;
    let (all, one, shown) = tokio::join!(
        run(&vhost, &["drain", "--all", "--wait"]),
        run(&vhost, &["resume", "web", "--json"]),
        run(&vhost, &["status", "--json"]),
    );
    for run in [&all, &one] {
        names_the_alarm(run);
    }
    assert_eq!(shown.code, Some(1), "{shown:?}");
    let picture = shown.json();
    assert_eq!(picture["problem"], ALARM, "{picture}");
    assert_eq!(picture["connected"], false, "{picture}");
    assert_eq!(picture["workers"][0]["name"], "web", "{picture}");
    assert!(!worker.has_ended());
    broker.set_memory_alarm(false).await;
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_in_an_alarm_ends_at_its_first_signal() {
    let (broker, vhost) = scene().await;
    broker.set_memory_alarm(true).await;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let arguments = ["publish", "orders", "--count", "3"];
        let publishing = spawn(&[&arguments[..], &["--url", vhost.url().as_str()]].concat());
        let management = broker.server().management();
        eventually("the publishing connection is blocked", async || {
            let found = management.get("/api/connections").await?;
            let blocked = found.as_array().into_iter().flatten().any(|one| {
                let name = &one["client_properties"]["connection_name"];
                one["state"] == "blocked" && name == "tidegate publish"
            });
            expect_that(blocked, || format!("{found}"))
        })
        .await;
        let begun = Instant::now();
        let pid = Pid::from_raw(i32::try_from(publishing.id().unwrap()).unwrap());
        kill(pid, signal).unwrap();
        let stopped = ended(publishing).await;
        let took = begun.elapsed();
        assert_eq!(stopped.code, Some(1), "{stopped:?}");
        assert!(
            stopped.stderr.contains("stopped by a signal"),
            "{stopped:?}"
        );
        assert!(took < STOP_LIMIT, "{took:?}");
    }
    broker.set_memory_alarm(false).await;
}

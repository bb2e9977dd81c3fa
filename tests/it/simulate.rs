//! `tidegate simulate`: a fleet that is not there says what a real one would, and obeys.

use std::collections::{BTreeMap, BTreeSet};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use tokio::process::Child;
use url::Url;

use crate::harness::commander::Commander;
use crate::harness::run::{self, ended};
use crate::harness::status::StatusTap;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};

/// Where the broker runs in a container, its address is not always loopback.
const OWN_BROKER: &str = "--not-only-here";

fn spawn(url: &Url, arguments: &[&str]) -> Child {
    let simulate = ["simulate", "--json", "--url", url.as_str()];
    run::spawn(&[&simulate, arguments].concat())
}

/// The last phase of each worker, `stopped` after a drain report, in the order of their ids.
fn phases(tap: &StatusTap) -> BTreeMap<String, String> {
    let mut phases = BTreeMap::new();
    for message in tap.messages() {
        let worker = message.json["worker"].as_str().unwrap().to_owned();
        let phase = match message.kind() {
            "drain" => "stopped",
            "state" => message.phase(),
            _ => continue,
        };
        phases.insert(worker, phase.to_owned());
    }
    phases
}

#[tokio::test(flavor = "multi_thread")]
async fn a_simulated_fleet_runs_and_drains_at_the_end() {
    let vhost = Vhost::new().await;
    let tap = StatusTap::start(&vhost).await;
    let arguments = [
        OWN_BROKER,
        "--workers",
        "30",
        "--nodes",
        "3",
        "--duration",
        "2s",
        "--load",
        "0.5",
    ];
    let output = ended(spawn(vhost.url(), &arguments)).await;
    assert_eq!(output.code, Some(0), "{output:?}");
    let report = output.json();
    assert_eq!(
        (&report["workers"], &report["unconfirmed"]),
        (&30.into(), &0.into())
    );
    assert_eq!(report["sent_in_all"]["drain"]["count"], 30, "{report}");
    eventually("every report is here", async || {
        let phases = phases(&tap);
        let stopped = phases.values().filter(|phase| *phase == "stopped").count();
        expect_that(stopped == 30 && phases.len() == 30, || {
            format!("{phases:?}")
        })
    })
    .await;
    let names: BTreeSet<_> = tap
        .messages()
        .iter()
        .map(|message| message.json["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(names.contains("sim-0") && names.len() == 30, "{names:?}");
    let state = &tap.of_kind("state")[0];
    assert_eq!(state.json["nodes"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_workers_crash_and_come_back_under_another_id() {
    let vhost = Vhost::new().await;
    let tap = StatusTap::start(&vhost).await;
    let arguments = [
        OWN_BROKER,
        "--workers",
        "5",
        "--duration",
        "600s",
        "--crash-rate",
        "600",
    ];
    let child = spawn(vhost.url(), &arguments);
    eventually("some have come back", async || {
        let workers = phases(&tap).len();
        expect_that(workers >= 8, || format!("{workers} ids"))
    })
    .await;
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    let output = ended(child).await;
    let report = output.json();
    assert_eq!(report["stopped"], true, "{report}");
    assert!(report["crashes"].as_u64().unwrap() >= 3, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn simulated_workers_have_control_queues_and_obey() {
    let vhost = Vhost::new().await;
    let tap = StatusTap::start(&vhost).await;
    let child = spawn(
        vhost.url(),
        &[OWN_BROKER, "--workers", "3", "--duration", "600s"],
    );
    let id = tap.running_id().await;
    let commander = Commander::new(&vhost).await;
    let reply = commander.command(&id, &json!({"command": "ping"})).await;
    assert_eq!((reply.ok, reply.phase.as_str()), (true, "running"));
    let drain = json!({"command": "drain", "reason": "test"});
    let reply = commander.command(&id, &drain).await;
    assert!(reply.ok, "{reply:?}");
    let drain = tap.drain().await;
    assert_eq!(
        (&drain.json["worker"], &drain.json["reason"]),
        (&id.as_str().into(), &"test".into())
    );
    let queue = format!("tidegate.control.{id}");
    eventually("its control queue is gone", async || {
        let facts = vhost.facts(&queue).await;
        expect_that(facts.is_none(), || format!("{facts:?}"))
    })
    .await;
    drop(child);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_elsewhere_is_left_alone_unless_that_is_said() {
    let url = Url::parse("amqp://broker.example:5672").unwrap();
    let output = ended(spawn(&url, &["--workers", "3"])).await;
    assert_eq!(output.code, Some(2));
    assert!(output.stderr.contains(OWN_BROKER), "{output:?}");
}

//! Rolling drains: one worker after the other, each when the one before it is replaced, and no further than the first that
//! is not.

use serde_json::{Value, json};

use crate::harness::fleet::{FleetProgram, TOKEN};
use crate::harness::gate::Gate;
use crate::harness::puppet::Puppet;
use crate::harness::run;
use crate::harness::status::BEATS;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

use reqwest::Method;

fn config(vhost: &Vhost, name: &str, gate: &Gate) -> WorkerConfig {
    WorkerConfig::for_orders(vhost.url(), gate, "")
        .name(name)
        .tables(BEATS)
}

/// The workers `web-1` and `web-2`, which the fleet shows as running, and their ids.
async fn two_workers(
    vhost: &Vhost,
    fleet: &FleetProgram,
    gate: &Gate,
) -> (Worker, Worker, [Value; 2]) {
    let first = Worker::ready(&config(vhost, "web-1", gate)).await;
    let second = Worker::ready(&config(vhost, "web-2", gate)).await;
    let ids = [
        fleet.until("web-1", "running").await["id"].clone(),
        fleet.until("web-2", "running").await["id"].clone(),
    ];
    (first, second, ids)
}

/// Starts a rollout; status and JSON.
async fn start(fleet: &FleetProgram, token: Option<&str>, request: &Value) -> (u16, Value) {
    let body = Some(request.to_string());
    let response = fleet
        .send(Method::POST, "/api/v1/rollouts", token, body)
        .await;
    let status = response.status().as_u16();
    (status, response.json().await.unwrap())
}

/// Waits until the newest rollout is what is `wanted`.
async fn until_rollout(fleet: &FleetProgram, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, async || {
        let rollouts = fleet.json("/api/v1/rollouts").await;
        let newest = rollouts["rollouts"][0].clone();
        expect_that(wanted(&newest), || rollouts.to_string()).map(|()| newest)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_drain_begins_when_the_one_before_is_replaced() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let gate = Gate::open().await;
    let (mut first, mut second, ids) = two_workers(&vhost, &fleet, &gate).await;
    let request = json!({"command": "drain", "workers": ids, "max_at_once": 1, "wait_replaced": true,
                         "reason": "deploy"});
    let (status, rollout) = start(&fleet, Some(TOKEN), &request).await;
    assert_eq!((status, &rollout["total"]), (202, &json!(2)), "{rollout}");
    assert_eq!(first.ended().await.code, Some(0));
    let (status, answer) = start(&fleet, Some(TOKEN), &request).await;
    assert_eq!(
        (status, &answer["error"]["code"]),
        (409, &json!("conflict"))
    );
    assert!(!second.has_ended(), "nobody has come for the first");

    let _third = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    assert_eq!(second.ended().await.code, Some(0));
    let half = until_rollout(&fleet, "one is replaced", |rollout| rollout["done"] == 1).await;
    assert_eq!(half["state"], "running");
    let _fourth = Worker::ready(&config(&vhost, "web-2", &gate)).await;
    let done = until_rollout(&fleet, "it is done", |rollout| rollout["state"] == "done").await;
    assert_eq!(
        (&done["done"], &done["by"]),
        (&json!(2), &json!("127.0.0.1"))
    );
    let text = done["results"][0]["text"].as_str().unwrap();
    assert!(text.contains("; replaced by web-2-"), "{text}");
    let begun = fleet.process.logged("rollout begun over http").await;
    assert_eq!(
        (begun.text("by"), begun.number("workers")),
        ("127.0.0.1", 2)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_is_lost_ends_the_rollout() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let gate = Gate::open().await;
    let (mut first, mut second, ids) = two_workers(&vhost, &fleet, &gate).await;
    let request = json!({"command": "drain", "workers": ids, "wait_replaced": true});
    let (status, _) = start(&fleet, Some(TOKEN), &request).await;
    assert_eq!(status, 202);
    first.ended().await;
    let mut newcomer = Puppet::new(&vhost, "web-1-newcomer").await;
    "web-1".clone_into(&mut newcomer.name);
    newcomer.lease = 2_000;
    newcomer.say("state", &newcomer.state(1, "starting")).await;
    fleet
        .until_where("web-1", "the newcomer", |worker| {
            worker["id"] == "web-1-newcomer"
        })
        .await;
    newcomer.crash().await;
    let failed = until_rollout(&fleet, "it failed", |rollout| rollout["state"] == "failed").await;
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("is not replaced"), "{error}");
    assert!(
        error.contains("web-1-newcomer, which came in its place, was lost"),
        "{error}"
    );
    assert!(!second.has_ended(), "no other was begun");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_can_be_stopped_and_needs_the_token() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let gate = Gate::open().await;
    let (mut first, mut second, ids) = two_workers(&vhost, &fleet, &gate).await;
    let request = json!({"command": "drain", "workers": ids, "wait_replaced": true});
    for (token, expected) in [(None, 401), (Some("another-token"), 403)] {
        let (status, answer) = start(&fleet, token, &request).await;
        assert_eq!(status, expected, "{answer}");
    }
    for wrong in [
        json!({"command": "drain", "workers": []}),
        json!({"command": "drain", "workers": ["nobody"]}),
        json!({"command": "drain", "workers": ids, "max_at_once": 0}),
        json!({"command": "stop", "workers": ids}),
    ] {
        let (status, answer) = start(&fleet, Some(TOKEN), &wrong).await;
        assert_eq!(status, 400, "{answer}");
    }
    let (_, rollout) = start(&fleet, Some(TOKEN), &request).await;
    first.ended().await;
    let path = format!("/api/v1/rollouts/{}/stop", rollout["id"].as_str().unwrap());
    let refused = fleet.send(Method::POST, &path, None, None).await;
    assert_eq!(refused.status(), 401);
    let stopped = fleet.send(Method::POST, &path, Some(TOKEN), None).await;
    assert_eq!(stopped.status(), 200);
    let ended = until_rollout(&fleet, "it ended", |rollout| {
        rollout["ended_at"].is_string()
    })
    .await;
    assert_eq!(ended["state"], "stopped", "{ended}");
    assert!(!second.has_ended());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_in_a_terminal_waits_for_replacements_too() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let _fleet = FleetProgram::ready(vhost.url(), "").await;
    let gate = Gate::open().await;
    let mut worker = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let url = vhost.url().as_str();
    let drain = ["drain", "--all", "--wait-replaced", "--json", "--url", url];
    let draining = run::spawn(&drain);
    assert_eq!(worker.ended().await.code, Some(0));
    let mut replacement = Worker::ready(&config(&vhost, "web-1", &gate)).await;
    let ended = run::ended(draining).await;
    let result = &ended.json()["workers"][0];
    assert_eq!(ended.code, Some(0), "{result}");
    let id = result["replaced_by"].as_str().unwrap();
    assert!(id.starts_with("web-1-"), "{result}");

    let mut limited = drain.to_vec();
    limited.extend(["--timeout", "2s"]);
    let draining = run::spawn(&limited);
    assert_eq!(replacement.ended().await.code, Some(0));
    let ended = run::ended(draining).await;
    let result = &ended.json()["workers"][0];
    assert_eq!(
        (ended.code, &result["outcome"]),
        (Some(1), &json!("not_replaced")),
        "{result}"
    );
    let error = result["error"].as_str().unwrap();
    assert_eq!(
        error,
        "waited 2s for another worker called \"web-1\" to run"
    );
}

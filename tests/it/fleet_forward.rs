//! A platform is told what changes: in one request a window, again until it takes it, newest wins.

use serde_json::{Value, json};

use crate::harness::fleet::FleetProgram;
use crate::harness::gate::Gate;
use crate::harness::puppet::Puppet;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};

/// The bodies that the platform was sent.
fn bodies(gate: &Gate) -> Vec<Value> {
    let requests = gate.requests().into_iter();
    requests
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_forwarded_until_they_are_taken_and_as_they_are_then() {
    let vhost = Vhost::new().await;
    let platform = Gate::open().await;
    platform.answer(|_request| 503);
    let url = platform.url();
    let forward = format!(
        "forward = {{ url = \"{url}\", window = \"100ms\", headers = {{ authorization = \"Bearer secret-of-platform\" }} }}"
    );
    let fleet = FleetProgram::ready(vhost.url(), &forward).await;
    let puppet = Puppet::new(&vhost, "puppet-1").await;
    puppet.say("state", &puppet.state(1, "running")).await;
    eventually("the platform refuses it", async || {
        let told = bodies(&platform);
        let refused = told
            .iter()
            .any(|body| body["workers"][0]["state"] == "running");
        expect_that(refused, || format!("{told:?}"))
    })
    .await;
    puppet.say("state", &puppet.state(2, "paused")).await;
    fleet.until("puppet-1", "paused").await;
    let before = bodies(&platform).len();
    platform.answer(|_request| 204);
    let taken = eventually("it is told again, as it is now", async || {
        let told = bodies(&platform);
        let found = told.iter().skip(before);
        let mut found = found.filter(|body| body["workers"][0]["state"] == "paused");
        found.next().cloned().ok_or_else(|| format!("{told:?}"))
    })
    .await;
    assert_eq!((&taken["v"], &taken["more"]), (&json!(1), &json!(false)));
    assert!(taken["program"].as_str().unwrap().starts_with("fleet-"));
    assert_eq!(taken["summary"]["workers"]["paused"], 1);
    let request = platform.requests().pop().unwrap();
    assert_eq!(
        request.headers["authorization"],
        "Bearer secret-of-platform"
    );
    assert_eq!(request.headers["content-type"], "application/json");
    puppet.say("drain", &puppet.drain(3)).await;
    eventually("its drain is told", async || {
        let told = bodies(&platform);
        let drained = told
            .iter()
            .any(|body| body["drains"][0]["worker"] == "puppet-1");
        expect_that(drained, || format!("{told:?}"))
    })
    .await;
    assert!(!fleet.process.log().text().contains("secret-of-platform"));
    let described = fleet.json("/api/v1/openapi.json").await;
    let pointer = "/webhooks/forward/post/requestBody/content/application~1json/schema";
    let mut schema = described.pointer(pointer).unwrap().clone();
    schema["components"] = described["components"].clone();
    assert!(jsonschema::validator_for(&schema).unwrap().is_valid(&taken));
}

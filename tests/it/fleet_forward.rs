//! A platform is told what changes: in one request a window, again until it takes it, newest wins. What one request
//! cannot carry, or what the platform refuses, does not stop the rest.

use std::collections::BTreeSet;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::harness::fleet::FleetProgram;
use crate::harness::gate::{Gate, Request};
use crate::harness::puppet::Puppet;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};

/// The body of a request, which is compressed or not.
fn body(request: &Request) -> Value {
    let mut plain = Vec::new();
    match request.headers.get("content-encoding").map(String::as_str) {
        Some("gzip") => {
            let mut decoder = GzDecoder::new(&*request.body);
            decoder.read_to_end(&mut plain).unwrap();
        }
        other => {
            assert_eq!(other, None);
            plain.clone_from(&request.body);
        }
    }
    serde_json::from_slice(&plain).unwrap()
}

/// The bodies that the platform was sent.
fn bodies(gate: &Gate) -> Vec<Value> {
    gate.requests().iter().map(body).collect()
}

/// The ids of workers in a body.
fn workers(body: &Value) -> BTreeSet<String> {
    let workers = body["workers"].as_array().unwrap().iter();
    workers
        .map(|worker| worker["id"].as_str().unwrap().to_owned())
        .collect()
}

/// A fleet program that forwards to `platform`, and the puppets of these ids.
async fn forwarding(vhost: &Vhost, platform: &Gate, ids: &[&str]) -> (FleetProgram, Vec<Puppet>) {
    let forward = format!(
        "forward = {{ url = \"{}\", window = \"100ms\" }}",
        platform.url()
    );
    let mut puppets = Vec::new();
    for id in ids {
        puppets.push(Puppet::new(vhost, id).await);
    }
    let fleet = FleetProgram::ready(vhost.url(), &forward).await;
    for puppet in &puppets {
        puppet.say("state", &puppet.state(1, "paused")).await;
    }
    (fleet, puppets)
}

/// Waits until the platform has taken these workers, in requests that `takes` accepts.
async fn told(platform: &Gate, ids: &[&str], takes: impl Fn(&Request) -> bool) {
    eventually(format_args!("the platform has taken {ids:?}"), async || {
        let requests = platform.requests();
        let taken = requests.iter().filter(|request| takes(request));
        let told: BTreeSet<String> = taken.flat_map(|request| workers(&body(request))).collect();
        expect_that(ids.iter().all(|id| told.contains(*id)), || {
            format!("{told:?}")
        })
    })
    .await;
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
    assert_eq!(request.headers["content-encoding"], "gzip");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_large_for_the_platform_is_split() {
    let vhost = Vhost::new().await;
    let platform = Gate::open().await;
    let small = |request: &Request| workers(&body(request)).len() <= 2;
    platform.answer(move |request| if small(request) { 204 } else { 413 });
    let ids = ["p-1", "p-2", "p-3", "p-4", "p-5", "p-6", "p-7"];
    let (fleet, puppets) = forwarding(&vhost, &platform, &ids).await;
    told(&platform, &ids, small).await;
    for puppet in &puppets {
        puppet.say("drain", &puppet.drain(2)).await;
    }
    fleet.until("p-7", "stopped").await;
    eventually("every drain is told", async || {
        let told: BTreeSet<String> = platform
            .requests()
            .iter()
            .filter(|request| small(request))
            .flat_map(|request| body(request)["drains"].as_array().unwrap().clone())
            .map(|drain| drain["worker"].as_str().unwrap().to_owned())
            .collect();
        expect_that(told.len() == ids.len(), || format!("{told:?}"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_the_platform_refuses_does_not_stop_the_others() {
    let vhost = Vhost::new().await;
    let platform = Gate::open().await;
    let takes = |request: &Request| !workers(&body(request)).contains("p-2");
    platform.answer(move |request| if takes(request) { 204 } else { 422 });
    let (fleet, _puppets) = forwarding(&vhost, &platform, &["p-1", "p-2", "p-3"]).await;
    told(&platform, &["p-1", "p-3"], takes).await;
    let given_up = "tidegate_fleet_forwards_total{outcome=\"given_up\"} 1";
    fleet.process.until_metrics(&[given_up]).await;
    let late = Puppet::new(&vhost, "p-4").await;
    late.say("state", &late.state(1, "paused")).await;
    told(&platform, &["p-4"], takes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_reads_no_gzip_is_sent_plain_json() {
    let vhost = Vhost::new().await;
    let platform = Gate::open().await;
    let plain = |request: &Request| !request.headers.contains_key("content-encoding");
    platform.answer(move |request| if plain(request) { 204 } else { 415 });
    let (_fleet, _puppets) = forwarding(&vhost, &platform, &["p-1", "p-2"]).await;
    told(&platform, &["p-1", "p-2"], plain).await;
}

//! The queues that the fleet works: depths from the broker, what runs from the workers, and each trouble in its own row.

use serde_json::{Value, json};

use crate::harness::fleet::FleetProgram;
use crate::harness::gate::Gate;
use crate::harness::puppet::Puppet;
use crate::harness::run;
use crate::harness::status::BEATS;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

/// Waits until the row of `queue` is what is `wanted`.
async fn until_row(
    fleet: &FleetProgram,
    queue: &str,
    what: &str,
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    eventually(format_args!("{queue} {what}"), async || {
        let queues = fleet.json("/api/v1/queues").await;
        let rows = queues["queues"].as_array().unwrap();
        let row = rows.iter().find(|row| row["queue"] == queue).cloned();
        let row = row.ok_or_else(|| queues.to_string())?;
        expect_that(wanted(&row), || row.to_string()).map(|()| row)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_tells_what_waits_what_runs_what_is_retried_and_what_is_dead() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let gate = Gate::closed().await;
    gate.answer(|request| match request.id.as_str() {
        "later" => 503,
        "never" => 400,
        _ => 200,
    });
    let lines =
        "concurrency = 2\nprefetch = 2\nretry = { max_attempts = 3, min = \"1h\", max = \"1h\" }";
    let config = WorkerConfig::new(vhost.url())
        .name("web-1")
        .tables(BEATS)
        .declaring_node("orders", "classic", &gate.url(), lines);
    let _worker = Worker::ready(&config).await;
    let ids = ["later", "never"].map(str::to_owned);
    vhost.publish_all("orders", ids).await;
    gate.started(2).await;
    gate.release(2);
    gate.finished(2).await;
    // Both slots are taken before the others come, so no more than five are ready at any time.
    vhost.publish("orders", 2).await;
    gate.started(4).await;
    vhost.publish("orders", 5).await;
    // The depths are asked for and the figures come with beats: each in its own time.
    let row = until_row(&fleet, "orders", "is told in full", |row| {
        let told = [
            (&row["ready"]["messages"], json!(5)),
            (&row["retrying"]["messages"], json!(1)),
            (&row["dead"]["messages"], json!(1)),
            (&row["workers"], json!(1)),
            (&row["slots"], json!(2)),
            (&row["running"], json!(2)),
            (&row["consumers"], json!(1)),
            // Both that ended have failed.
            (&row["failing"], json!(1.0)),
            (&row["held"], json!([])),
        ];
        told.iter().all(|(found, wanted)| *found == wanted) && row["oldest_ms"].as_u64() > Some(0)
    })
    .await;
    assert!(row.get("problem").is_none(), "{row}");
    until_row(&fleet, "orders", "has a rate", |row| {
        row["in_per_second"].is_number()
    })
    .await;
    eventually("the graph has its highest values", async || {
        let graph = fleet.json("/api/v1/graph?queue=orders").await;
        let most = |key: &str| {
            let values = graph[key].as_array().unwrap();
            values.iter().filter_map(Value::as_u64).max()
        };
        let highest = (most("ready"), most("running"));
        expect_that(highest == (Some(5), Some(2)), || graph.to_string())
    })
    .await;
    let (status, _) = fleet.get("/api/v1/graph?queue=nothing").await;
    assert_eq!(status, 404);

    let printed = run::ended(run::spawn(&[
        "status",
        "--queues",
        "--json",
        "--url",
        vhost.url().as_str(),
    ]))
    .await;
    let queues = printed.json();
    let told = &queues["queues"][0];
    assert_eq!(told["queue"], "orders");
    assert_eq!(told["ready"]["messages"], 5, "{queues}");
    assert_eq!(told["dead"]["messages"], 1, "{queues}");
    assert_eq!(told["retrying"]["messages"], 1, "{queues}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_missing_costs_only_its_own_row() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let puppet = Puppet::new(&vhost, "puppet-1").await;
    let mut state = puppet.state(1, "paused");
    let mut gone = state["nodes"][0].clone();
    gone["queue"] = "gone".into();
    state["nodes"].as_array_mut().unwrap().push(gone);
    state["reason"] = "deploy".into();
    vhost.declare("orders", "quorum").await;
    vhost.publish("orders", 3).await;
    puppet.say("state", &state).await;
    let row = until_row(&fleet, "gone", "says so", |row| row["problem"].is_string()).await;
    assert_eq!(row["problem"], "there is no such queue");
    assert_eq!(row["ready"], Value::Null);
    let row = until_row(&fleet, "orders", "is told", |row| {
        row["ready"]["messages"] == 3
    })
    .await;
    assert_eq!(
        row["held"],
        json!([{"why": "paused: deploy", "workers": 1}])
    );
    assert_eq!(row["dead"]["messages"], 0);

    puppet.say("drain", &puppet.drain(2)).await;
    let row = until_row(&fleet, "orders", "has nobody", |row| row["workers"] == 0).await;
    assert_eq!(
        row["held"],
        json!([{"why": "no worker consumes it", "workers": 0}])
    );
    let queues = fleet.json("/api/v1/queues").await;
    assert_eq!(queues["queues"].as_array().unwrap().len(), 1, "{queues}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_asked_only_while_somebody_looks() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let puppet = Puppet::new(&vhost, "puppet-1").await;
    puppet.say("state", &puppet.state(1, "running")).await;
    fleet.until("puppet-1", "running").await;
    let connections = async || {
        let path = format!("/api/vhosts/{}/connections", vhost.name());
        let found = vhost.management().get(&path).await.unwrap();
        let found = found.as_array().unwrap().iter();
        let names = found.filter_map(|connection| connection["user_provided_name"].as_str());
        names.filter(|name| name.ends_with(" queues")).count()
    };
    assert_eq!(connections().await, 0);
    until_row(&fleet, "orders", "is told", |row| {
        row["problem"].is_string()
    })
    .await;
    eventually("there is a connection for looks", async || {
        let count = connections().await;
        expect_that(count == 1, || format!("{count}"))
    })
    .await;
}

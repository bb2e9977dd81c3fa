//! What must not confuse the fleet program: clocks, orders, repetitions, hostile texts, rubbish.

use serde_json::{Value, json};

use crate::harness::fleet::FleetProgram;
use crate::harness::puppet::Puppet;
use crate::harness::vhost::Vhost;

/// Texts that mean something to HTML, JavaScript, SQL, terminals, and people who read from right to left.
const HOSTILE: [&str; 6] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "'; DROP TABLE workers; --",
    "\u{1b}[2J\u{7}\u{0}",
    "\u{202e}gnp.exe",
    "line\r\nevent: snapshot\r\ndata: {}\r\n\r\n",
];

#[tokio::test(flavor = "multi_thread")]
async fn hostile_texts_are_only_data() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    for (number, text) in HOSTILE.into_iter().enumerate() {
        let mut puppet = Puppet::new(&vhost, &format!("puppet-{number}")).await;
        text.clone_into(&mut puppet.name);
        let mut state = puppet.state(1, "running");
        state["reason"] = text.into();
        state["host"] = text.into();
        state["version"] = text.into();
        state["nodes"][0]["queue"] = text.into();
        state["nodes"][0]["handler"] = text.into();
        puppet.say("state", &state).await;
        let mut drain = puppet.drain(2);
        drain["reason"] = text.into();
        drain["interrupted_ids"] = json!([text]);
        puppet.say("drain", &drain).await;
        let worker = fleet.until(text, "stopped").await;
        for field in ["name", "reason", "host", "version"] {
            assert_eq!(worker[field], text, "{field}");
        }
        assert_eq!(worker["nodes"][0]["queue"], text);
        assert_eq!(worker["drain"]["interrupted_ids"][0], text);
    }
    let metrics = fleet.process.get("/metrics").await.unwrap().1;
    assert!(
        !metrics.contains("alert("),
        "no text of a message is a label"
    );
    assert!(!fleet.process.log().text().contains("alert("));
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_minutes_off_confuse_nobody() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    for (name, skew) in [("behind", -600_000), ("ahead", 600_000)] {
        let mut puppet = Puppet::new(&vhost, name).await;
        puppet.skew = skew;
        puppet.lease = 2_000;
        puppet.say("state", &puppet.state(1, "running")).await;
        puppet.say("beat", &puppet.beat(2, 5)).await;
        let worker = fleet
            .until_where(name, "heard by a beat", |worker| !worker["load"].is_null())
            .await;
        assert_eq!(worker["state"], "running");
        // Times are shown by a right clock.
        let now = fleet.json("/api/v1/summary").await["at"].clone();
        let text = |value: &Value| value.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
        let age = text(&now).as_second() - text(&worker["since"]).as_second();
        assert!((0..120).contains(&age), "{name}: {age}");
        puppet.hang();
        fleet.until(name, "silent").await;
        puppet.crash().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_late_or_come_twice_change_nothing() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let puppet = Puppet::new(&vhost, "puppet-1").await;
    let (starting, running) = (puppet.state(1, "starting"), puppet.state(2, "running"));
    let (old, new) = (puppet.beat(3, 30), puppet.beat(5, 50));
    let paused = puppet.state(4, "paused");
    for (kind, message) in [
        ("state", &paused),
        ("beat", &new),
        ("state", &starting),
        ("state", &running),
        ("beat", &old),
        ("state", &paused),
        ("state", &running),
    ] {
        puppet.say(kind, message).await;
    }
    let last = Puppet::new(&vhost, "puppet-2").await;
    last.say("state", &last.state(1, "running")).await;
    fleet.until("puppet-2", "running").await;
    let worker = fleet
        .until_where("puppet-1", "heard by its newest beat", |worker| {
            worker["nodes"][0]["done"] == 50
        })
        .await;
    assert_eq!(worker["state"], "paused");
    let detail = fleet.json("/api/v1/workers/puppet-1").await;
    let history = detail["history"].as_array().unwrap();
    let states: Vec<_> = history.iter().map(|entry| &entry["state"]).collect();
    assert_eq!(states, ["starting", "running", "paused"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_is_counted_and_ignored() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let puppet = Puppet::new(&vhost, "puppet-1").await;
    let state = puppet.state(1, "running").to_string();
    let deep = "[".repeat(100_000);
    for (key, body) in [
        ("state.puppet-1", "not json"),
        ("beat.puppet-1", "{}"),
        ("state.somebody-else", state.as_str()),
        ("drain.puppet-1", deep.as_str()),
        ("beat.puppet-1", "\u{0}"),
    ] {
        puppet.say_raw(key, body.as_bytes()).await;
    }
    puppet.say("state", &puppet.state(2, "running")).await;
    fleet.until("puppet-1", "running").await;
    assert_eq!(fleet.workers().await.len(), 1);
    let counted = "tidegate_fleet_malformed_messages_total 5";
    fleet.process.until_metrics(&[counted]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_states_the_log_has_forgotten_is_asked_for_one() {
    let vhost = Vhost::new().await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    // It answers questions and never says its state: what is known is known from its answers and beats.
    let puppet = Puppet::new(&vhost, "puppet-1").await;
    puppet.say("beat", &puppet.beat(7, 5)).await;
    let worker = fleet.until("puppet-1", "running").await;
    assert_eq!(
        (&worker["host"], &worker["nodes"][0]["done"]),
        (&Value::Null, &json!(5))
    );
    let asked = "tidegate_fleet_questions_total{outcome=\"routed\"}";
    fleet.process.until_metrics(&[asked]).await;
    puppet.say("state", &puppet.state(8, "paused")).await;
    let worker = fleet.until("puppet-1", "paused").await;
    assert_eq!(worker["host"], "h");
}

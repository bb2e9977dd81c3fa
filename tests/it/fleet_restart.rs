//! What a fleet program shows of the past is the same after a restart, and for every other program.

use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;

use crate::harness::fleet::FleetProgram;
use crate::harness::puppet::Puppet;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that, within};

/// The first note in the log about `worker` that has `field`.
async fn note(vhost: &Vhost, worker: &str, field: &str) -> Value {
    let channel = vhost.channel().await;
    let qos = channel.basic_qos(100, BasicQosOptions::default());
    within("basic.qos", qos).await.unwrap();
    let mut arguments = FieldTable::default();
    let first = AMQPValue::LongString("first".into());
    arguments.insert("x-stream-offset".into(), first);
    let options = BasicConsumeOptions::default();
    let log = "tidegate.status.log";
    let consume = channel.basic_consume(log.into(), "".into(), options, arguments);
    let mut consumer = within("basic.consume", consume).await.unwrap();
    within("a note", async {
        while let Some(delivery) = consumer.next().await {
            let delivery = delivery.map_err(|error| error.to_string())?;
            let ack = delivery.acker.ack(BasicAckOptions::default()).await;
            ack.map_err(|error| error.to_string())?;
            let kind = delivery.properties.kind().as_ref();
            if kind.is_none_or(|kind| kind.as_str() != "tidegate.note.v1") {
                continue;
            }
            let note: Value = serde_json::from_slice(&delivery.data).unwrap();
            if note["worker"] == worker && !note[field].is_null() {
                return Ok(note);
            }
        }
        Err("the log has ended".to_owned())
    })
    .await
    .unwrap()
}

async fn shown(fleet: &FleetProgram, id: &str) -> Value {
    fleet.json(&format!("/api/v1/workers/{id}")).await
}

/// Waits until the program shows the loss of the worker at this time, and counts one.
async fn shows_loss(fleet: &FleetProgram, id: &str, at: &Value) {
    eventually(format_args!("{id} was lost at {at}"), async || {
        let worker = shown(fleet, id).await;
        let same = worker["state"] == "lost" && worker["since"] == *at;
        expect_that(same, || worker.to_string())
    })
    .await;
    let worker = shown(fleet, id).await;
    let history = worker["history"].as_array().unwrap();
    let losses: Vec<_> = history
        .iter()
        .filter(|entry| entry["kind"] == "lost")
        .collect();
    assert_eq!(losses.len(), 1, "{history:?}");
    assert_eq!(losses[0]["at"], *at);
    let summary = fleet.json("/api/v1/summary").await;
    assert_eq!(summary["week"]["lost"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_keeps_its_time_whichever_program_tells_it() {
    let vhost = Vhost::new().await;
    let mut first = FleetProgram::ready(vhost.url(), "").await;
    let second = FleetProgram::ready(vhost.url(), "").await;
    let mut puppet = Puppet::new(&vhost, "puppet-1").await;
    puppet.lease = 2_000;
    puppet.say("state", &puppet.state(1, "running")).await;
    first.until("puppet-1", "running").await;
    second.until("puppet-1", "running").await;
    puppet.crash().await;
    first.until("puppet-1", "lost").await;
    second.until("puppet-1", "lost").await;
    let noted = note(&vhost, "puppet-1", "lost_at").await;
    for fleet in [&first, &second] {
        shows_loss(fleet, "puppet-1", &noted["lost_at"]).await;
    }
    first.process.kill().await;
    let third = FleetProgram::ready(vhost.url(), "").await;
    let at_once = shown(&third, "puppet-1").await;
    assert_eq!(at_once["state"], "lost", "it is not shown as running");
    shows_loss(&third, "puppet-1", &noted["lost_at"]).await;
    shows_loss(&second, "puppet-1", &noted["lost_at"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_of_a_worker_with_a_wrong_clock_keeps_its_time() {
    let vhost = Vhost::new().await;
    let mut first = FleetProgram::ready(vhost.url(), "").await;
    for (name, skew) in [("behind", -600_000), ("ahead", 600_000)] {
        let mut puppet = Puppet::new(&vhost, name).await;
        puppet.skew = skew;
        puppet.say("state", &puppet.state(1, "running")).await;
        puppet.say("drain", &puppet.drain(2)).await;
        first.until(name, "stopped").await;
        note(&vhost, name, "behind_ms").await;
    }
    let at = async |fleet: &FleetProgram, name: &str| -> jiff::Timestamp {
        let worker = shown(fleet, name).await;
        worker["drain"]["at"].as_str().unwrap().parse().unwrap()
    };
    let before = (at(&first, "behind").await, at(&first, "ahead").await);
    let now = jiff::Timestamp::now();
    for placed in [before.0, before.1] {
        assert!(
            (now.as_second() - placed.as_second()).abs() < 300,
            "{placed}"
        );
    }
    first.process.kill().await;
    let second = FleetProgram::ready(vhost.url(), "").await;
    let after = (at(&second, "behind").await, at(&second, "ahead").await);
    for (before, after) in [(before.0, after.0), (before.1, after.1)] {
        let moved = before.as_millisecond() - after.as_millisecond();
        assert!(moved.abs() <= 1_000, "{before} became {after}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_nobody_heard_is_not_placed_before_what_the_log_had_before_it() {
    let vhost = Vhost::new().await;
    let mut first = FleetProgram::ready(vhost.url(), "").await;
    first.process.kill().await;
    let mut right = Vec::new();
    for id in ["right-1", "right-2", "right-3"] {
        let puppet = Puppet::new(&vhost, id).await;
        puppet.say("state", &puppet.state(1, "running")).await;
        right.push(puppet);
    }
    let mut slow = Puppet::new(&vhost, "slow").await;
    slow.skew = -600_000;
    slow.say("state", &slow.state(1, "running")).await;
    slow.say("drain", &slow.drain(2)).await;
    let second = FleetProgram::ready(vhost.url(), "").await;
    let worker = second.until("slow", "stopped").await;
    let placed: jiff::Timestamp = worker["drain"]["at"].as_str().unwrap().parse().unwrap();
    let ago = jiff::Timestamp::now().as_second() - placed.as_second();
    assert!(ago < 300, "{placed} is {ago} s ago");
}

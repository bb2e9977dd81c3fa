//! A worker that is not there lives by the rules of one that is.

use rand::SeedableRng as _;

use super::*;

fn shape(load: f64) -> FleetShape {
    FleetShape {
        exchange: "tidegate.status".into(),
        nodes: 10,
        load,
        heartbeat: HeartbeatSettings::default(),
    }
}

fn member(shape: &FleetShape, now: Instant) -> SimulatedWorker {
    SimulatedWorker::new("sim-1".into(), shape, now, StdRng::seed_from_u64(7))
}

/// Lets a worker live for `time`: what it says, with the time of each.
fn live(
    member: &mut SimulatedWorker,
    shape: &FleetShape,
    from: Instant,
    time: Duration,
) -> Vec<(Instant, StatusMessage)> {
    let mut messages = Vec::new();
    let mut now = from;
    while let Some(due) = member.due(now).filter(|due| *due <= from + time) {
        now = now.max(due);
        messages.extend(
            member
                .tick(shape, now)
                .into_iter()
                .map(|messages| (now, messages)),
        );
    }
    messages
}

fn json(messages: &StatusMessage) -> serde_json::Value {
    serde_json::from_slice(&messages.1.body).unwrap()
}

#[test]
fn an_idle_worker_beats_every_ten_minutes_and_lists_its_nodes_each_time() {
    let (shape, now) = (shape(0.0), Instant::now());
    let mut member = member(&shape, now);
    let messages = member.ready(0.0, &shape, now);
    let phases: Vec<_> = messages
        .iter()
        .map(|messages| json(messages)["phase"].clone())
        .collect();
    assert_eq!(phases, ["starting", "running"]);
    let beats = live(&mut member, &shape, now, Duration::from_mins(600));
    assert!((54..=66).contains(&beats.len()), "{}", beats.len());
    assert!(
        beats
            .iter()
            .all(|(_, messages)| json(messages)["full"] == true)
    );
    assert_eq!(beats[0].1.1.routing_key, format!("beat.{}", member.id()));
}

#[test]
fn a_worker_that_has_run_for_a_while_is_due_earlier() {
    let (shape, now) = (shape(0.0), Instant::now());
    let mut member = member(&shape, now);
    member.ready(0.5, &shape, now);
    let beats = live(&mut member, &shape, now, Duration::from_mins(6));
    assert_eq!(beats.len(), 1);
}

#[test]
fn a_requested_pace_is_kept_and_one_beat_in_ten_lists_every_node() {
    let (shape, now) = (shape(0.0), Instant::now());
    let mut member = member(&shape, now);
    member.ready(0.0, &shape, now);
    let pace = Command::Cadence {
        interval_ms: 2_000,
        for_ms: 59_000,
        by: Some("test".into()),
    };
    let (reply, _) = member.obey(&pace, &shape, now);
    assert!(reply.ok, "{reply:?}");
    let beats = live(&mut member, &shape, now, Duration::from_mins(1));
    assert!((26..=34).contains(&beats.len()), "{}", beats.len());
    let full = beats
        .iter()
        .filter(|(_, messages)| json(messages)["full"] == true);
    let full = full.count();
    assert!((3..=4).contains(&full), "{full}");
    assert_eq!(json(&beats[1].1)["nodes"], serde_json::json!([]));
}

#[test]
fn a_busy_worker_beats_more_often_and_within_its_lease() {
    let (shape, now) = (shape(0.9), Instant::now());
    let mut member = member(&shape, now);
    member.ready(0.0, &shape, now);
    let beats = live(&mut member, &shape, now, Duration::from_mins(300));
    assert!((50..=62).contains(&beats.len()), "{}", beats.len());
    for pair in beats.windows(2) {
        let lease = json(&pair[0].1)["lease_ms"].as_u64().unwrap();
        assert!(pair[1].0 - pair[0].0 < Duration::from_millis(lease));
    }
    let last = json(&beats.last().unwrap().1);
    assert!(last["nodes"][0]["done"].as_u64().unwrap() > 1000, "{last}");
}

#[test]
fn a_drain_ends_with_its_report_and_nothing_after_it() {
    let (shape, now) = (shape(0.5), Instant::now());
    let mut member = member(&shape, now);
    member.ready(0.0, &shape, now);
    live(&mut member, &shape, now, Duration::from_mins(1));
    let now = now + Duration::from_mins(1);
    let command = Command::Drain {
        reason: Some("deploy".into()),
    };
    let (reply, messages) = member.obey(&command, &shape, now);
    assert!(reply.ok, "{reply:?}");
    assert_eq!(json(&messages[0])["deadline_ms"], 25_000);
    let rest = live(&mut member, &shape, now, Duration::from_mins(10));
    let [(_, report)] = &rest[..] else {
        panic!("{rest:?}");
    };
    assert_eq!(report.0, Kind::Drain);
    assert_eq!(
        (&json(report)["reason"], &json(report)["lease_ms"]),
        (&"deploy".into(), &0.into())
    );
    assert_eq!(member.due(now), None);
    let (reply, _) = member.obey(&Command::Resume, &shape, now);
    assert!(!reply.ok);
}

#[test]
fn commands_are_obeyed_as_a_worker_does() {
    let (shape, now) = (shape(0.5), Instant::now());
    let mut member = member(&shape, now);
    member.ready(0.0, &shape, now);
    let pause = Command::Pause { reason: None };
    let (reply, messages) = member.obey(&pause, &shape, now);
    assert_eq!((reply.ok, reply.phase), (true, Phase::Paused));
    assert_eq!(json(&messages[0])["phase"], "paused");
    let (reply, messages) = member.obey(&Command::Report, &shape, now);
    assert!(reply.ok);
    let kinds: Vec<_> = messages.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [Kind::State, Kind::Beat]);
    assert_eq!(json(&messages[1])["full"], true);
    let (reply, messages) = member.obey(&Command::Ping, &shape, now);
    assert_eq!(
        (reply.ok, &*reply.command, messages.len()),
        (true, "ping", 0)
    );
}

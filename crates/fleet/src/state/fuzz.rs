//! Whatever reaches the program, in whatever order.

use std::time::Duration;

use super::history;
use super::messages::at;
use super::*;

/// Workers that the fleet of this test may have.
const WORKERS: usize = 6;

/// Takes in one line: what it is, and its text, whose length says how much time passes first.
fn take(fleet: &mut Fleet, line: &str, now: &mut i64) {
    let (word, text) = line.split_once(' ').unwrap_or((line, ""));
    *now += i64::try_from(text.len() % 7).expect("small") * 400;
    let moment = at(*now);
    match word {
        "state" | "beat" | "drain" | "log" => {
            let origin = if word == "log" {
                Origin::Log
            } else {
                Origin::Live
            };
            let kind = if word == "log" { "state" } else { word };
            // The broker's routing key is the sender's, too.
            let worker = serde_json::from_str::<serde_json::Value>(text);
            let worker = worker
                .ok()
                .and_then(|body| Some(body.get("worker")?.as_str()?.to_owned()));
            let key = format!("{kind}.{}", worker.unwrap_or_default());
            match Message::parse(&key, text.as_bytes()) {
                Ok(message) => fleet.apply(message, origin, moment),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        "note" => {
            if let Ok(note) = Note::parse(text.as_bytes()) {
                fleet.noted(&note, moment);
            }
        }
        "gone" => fleet.queue_gone(text, moment),
        "present" => fleet.queue_present(text, moment),
        "answered" => fleet.answered(text, Phase::Running, moment),
        "connected" => fleet.connected(moment),
        "disconnected" => fleet.disconnected(moment),
        "events" => fleet.hears_events(text.len().is_multiple_of(2), moment),
        "wait" => *now += 600_000,
        _ => {}
    }
}

/// The bounds and the indexes of a fleet.
fn check(fleet: &mut Fleet, now: Moment) {
    for note in fleet.due_notes(now, 5) {
        assert_eq!(Note::parse(&note.to_json()).as_ref(), Ok(&note));
    }
    fleet.due(now, 3);
    assert!(fleet.entries.len() <= WORKERS);
    assert!(fleet.timers.len() <= WORKERS && fleet.asks.len() <= WORKERS);
    let asked = fleet.entries.values().filter(|entry| entry.is_asked());
    assert_eq!(fleet.asked, asked.count());
    assert!(fleet.shared_bytes <= WORKERS * NODE_BYTES_SHARED);
    for (id, entry) in &fleet.entries {
        assert!(id.len() <= message::ID_LIMIT);
        assert!(entry.name().len() <= text::NAME_LIMIT);
        assert!(entry.nodes.len() <= NODES_MOST);
        assert!(entry.history.len() <= history::LIMIT);
    }
    assert!(fleet.timers.first().is_none_or(|(due, _)| *due > now));
    assert!(fleet.fresh.len() <= FRESH_LIMIT);
}

#[test]
fn whatever_reaches_the_fleet_it_stays_bounded_and_can_be_shown() {
    let words = [
        "\nwait",
        "\ngone w-1",
        "\nconnected",
        "\ndisconnected",
        "\npresent w-2",
        "\nanswered w-3",
        "\"lease_ms\":18446744073709551615",
        "\"seq\":0",
        "\"at\":\"9999-12-31T23:59:59Z\"",
        "\"at\":\"-009999-01-01T00:00:00Z\"",
        "1e308",
        "-1",
    ];
    tidegate_fuzzing::run("fleet", &words, |input| {
        let limits = Limits {
            workers: WORKERS,
            retention: Duration::from_secs(100),
        };
        let mut now = 0;
        let mut fleet = Fleet::new(limits, at(now));
        for line in String::from_utf8_lossy(input).lines() {
            take(&mut fleet, line, &mut now);
            check(&mut fleet, at(now));
        }
        let ids: Vec<_> = fleet.entries.keys().cloned().collect();
        for id in ids {
            let worker = fleet.worker(&id, at(now)).expect("it is known");
            serde_json::to_string(&worker).expect("it is plain data");
        }
        serde_json::to_string(&fleet.overview(at(now))).expect("it is plain data");
        let changes = fleet.take_changes();
        assert!(changes.workers.len() <= WORKERS);
    });
}

//! The fleet keeps to its bounds, and what it forgets stays in its figures.

use std::time::Duration;

use super::messages::{at, beat, beat_node, beat_of, drained, running};
use super::*;
use crate::api::WorkerState;

/// A fleet with room for so many workers, which can be asked.
fn fleet(workers: usize) -> Fleet {
    let limits = Limits {
        workers,
        ..Limits::default()
    };
    let mut fleet = Fleet::new(limits, at(0));
    fleet.connected(at(0));
    fleet
}

fn live(fleet: &mut Fleet, message: Message, ms: i64) {
    fleet.apply(message, Origin::Live, at(ms));
}

fn known(fleet: &Fleet) -> Vec<String> {
    fleet
        .all(at(0))
        .map(|worker| worker.id.to_string())
        .collect()
}

/// Asks whom the fleet wants asked, until nobody is left. The living answer, and questions to others come back.
fn ask_all(fleet: &mut Fleet, living: &[&str], mut ms: i64) {
    while fleet.is_asking() || fleet.next_due().is_some_and(|due| due <= at(ms)) {
        for ask in fleet.due(at(ms), 100) {
            if living.contains(&&*ask.worker) {
                fleet.answered(&ask.worker, Phase::Running, at(ms));
            } else {
                fleet.queue_gone(&ask.worker, at(ms));
            }
        }
        ms += 600;
    }
}

#[test]
fn living_workers_are_never_pushed_out_by_dead_or_hostile_ids() {
    let mut fleet = fleet(8);
    // It has not answered anything yet: its lease lasts for long.
    live(&mut fleet, running("w-1", 1), 2_000);
    for number in 0..100 {
        live(&mut fleet, beat(&format!("hostile-{number}"), 1), 2_001);
        live(&mut fleet, drained(&format!("dead-{number}"), 1), 2_001);
    }
    assert!(known(&fleet).contains(&"w-1".to_owned()));
    assert_eq!(fleet.len(), 8);
    // The hostile ones have no control queues. Their places are free when that is known.
    ask_all(&mut fleet, &["w-1"], 3_000);
    for name in ["w-2", "w-3", "w-4"] {
        live(&mut fleet, running(name, 1), 10_000);
    }
    let living = fleet.all(at(10_000));
    let living = living.filter(|worker| worker.state == WorkerState::Running);
    let living: Vec<_> = living.map(|worker| worker.id.to_string()).collect();
    assert_eq!(living, ["w-1", "w-2", "w-3", "w-4"]);
}

#[test]
fn a_fleet_full_of_living_workers_takes_no_more() {
    let mut fleet = fleet(4);
    for name in ["w-1", "w-2", "w-3", "w-4"] {
        live(&mut fleet, running(name, 1), 4_000);
        fleet.answered(name, Phase::Running, at(4_001));
    }
    live(&mut fleet, running("w-5", 1), 5_000);
    assert_eq!(known(&fleet), ["w-1", "w-2", "w-3", "w-4"]);
    assert_eq!(fleet.dropped(), 1);
    live(&mut fleet, drained("w-5", 2), 6_000);
    let week = fleet.overview(at(7_000)).week;
    assert_eq!((week.drains, week.summed), (1, 1), "its drain is counted");
}

#[test]
fn who_answers_takes_the_place_of_one_that_is_only_read_of() {
    let limits = Limits {
        workers: 4,
        ..Limits::default()
    };
    let mut fleet = Fleet::new(limits, at(0));
    for name in ["old-1", "old-2", "old-3", "old-4", "old-5"] {
        fleet.apply(running(name, 1), Origin::Log, at(5_000));
    }
    fleet.connected(at(5_000));
    fleet.answered("old-1", Phase::Running, at(5_100));
    assert_eq!(known(&fleet), ["old-1", "old-3", "old-4", "old-5"]);
}

#[test]
fn drains_of_workers_that_were_forgotten_stay_in_the_figures_of_the_week() {
    let mut fleet = fleet(10);
    for number in 0..100 {
        live(
            &mut fleet,
            drained(&format!("w-{number}"), 1),
            60_000 * number,
        );
    }
    let week = fleet.overview(at(60_000 * 100)).week;
    assert_eq!((week.drains, week.summed, week.interrupted), (100, 90, 100));
    assert_eq!(week.interrupted_deliveries, 100);
    let p50 = week.duration_p50_ms.expect("there were drains");
    let p99 = week.duration_p99_ms.expect("there were drains");
    assert!((120..=132).contains(&p50) && (120..=132).contains(&p99));
    // Sums are kept by the hour.
    let next_week = at(60_000 * 100).after(Duration::from_hours(7 * 24 + 1));
    let week = fleet.overview(next_week).week;
    assert_eq!((week.drains, week.summed), (0, 0));
}

#[test]
fn the_bytes_of_hostile_workers_are_bounded_and_the_others_keep_their_nodes() {
    let mut fleet = fleet(100);
    let many = |prefix: &str, count: usize| -> Vec<_> {
        let names = (0..count).map(|number| format!("{prefix}-{number:0>250}"));
        names.map(|name| beat_node(&name, 1)).collect()
    };
    for number in 0..50 {
        let id = format!("hostile-{number}");
        live(&mut fleet, beat_of(&id, 1, true, many("q", 5_000)), 1_000);
    }
    let bytes: usize = fleet.entries.values().map(|entry| entry.node_bytes).sum();
    let most = 100 * NODE_BYTES_SHARED + 50 * NODE_BYTES_SURE;
    assert!(bytes <= most, "{bytes} of {most}");
    assert!(fleet.shared_bytes <= 100 * NODE_BYTES_SHARED);
    live(&mut fleet, beat_of("w-1", 1, true, many("r", 10)), 2_000);
    let worker = fleet.worker("w-1", at(2_000)).expect("it is known");
    assert_eq!(worker.nodes.len(), 10);
    // One that is forgotten gives its bytes back.
    for number in 0..50 {
        live(&mut fleet, drained(&format!("hostile-{number}"), 2), 3_000);
    }
    fleet.due(at(0).after(Duration::from_hours(24 * 8)), 0);
    assert_eq!(fleet.shared_bytes, 0);
}

#[test]
fn a_state_with_more_than_its_bytes_says_what_is_left_out() {
    let mut fleet = fleet(10);
    let Message::State(mut state) = running("w-1", 1) else {
        unreachable!("it is a state")
    };
    let node = state.nodes[0].clone();
    state.nodes = (0..1_500)
        .map(|number| {
            let mut node = node.clone();
            node.queue = format!("q-{number}");
            node.title = Some("t".repeat(10_000));
            node
        })
        .collect();
    live(&mut fleet, Message::State(state), 1_000);
    let worker = fleet.worker("w-1", at(1_000)).expect("it is known");
    let kept = worker.nodes.len();
    assert!((10..100).contains(&kept), "{kept}");
    assert_eq!(worker.nodes_left_out, 1_500 - kept as u64);
}

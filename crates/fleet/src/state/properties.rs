//! Properties that hold for any order, number and time of messages.

use proptest::prelude::*;

use super::messages::{at, beat_node, beat_of, drained, state};
use super::*;
use crate::api::{Worker, WorkerState};
use tidegate::internal::status::wire::BeatNode;

/// The messages of one worker's life, in order.
fn life() -> impl Strategy<Value = Vec<Message>> {
    let phase = prop_oneof![
        Just(Phase::Starting),
        Just(Phase::Running),
        Just(Phase::Paused),
        Just(Phase::Draining),
    ];
    let nodes = prop::collection::vec((0..3_u8, 0..50_u64), 0..3);
    let said = prop_oneof![
        phase.prop_map(|phase| (Some(phase), false, Vec::new())),
        (any::<bool>(), nodes).prop_map(|(full, nodes)| (None, full, nodes)),
    ];
    (prop::collection::vec(said, 1..20), any::<bool>()).prop_map(|(said, ends)| {
        let mut messages: Vec<Message> = (1..)
            .zip(said)
            .map(|(seq, (phase, full, nodes))| match phase {
                Some(phase) => state("w-1", seq, phase),
                None => beat_of("w-1", seq, full, distinct(nodes)),
            })
            .collect();
        if ends {
            let seq = messages.len() as u64 + 1;
            messages.push(drained("w-1", seq));
        }
        messages
    })
}

fn distinct(mut nodes: Vec<(u8, u64)>) -> Vec<BeatNode> {
    nodes.sort_unstable();
    nodes.dedup_by_key(|(queue, _)| *queue);
    let name = |queue| ["a", "b", "c"][usize::from(queue)];
    let nodes = nodes.into_iter();
    nodes
        .map(|(queue, done)| beat_node(name(queue), done))
        .collect()
}

/// A life, and the same in another order with some of it twice.
fn shuffled() -> impl Strategy<Value = (Vec<Message>, Vec<Message>)> {
    life().prop_flat_map(|life| {
        let twice = prop::collection::vec(0..life.len(), 0..6);
        (Just(life), twice).prop_flat_map(|(life, twice)| {
            let mut more = life.clone();
            more.extend(twice.into_iter().map(|place| life[place].clone()));
            (Just(life), Just(more).prop_shuffle())
        })
    })
}

/// All that does not depend on when messages came, nor on which beat came before which.
fn told(fleet: &Fleet) -> (Worker, Vec<super::history::Record>) {
    let mut worker = fleet.worker("w-1", at(0)).expect("it has said something");
    worker.lease = None;
    worker.figures = None;
    worker.last_heard = at(0);
    for node in &mut worker.nodes {
        node.rate = None;
        node.failing = None;
    }
    if worker.host.is_none() {
        // Before the first state nodes have no order.
        worker.nodes.sort_by(|a, b| a.queue.cmp(&b.queue));
        worker.since = at(0);
    }
    let mut said = fleet.entries["w-1"].history.said();
    for record in &mut said {
        record.at.received = at(0);
    }
    (worker, said)
}

fn read(messages: &[Message], origin: Origin, from: i64, step: i64) -> Fleet {
    let mut fleet = Fleet::new(Limits::default(), at(0));
    let mut now = from;
    for message in messages {
        fleet.apply(message.clone(), origin, at(now));
        now += step;
    }
    fleet
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_order_and_any_repetition_of_a_worker_s_messages_comes_to_the_same(
        (life, shuffled) in shuffled()
    ) {
        let straight = read(&life, Origin::Live, 30_000, 0);
        let other = read(&shuffled, Origin::Live, 30_000, 0);
        prop_assert_eq!(told(&straight), told(&other));
        // A lease is that of the newest message, from when it first came.
        prop_assert_eq!(straight.next_due(), other.next_due());
    }

    #[test]
    fn two_fleets_agree_whenever_messages_reach_them(
        (life, shuffled) in shuffled(), late in 0..1_000_i64, step in 0..20_i64
    ) {
        let last = i64::try_from(life.len()).expect("small numbers") * 1_000;
        let one = read(&life, Origin::Live, last, 0);
        let two = read(&shuffled, Origin::Live, last + late, step);
        let restarted = read(&life, Origin::Log, 90_000_000, 1);
        prop_assert_eq!(told(&one), told(&two));
        prop_assert_eq!(told(&one), told(&restarted));
    }

    #[test]
    fn a_fleet_is_bounded_and_its_indexes_hold_whatever_happens(
        steps in prop::collection::vec((0..6_u8, 0..40_u8, 0..9_u64), 1..300)
    ) {
        let limits = Limits { workers: 8, retention: Duration::from_secs(100) };
        let mut fleet = Fleet::new(limits, at(0));
        let mut now = 0;
        for (what, who, seq) in steps {
            now += i64::from(who) * 50;
            let id = format!("w-{}", who % 12);
            match what {
                0 => fleet.apply(state(&id, seq, Phase::Running), Origin::Live, at(now)),
                1 => fleet.apply(drained(&id, seq), Origin::Live, at(now)),
                2 => fleet.apply(beat_of(&id, seq, true, vec![]), Origin::Log, at(now)),
                3 => fleet.queue_gone(&id, at(now)),
                4 => fleet.answered(&id, Phase::Running, at(now)),
                _ if who % 9 == 0 => fleet.disconnected(at(now)),
                _ => fleet.connected(at(now - 2_000)),
            }
            let asks = fleet.due(at(now), 3);
            if let Some(ask) = asks.first() && seq % 2 == 0 {
                fleet.unasked(&ask.worker, at(now));
            }
            prop_assert!(fleet.len() <= 8);
            let entries = fleet.entries.values();
            prop_assert_eq!(fleet.asked, entries.clone().filter(|entry| entry.is_asked()).count());
            let timers = entries.clone().filter(|entry| entry.indexed.timer.is_some()).count();
            prop_assert_eq!(fleet.timers.len(), timers);
            let ended = entries.clone().filter(|entry| entry.ended_at().is_some()).count();
            prop_assert_eq!(fleet.ended.len(), ended);
            let reports = entries.clone().filter(|entry| entry.report().is_some()).count();
            prop_assert_eq!(fleet.drains.len(), reports);
            for entry in entries {
                prop_assert!(entry.history.len() <= super::history::LIMIT);
                let silent = entry.state() != WorkerState::Stopped && !entry.is_asked();
                let watched = entry.indexed.timer.is_some() || entry.wants_asking(at(now));
                prop_assert!(!silent || watched, "nobody looks at a living worker");
            }
            // Everything that is due is done: a loop that waits for it does not spin.
            prop_assert!(fleet.timers.first().is_none_or(|(due, _)| *due > at(now)));
        }
    }
}

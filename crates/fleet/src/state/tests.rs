//! The fleet's reaction to messages, time and answers.

use std::time::Duration;

use super::messages::{at, beat, beat_node, beat_of, drained, running, state};
use super::*;
use crate::api::{HistoryKind, Worker, WorkerState};

fn fleet() -> Fleet {
    let mut fleet = Fleet::new(Limits::default(), at(0));
    fleet.connected(at(0));
    fleet
}

fn live(fleet: &mut Fleet, message: Message, ms: i64) {
    fleet.apply(message, Origin::Live, at(ms));
}

fn of(fleet: &Fleet, ms: i64) -> Worker {
    fleet.worker("w-1", at(ms)).expect("it is known")
}

fn asked(fleet: &mut Fleet, ms: i64) -> Vec<Ask> {
    fleet.due(at(ms), 100)
}

fn ping() -> Vec<Ask> {
    let worker = "w-1".into();
    let question = Question::Ping;
    vec![Ask { worker, question }]
}

/// The control queue is gone, and the question that follows comes back.
fn lose(fleet: &mut Fleet, ms: i64) {
    fleet.queue_gone("w-1", at(ms));
    assert_eq!(asked(fleet, ms + 500), ping());
    fleet.queue_gone("w-1", at(ms + 501));
}

#[test]
fn a_worker_is_what_it_says_with_its_nodes_and_figures() {
    let mut fleet = fleet();
    live(&mut fleet, running("w-1", 1), 1_000);
    live(&mut fleet, beat("w-1", 2), 2_000);
    live(&mut fleet, beat("w-1", 3), 3_000);
    let worker = of(&fleet, 5_000);
    assert_eq!(worker.state, WorkerState::Running);
    assert_eq!(worker.since, at(1_000));
    assert_eq!(worker.pid, Some(7));
    let lease = worker.lease.unwrap();
    assert_eq!((lease.ms, lease.left_ms), (30_000, 28_000));
    assert_eq!(worker.load, Some(0.25));
    let nodes: Vec<_> = worker
        .nodes
        .iter()
        .map(|node| (&*node.queue, node.slots, node.done, node.rate))
        .collect();
    assert_eq!(nodes, [("a", 8, 3, Some(1.0)), ("b", 8, 30, Some(10.0))]);
    let overview = fleet.overview(at(5_000));
    assert_eq!(overview.workers.running, 1);
    assert_eq!((overview.nodes, overview.slots), (2, 16));
    assert!((overview.rate - 11.0).abs() < 0.01);
}

#[test]
fn a_node_that_a_beat_leaves_out_is_what_the_last_full_beat_said() {
    let mut fleet = fleet();
    live(&mut fleet, running("w-1", 1), 1_000);
    live(
        &mut fleet,
        beat_of("w-1", 2, true, vec![beat_node("a", 3), beat_node("b", 3)]),
        2_000,
    );
    live(
        &mut fleet,
        beat_of("w-1", 3, false, vec![beat_node("a", 4)]),
        3_000,
    );
    let node = &of(&fleet, 3_000).nodes[0];
    assert_eq!((node.in_flight, node.held), (1, 0));
    live(&mut fleet, beat_of("w-1", 4, false, vec![]), 4_000);
    let node = &of(&fleet, 4_000).nodes[0];
    assert_eq!((node.in_flight, node.held), (0, 3));
    assert_eq!((node.done, node.rate), (4, Some(0.0)));
}

#[test]
fn a_drain_goes_from_draining_to_stopped_and_nobody_is_asked_any_more() {
    let mut fleet = fleet();
    live(&mut fleet, running("w-1", 1), 1_000);
    live(&mut fleet, state("w-1", 2, Phase::Draining), 2_000);
    let draining = of(&fleet, 2_000);
    assert_eq!(draining.state, WorkerState::Draining);
    assert_eq!(draining.deadline_at, Some(at(27_000)));
    assert_eq!(draining.reason.as_deref(), Some("SIGTERM"));
    fleet.queue_gone("w-1", at(2_900));
    live(&mut fleet, drained("w-1", 3), 3_000);
    let stopped = of(&fleet, 3_000);
    assert_eq!(stopped.state, WorkerState::Stopped);
    assert_eq!(stopped.since, at(3_000));
    assert_eq!(stopped.lease, None);
    assert_eq!(stopped.drain.unwrap().duration_ms, 120);
    fleet.queue_gone("w-1", at(3_001));
    assert!(asked(&mut fleet, 600_000).is_empty());
    assert_eq!(of(&fleet, 600_000).state, WorkerState::Stopped);
    let changes = fleet.take_changes();
    assert_eq!(changes.drains.len(), 1);
    let week = fleet.overview(at(4_000)).week;
    assert_eq!(
        (week.drains, week.interrupted, week.interrupted_deliveries),
        (1, 1, 1)
    );
    assert_eq!(week.duration_p99_ms, Some(120));
    assert_eq!(fleet.drains(10, None).drains[0].name.as_ref(), "w");
}

#[test]
fn a_worker_whose_lease_runs_out_is_asked_and_silent_only_if_it_does_not_answer() {
    let mut fleet = fleet();
    live(&mut fleet, running("w-1", 1), 1_000);
    assert_eq!(fleet.next_due(), Some(at(26_000)));
    assert!(asked(&mut fleet, 25_999).is_empty());
    assert_eq!(asked(&mut fleet, 26_000), ping());
    fleet.answered("w-1", Phase::Running, at(26_010));
    assert_eq!(of(&fleet, 26_010).state, WorkerState::Running);
    assert_eq!(asked(&mut fleet, 51_010), ping());
    assert!(asked(&mut fleet, 56_010).is_empty());
    let silent = of(&fleet, 56_010);
    assert_eq!(silent.state, WorkerState::Silent);
    assert_eq!((silent.since, silent.lease), (at(56_010), None));
    live(&mut fleet, beat("w-1", 2), 70_000);
    assert_eq!(of(&fleet, 70_000).state, WorkerState::Running);
    assert_eq!(of(&fleet, 70_000).since, at(1_000), "it ran all the time");
    let detail = fleet.detail("w-1", at(70_000)).unwrap();
    let kinds: Vec<_> = detail.history.iter().map(|entry| entry.kind).collect();
    assert_eq!(
        kinds,
        [HistoryKind::State, HistoryKind::Silent, HistoryKind::Back]
    );
}

#[test]
fn a_crash_is_known_by_the_queue_that_is_gone() {
    let mut fleet = fleet();
    live(&mut fleet, running("w-1", 1), 1_000);
    lose(&mut fleet, 2_000);
    let lost = of(&fleet, 2_501);
    assert_eq!((lost.state, lost.since), (WorkerState::Lost, at(2_501)));
    assert_eq!(fleet.overview(at(3_000)).week.lost, 1);
    live(&mut fleet, drained("w-1", 3), 3_000);
    assert_eq!(
        of(&fleet, 3_000).state,
        WorkerState::Stopped,
        "its report was late"
    );
    assert_eq!(fleet.overview(at(3_000)).week.lost, 0);
}

#[test]
fn who_is_only_read_of_is_asked_and_not_called_lost_before() {
    let mut fleet = Fleet::new(Limits::default(), at(0));
    fleet.apply(running("w-1", 1), Origin::Log, at(500_000));
    let read = of(&fleet, 500_000);
    assert_eq!((read.state, read.lease), (WorkerState::Running, None));
    assert_eq!(read.last_heard, at(1_000));
    assert!(
        asked(&mut fleet, 500_000).is_empty(),
        "there is no connection"
    );
    fleet.connected(at(500_000));
    assert_eq!(fleet.next_due(), Some(at(501_000)));
    assert_eq!(asked(&mut fleet, 501_000), ping());
    fleet.queue_gone("w-1", at(501_001));
    assert_eq!(of(&fleet, 501_001).state, WorkerState::Running);
    assert_eq!(asked(&mut fleet, 501_501), ping());
    fleet.queue_gone("w-1", at(501_502));
    let lost = of(&fleet, 501_502);
    assert_eq!((lost.state, lost.since), (WorkerState::Lost, at(1_000)));
}

#[test]
fn without_a_connection_nobody_s_state_changes() {
    let mut fleet = fleet();
    live(&mut fleet, running("w-1", 1), 1_000);
    assert_eq!(asked(&mut fleet, 26_000), ping());
    fleet.disconnected(at(32_000));
    assert!(asked(&mut fleet, 900_000).is_empty());
    assert_eq!(fleet.next_due(), None);
    assert_eq!(of(&fleet, 900_000).state, WorkerState::Running);
    fleet.connected(at(900_000));
    assert!(asked(&mut fleet, 900_999).is_empty());
    assert_eq!(asked(&mut fleet, 901_000), ping());
    fleet.unasked("w-1", at(901_000));
    assert_eq!(asked(&mut fleet, 901_000), ping());
}

#[test]
fn clocks_that_are_minutes_off_change_only_what_is_shown_and_that_is_put_right() {
    for skew in [-600_000, 600_000] {
        let mut fleet = fleet();
        let skewed = |mut message: Message, ms: i64| {
            let said = at(ms + skew).to_string();
            match &mut message {
                Message::State(state) => state.head.at = said,
                Message::Beat(beat) => beat.head.at = said,
                Message::Drain(drain) => drain.head.at = said,
            }
            message
        };
        live(&mut fleet, skewed(running("w-1", 1), 1_000), 1_005);
        live(&mut fleet, skewed(beat("w-1", 2), 20_000), 20_005);
        assert!(asked(&mut fleet, 45_004).is_empty());
        assert_eq!(asked(&mut fleet, 45_005), ping());
        fleet.answered("w-1", Phase::Running, at(45_006));
        live(
            &mut fleet,
            skewed(state("w-1", 3, Phase::Draining), 60_000),
            60_009,
        );
        let draining = of(&fleet, 60_010);
        assert_eq!(draining.since, at(60_005));
        assert_eq!(draining.deadline_at, Some(at(85_005)));
    }
}

#[test]
fn a_worker_that_nothing_but_a_beat_is_known_of_is_asked_for_its_state() {
    let mut fleet = fleet();
    live(
        &mut fleet,
        beat("web-01KBW000000000000000000000", 9),
        10_000,
    );
    let id = "web-01KBW000000000000000000000";
    let worker = fleet.worker(id, at(10_000)).unwrap();
    assert_eq!((worker.state, worker.host), (WorkerState::Running, None));
    assert_eq!(worker.nodes.len(), 2);
    let asks = asked(&mut fleet, 12_000);
    assert_eq!(asks[0].question, Question::Report, "{asks:?}");
    fleet.answered("other-1", Phase::Paused, at(12_000));
    let other = fleet.worker("other-1", at(12_000)).unwrap();
    assert_eq!(other.state, WorkerState::Paused);
    fleet.answered("db-01KBW000000000000000000000", Phase::Paused, at(12_000));
    let named = fleet.worker("db-01KBW000000000000000000000", at(12_000));
    assert_eq!(named.unwrap().name.as_ref(), "db");
}

#[test]
fn the_dead_age_out_and_the_oldest_dead_make_room_first() {
    let limits = Limits {
        workers: 3,
        retention: Duration::from_secs(60),
    };
    let mut fleet = Fleet::new(limits, at(0));
    live(&mut fleet, running("w-1", 1), 1_000);
    for (id, seq) in [("w-2", 2), ("w-3", 3), ("w-4", 4)] {
        live(
            &mut fleet,
            drained(id, seq),
            i64::try_from(seq).unwrap() * 1_000,
        );
    }
    let known = |fleet: &Fleet| fleet.all(at(0)).map(|worker| worker.id).collect::<Vec<_>>();
    assert_eq!(known(&fleet), ["w-1".into(), "w-3".into(), "w-4".into()]);
    assert_eq!(fleet.take_changes().gone, ["w-2".into()]);
    fleet.due(at(63_000), 0);
    assert_eq!(known(&fleet), ["w-1".into(), "w-4".into()]);
    assert_eq!(fleet.drains(10, None).drains.len(), 1);
    live(&mut fleet, running("w-5", 1), 63_000);
    live(&mut fleet, running("w-6", 1), 63_000);
    live(&mut fleet, running("w-7", 1), 63_000);
    assert_eq!(fleet.len(), 3, "the living are bounded, too");
    assert_eq!(fleet.dropped(), 3);
}

#[test]
fn lists_are_filtered_and_paged() {
    let mut fleet = fleet();
    for number in 0..5_u32 {
        let id = format!("w-{number}");
        live(&mut fleet, running(&id, 1), 1_000);
        if number % 2 == 0 {
            live(&mut fleet, drained(&id, 2), 2_000 + i64::from(number));
        }
    }
    let mut query = WorkersQuery {
        limit: 2,
        ..WorkersQuery::default()
    };
    let page = fleet.workers(&query, at(3_000));
    assert_eq!(page.next.as_deref(), Some("w-1"));
    query.after = Some("w-3".into());
    let page = fleet.workers(&query, at(3_000));
    assert_eq!((page.workers.len(), page.next), (1, None));
    query = WorkersQuery {
        states: vec![WorkerState::Stopped],
        name: "W-4".into(),
        limit: 9,
        after: None,
    };
    let page = fleet.workers(&query, at(3_000));
    assert_eq!(page.workers[0].id.as_ref(), "w-4");
    let first = fleet.drains(2, None);
    let cursor = first.next.unwrap();
    let (when, id) = cursor.split_once('/').unwrap();
    let rest = fleet.drains(2, Some((Moment::parse(when).unwrap(), id)));
    assert_eq!((rest.drains.len(), rest.next), (1, None));
}

#[test]
fn a_worker_whose_namesake_begins_is_looked_for_at_once() {
    let mut fleet = fleet();
    let old = "w-01KBW000000000000000000000";
    live(&mut fleet, running(old, 1), 2_000);
    assert!(asked(&mut fleet, 3_000).is_empty());
    live(
        &mut fleet,
        running("w-01KBW000000000000000000001", 1),
        4_000,
    );
    let looked_for = |question| {
        vec![Ask {
            worker: old.into(),
            question,
        }]
    };
    assert_eq!(asked(&mut fleet, 4_000), looked_for(Question::Present));
    fleet.queue_gone(old, at(4_001));
    assert_eq!(asked(&mut fleet, 4_501), looked_for(Question::Ping));
    fleet.queue_gone(old, at(4_502));
    let overview = fleet.overview(at(5_000));
    assert_eq!((overview.workers.running, overview.workers.lost), (1, 1));
}

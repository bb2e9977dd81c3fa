//! Messages for tests.

use super::Message;
use crate::clock::Moment;
use tidegate::internal::status::wire::{
    Beat, BeatNode, Drain, DrainOutcome, DrainReport, Head, State, StateNode, VERSION,
};
use tidegate::lifecycle::Phase;

/// A lease of 30 s.
const LEASE: u64 = 30_000;

pub(super) fn at(ms: i64) -> Moment {
    Moment::from_ms(1_800_000_000_000 + ms)
}

/// Said at second `seq` of the sender's clock.
fn head(worker: &str, seq: u64) -> Head {
    Head {
        v: VERSION,
        worker: worker.into(),
        name: "w".into(),
        seq,
        at: at(i64::try_from(seq).expect("small numbers") * 1_000).to_string(),
        lease_ms: LEASE,
    }
}

pub(super) fn state(worker: &str, seq: u64, phase: Phase) -> Message {
    Message::State(State {
        head: head(worker, seq),
        phase,
        deadline_ms: (phase == Phase::Draining).then_some(25_000),
        host: "h".into(),
        pid: 7,
        version: "0.1.0".into(),
        started_at: at(0).to_string(),
        reason: (phase == Phase::Draining).then(|| "SIGTERM".into()),
        note: None,
        nodes: vec![state_node("a", phase), state_node("b", phase)],
    })
}

fn state_node(queue: &str, phase: Phase) -> StateNode {
    StateNode {
        queue: queue.into(),
        title: None,
        note: None,
        kind: Some("quorum".into()),
        handler: "http".into(),
        slots: 8,
        prefetch: 16,
        retry_ms: vec![1_000],
        phase,
    }
}

pub(super) fn running(worker: &str, seq: u64) -> Message {
    state(worker, seq, Phase::Running)
}

pub(super) fn beat_node(queue: &str, done: u64) -> BeatNode {
    BeatNode {
        queue: queue.into(),
        in_flight: done % 3,
        held: done % 4,
        oldest_ms: (done % 3) * 100,
        done,
        retried: 0,
        dead: 0,
        handed_back: 0,
        interrupted: 0,
    }
}

pub(super) fn beat_of(worker: &str, seq: u64, full: bool, nodes: Vec<BeatNode>) -> Message {
    Message::Beat(Beat {
        head: head(worker, seq),
        load: 0.25,
        full,
        nodes,
    })
}

pub(super) fn beat(worker: &str, seq: u64) -> Message {
    beat_of(
        worker,
        seq,
        true,
        vec![beat_node("a", seq), beat_node("b", seq * 10)],
    )
}

pub(super) fn drained(worker: &str, seq: u64) -> Message {
    let mut head = head(worker, seq);
    head.lease_ms = 0;
    let mut report = DrainReport::new("SIGTERM", DrainOutcome::Interrupted);
    report.duration_ms = 120;
    report.finished = 3;
    report.handed_back = 4;
    report.interrupted = 1;
    report.interrupted_ids = vec!["m-1".into()];
    Message::Drain(Drain { head, report })
}

/// The message, sent at `ms` by its sender's clock.
pub(super) fn sent_at(mut message: Message, ms: i64) -> Message {
    let head = match &mut message {
        Message::State(state) => &mut state.head,
        Message::Beat(beat) => &mut beat.head,
        Message::Drain(drain) => &mut drain.head,
    };
    head.at = at(ms).to_string();
    message
}

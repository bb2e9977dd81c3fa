//! What all workers together say of each queue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Fleet;
use super::entry::Entry;
use super::node::Node;
use crate::api::WorkerState;
use crate::clock::Moment;
use tidegate::lifecycle::Phase;

/// Different reasons kept of one queue.
const REASONS_LIMIT: usize = 20;

/// What the workers say of one queue.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct QueueWork {
    /// Its name for people, if a worker gives one.
    pub title: Option<Arc<str>>,
    /// Its type, where a worker declares it.
    pub kind: Option<Arc<str>>,
    /// Live workers on it.
    pub workers: u64,
    /// Slots of those.
    pub slots: u64,
    /// Unacknowledged deliveries that those may hold at most.
    pub prefetch: u64,
    /// Deliveries that run.
    pub running: u64,
    /// Deliveries on hold.
    pub on_hold: u64,
    /// Age of the oldest of those at its worker's last beat.
    pub oldest: Duration,
    /// How old the oldest of these figures are.
    pub figures_age: Option<Duration>,
    /// Deliveries done per second.
    pub done_per_second: f64,
    /// Deliveries that failed, since the start of each worker that is known: retried, and dead.
    pub failures: (u64, u64),
    /// The delays of retries.
    pub retry_ms: BTreeSet<u64>,
    /// Why messages wait, each with the number of workers that say so.
    pub held: BTreeMap<Arc<str>, u64>,
}

impl Fleet {
    /// What the workers say of each queue that one of them works, or has worked.
    pub fn queue_work(&self, now: Moment) -> BTreeMap<Arc<str>, QueueWork> {
        let mut queues = BTreeMap::<Arc<str>, QueueWork>::new();
        for entry in self.entries.values() {
            for node in entry.shown_nodes() {
                let queue = queues.entry(Arc::clone(&node.queue)).or_default();
                queue.add(entry, node, now);
            }
        }
        queues
    }
}

impl QueueWork {
    fn add(&mut self, entry: &Entry, node: &Node, now: Moment) {
        let state = entry.state();
        self.failures.0 += node.counts.retried;
        self.failures.1 += node.counts.dead;
        let role = node.role.as_ref();
        if let Some(role) = role {
            self.title = role.title.clone().or(self.title.take());
            self.kind = role.kind.clone().or(self.kind.take());
            self.retry_ms.extend(role.retry_ms.iter());
        }
        if state == WorkerState::Silent {
            self.hold("its worker is silent".into());
        }
        if !state.is_live() {
            return;
        }
        self.workers += 1;
        self.slots += role.map_or(0, |role| u64::from(role.slots));
        self.prefetch += role.map_or(0, |role| u64::from(role.prefetch));
        let busy = entry.busy(node);
        self.running += u64::from(busy.in_flight);
        self.on_hold += u64::from(busy.held);
        self.oldest = self.oldest.max(Duration::from_millis(busy.oldest_ms));
        self.figures_age = self
            .figures_age
            .max(entry.figures_at().map(|at| now.since(at)));
        let newest = entry.pulse.map_or(0, |pulse| pulse.seq);
        self.done_per_second += f64::from(node.rate_at(newest));
        if let Some(reason) = held(entry, node, state) {
            self.hold(reason);
        }
    }

    fn hold(&mut self, reason: Arc<str>) {
        if self.held.len() < REASONS_LIMIT || self.held.contains_key(&reason) {
            *self.held.entry(reason).or_default() += 1;
        }
    }
}

/// Why a live worker leaves messages of a queue where they are.
fn held(entry: &Entry, node: &Node, state: WorkerState) -> Option<Arc<str>> {
    let role = node.role.as_ref();
    if let Some(note) = role.and_then(|role| role.note.clone()) {
        return Some(note);
    }
    let reason = entry.facts.as_ref().and_then(|facts| facts.reason.as_ref());
    let word = match (state, role.map(|role| role.phase)) {
        (WorkerState::Paused, _) | (_, Some(Phase::Paused)) => "paused",
        (WorkerState::Draining, _) | (_, Some(Phase::Draining)) => "draining",
        (WorkerState::Starting, _) => "starting",
        // Its queue is missing or refused.
        (_, Some(Phase::Starting)) => return Some("cannot be consumed yet".into()),
        _ => return None,
    };
    Some(match reason {
        Some(reason) => format!("{word}: {reason}").into(),
        None => word.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::messages::{at, beat, drained, running, state};
    use crate::state::{Limits, Origin};

    fn fleet(messages: Vec<crate::state::Message>) -> Fleet {
        let mut fleet = Fleet::new(Limits::default(), at(0));
        for message in messages {
            fleet.apply(message, Origin::Live, at(2_000));
        }
        fleet
    }

    #[test]
    fn workers_on_a_queue_are_summed() {
        let fleet = fleet(vec![running("w-1", 1), running("w-2", 1), beat("w-2", 2)]);
        let queues = fleet.queue_work(at(2_000));
        assert_eq!(
            queues.keys().map(|name| &**name).collect::<Vec<_>>(),
            ["a", "b"]
        );
        let queue = &queues["a"];
        assert_eq!((queue.workers, queue.slots, queue.prefetch), (2, 16, 32));
        assert_eq!(queue.kind.as_deref(), Some("quorum"));
        assert_eq!(queue.retry_ms, [1_000].into());
        assert_eq!((queue.running, queue.on_hold), (2, 2));
        let other = &queues["b"];
        assert_eq!((other.running, other.on_hold), (2, 0));
        assert!(queue.held.is_empty(), "{:?}", queue.held);
    }

    #[test]
    fn a_queue_says_why_its_messages_wait() {
        let fleet = fleet(vec![
            state("w-1", 1, Phase::Paused),
            state("w-2", 1, Phase::Draining),
            state("w-3", 1, Phase::Paused),
        ]);
        let held = &fleet.queue_work(at(2_000))["a"].held;
        let expected = BTreeMap::from([("draining: SIGTERM".into(), 1), ("paused".into(), 2)]);
        assert_eq!(held, &expected);
    }

    #[test]
    fn a_queue_that_nobody_works_any_more_is_still_known() {
        let fleet = fleet(vec![running("w-1", 1), drained("w-1", 2)]);
        let queues = fleet.queue_work(at(2_000));
        assert_eq!(queues.len(), 2);
        let queue = &queues["a"];
        assert_eq!((queue.workers, queue.slots, queue.running), (0, 0, 0));
    }
}

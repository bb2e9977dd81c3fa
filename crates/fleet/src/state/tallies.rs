//! What left each queue, by the beats that this program has heard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::Fleet;
use super::entry::Entry;
use super::graph::Graph;
use super::message::Message;
use super::node::Counts;
use super::text::{NAME_LIMIT, cut};
use crate::api;
use crate::clock::Moment;
use tidegate::internal::status::wire::{Beat, BeatNode};

/// Queues with a tally of their own; others count in the fleet's only.
const QUEUES_LIMIT: usize = 1_000;
/// How long a queue's tally is kept after nobody works it any more.
const HOUR: Duration = Duration::from_hours(1);
/// Slots of the graph over which the share of failures is taken: five minutes.
const LATELY: usize = 10;

/// What left each queue, and all of them.
#[derive(Debug)]
pub(super) struct Tallies {
    /// When the program began to listen.
    begun: Moment,
    queues: BTreeMap<Arc<str>, Tally>,
    all: Graph,
}

/// What left one queue.
#[derive(Debug)]
struct Tally {
    /// Deliveries that ended, ever since the program listens.
    ended: u64,
    graph: Graph,
}

impl Tallies {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            begun: now,
            queues: BTreeMap::new(),
            all: Graph::new(now),
        }
    }

    /// Counts what a beat says beyond what `entry`, its worker, has said before.
    pub(super) fn count(&mut self, entry: Option<&Entry>, message: &Message, now: Moment) {
        let (Some(entry), Message::Beat(beat)) = (entry, message) else {
            return;
        };
        let Some(from) = self.counted_from(entry) else {
            return;
        };
        let mut place = 0;
        for said in &beat.nodes {
            let counted = counted(entry, beat, said, &mut place);
            let Some(counts) = counted else { continue };
            let done = said.done.saturating_sub(counts.done);
            let failed =
                said.retried.saturating_sub(counts.retried) + said.dead.saturating_sub(counts.dead);
            if done + failed > 0 {
                self.add(cut(&said.queue, NAME_LIMIT), done, failed, from, now);
            }
        }
    }

    /// From when on a worker's counters say something new: its last beat, or its start if this program saw that.
    fn counted_from(&self, entry: &Entry) -> Option<Moment> {
        let started = || entry.started_at().filter(|at| *at >= self.begun);
        entry.figures_at().or_else(started)
    }

    fn add(&mut self, queue: &str, done: u64, failed: u64, from: Moment, now: Moment) {
        self.all.spread(done, failed, from, now);
        if let Some(tally) = self.tally(queue, now) {
            tally.ended = tally.ended.saturating_add(done + failed);
            tally.graph.spread(done, failed, from, now);
        }
    }

    fn tally(&mut self, queue: &str, now: Moment) -> Option<&mut Tally> {
        if !self.queues.contains_key(queue) {
            if self.queues.len() >= QUEUES_LIMIT {
                return None;
            }
            let tally = Tally {
                ended: 0,
                graph: Graph::new(now),
            };
            self.queues.insert(queue.into(), tally);
        }
        self.queues.get_mut(queue)
    }
}

/// What is counted already of a node; nothing if the beat is an old one.
fn counted(entry: &Entry, beat: &Beat, said: &BeatNode, place: &mut usize) -> Option<Counts> {
    let queue = cut(&said.queue, NAME_LIMIT);
    let nodes = &entry.nodes;
    // Beats name nodes in the order of the state, mostly.
    let mut places = (*place..nodes.len()).chain(0..(*place).min(nodes.len()));
    let found = places.find(|place| &*nodes[*place].queue == queue);
    let Some(found) = found else {
        return Some(Counts::default());
    };
    *place = found + 1;
    let node = &nodes[found];
    (node.seq < beat.head.seq).then_some(node.counts)
}

impl Fleet {
    /// Deliveries of a queue that ended since the program listens: done, retried or dead. Only their differences say
    /// something.
    pub fn ended(&self, queue: &str) -> u64 {
        self.tallies
            .queues
            .get(queue)
            .map_or(0, |tally| tally.ended)
    }

    /// The broker said that so many messages are ready in a queue. Returns what [`ended`](Self::ended) does.
    pub fn looked(&mut self, queue: &str, ready: u64, now: Moment) -> u64 {
        let tally = self.tallies.queues.get_mut(queue);
        tally.map_or(0, |tally| {
            tally.graph.waits(ready, now);
            tally.ended
        })
    }

    /// Notes for the graphs what runs now.
    pub fn sample(&mut self, now: Moment) {
        let work = self.queue_work(now);
        let tallies = &mut self.tallies;
        let hour_ago = now.before(HOUR);
        tallies
            .queues
            .retain(|queue, tally| work.contains_key(queue) || tally.graph.newest() > hour_ago);
        let mut running = 0;
        for (queue, work) in work.iter().filter(|(_, work)| work.workers > 0) {
            running += work.running;
            if let Some(tally) = tallies.tally(queue, now) {
                tally.graph.runs(work.running, now);
            }
        }
        tallies.all.runs(running, now);
        let ready = tallies.queues.values();
        let ready: Vec<u64> = ready.filter_map(|tally| tally.graph.waiting(now)).collect();
        if !ready.is_empty() {
            tallies.all.waits(ready.iter().sum(), now);
        }
    }

    /// The last hour of `queue`, or of the fleet; nothing if nothing is known of the queue.
    pub fn graph(&self, queue: Option<&str>, now: Moment) -> Option<api::Graph> {
        let graph = match queue {
            Some(queue) => &self.tallies.queues.get(queue)?.graph,
            None => &self.tallies.all,
        };
        Some(graph.shown(self.tallies.begun, now))
    }

    /// The share of a queue's deliveries of the last five minutes that failed; nothing if none ended.
    pub fn failing(&self, queue: &str, now: Moment) -> Option<f64> {
        let tally = self.tallies.queues.get(queue)?;
        let (done, failed) = tally.graph.lately(LATELY, now);
        (done + failed >= 0.5).then(|| failed / (done + failed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::messages::{at, beat_node, beat_of, running};
    use crate::state::{Limits, Origin};

    fn fleet() -> Fleet {
        Fleet::new(Limits::default(), at(0))
    }

    fn beat(fleet: &mut Fleet, seq: u64, done: u64, dead: u64, s: i64) {
        let mut node = beat_node("a", done);
        node.dead = dead;
        let beat = beat_of("w-1", seq, true, vec![node]);
        fleet.apply(beat, Origin::Live, at(s * 1_000));
    }

    #[test]
    fn each_delivery_counts_once_whatever_comes_twice_or_late() {
        let mut fleet = fleet();
        fleet.apply(running("w-1", 1), Origin::Live, at(1_000));
        beat(&mut fleet, 2, 10, 0, 2);
        beat(&mut fleet, 4, 30, 10, 4);
        beat(&mut fleet, 4, 30, 10, 4);
        beat(&mut fleet, 3, 20, 5, 5);
        assert_eq!(
            fleet.ended("a"),
            40,
            "a worker that started just now began at 0"
        );
        assert_eq!(fleet.failing("a", at(5_000)), Some(0.25));
        assert_eq!(fleet.failing("a", at(600_000)), None);
        assert_eq!((fleet.ended("b"), fleet.failing("b", at(5_000))), (0, None));
    }

    #[test]
    fn what_a_worker_did_before_this_program_listened_does_not_count() {
        let mut fleet = Fleet::new(Limits::default(), at(10_000));
        fleet.apply(running("w-1", 1), Origin::Log, at(10_000));
        beat(&mut fleet, 2, 1_000, 0, 20);
        assert_eq!(fleet.ended("a"), 0);
        beat(&mut fleet, 3, 1_005, 0, 21);
        assert_eq!(fleet.ended("a"), 5);
    }

    #[test]
    fn the_queues_that_are_counted_one_by_one_are_bounded() {
        let mut fleet = fleet();
        for number in 0..QUEUES_LIMIT + 5 {
            let queue = format!("q{number}");
            fleet.tallies.add(&queue, 1, 0, at(0), at(1_000));
        }
        assert_eq!(fleet.tallies.queues.len(), QUEUES_LIMIT);
        let all = f64::from(u32::try_from(QUEUES_LIMIT + 5).expect("a small number"));
        let tallied = fleet.tallies.all.lately(1, at(1_000)).0;
        assert!((tallied - all).abs() < 0.5, "{tallied} of {all}");
    }
}

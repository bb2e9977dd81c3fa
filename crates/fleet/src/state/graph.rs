//! An hour of one queue, or of the whole fleet, in slots of half a minute. Pure.

use crate::api;
use crate::clock::Moment;

/// Slots of a graph.
pub(super) const SLOTS: usize = 120;
/// The time of one slot, in milliseconds.
pub(super) const SLOT_MS: i64 = 30_000;

/// An hour, slot by slot.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Graph {
    /// The number of the newest slot: its time since 1970 in slots.
    newest: i64,
    slots: Box<[Slot; SLOTS]>,
}

/// What happened in one slot.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Slot {
    /// Deliveries done.
    pub done: f32,
    /// Deliveries that failed: retried, or dead.
    pub failed: f32,
    /// The most deliveries that ran at a time; nothing if nobody said.
    pub running: Option<u32>,
    /// The most messages that were ready at a time; nothing if nobody looked.
    pub ready: Option<u32>,
}

impl Graph {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            newest: number(now),
            slots: Box::new([Slot::default(); SLOTS]),
        }
    }

    /// Deliveries ended between two moments, evenly as far as is known.
    pub(super) fn spread(&mut self, done: u64, failed: u64, from: Moment, to: Moment) {
        self.advance(to);
        let (from, to) = (from.ms().min(to.ms()), to.ms());
        let span = as_f32((to - from).max(1));
        let first = from.div_euclid(SLOT_MS).max(self.oldest());
        for slot in first..=to.div_euclid(SLOT_MS).min(self.newest) {
            let (begin, end) = (slot * SLOT_MS, (slot + 1) * SLOT_MS);
            let inside = as_f32((to.min(end) - from.max(begin)).max(0));
            // What takes no time at all ended in the last slot.
            let share = if to == from { 1.0 } else { inside / span };
            let slot = &mut self.slots[place(slot)];
            slot.done += as_f32(done) * share;
            slot.failed += as_f32(failed) * share;
        }
    }

    /// So many deliveries run now.
    pub(super) fn runs(&mut self, running: u64, now: Moment) {
        let slot = self.at(now);
        slot.running = slot.running.max(Some(clamped(running)));
    }

    /// So many messages are ready now.
    pub(super) fn waits(&mut self, ready: u64, now: Moment) {
        let slot = self.at(now);
        slot.ready = slot.ready.max(Some(clamped(ready)));
    }

    /// The messages that were last said to be ready, in this slot or the one before it.
    pub(super) fn waiting(&self, now: Moment) -> Option<u64> {
        let recent = (number(now) - 1).max(self.oldest())..=self.newest;
        let mut slots = recent.rev().map(|slot| self.slots[place(slot)]);
        slots.find_map(|slot| slot.ready).map(u64::from)
    }

    /// The hour as the API shows it, from `begun` on if that is later.
    pub(super) fn shown(&self, begun: Moment, now: Moment) -> api::Graph {
        let mut graph = self.clone();
        graph.advance(now);
        let first = graph.oldest().max(number(begun));
        let slots: Vec<Slot> = (first..=graph.newest)
            .map(|slot| graph.slots[place(slot)])
            .collect();
        // The newest slot is not over.
        let whole = f64::from(as_f32(SLOT_MS)) / 1_000.0;
        let last = (now.ms() - graph.newest * SLOT_MS).clamp(1_000, SLOT_MS);
        let seconds = |index: usize| {
            if index + 1 == slots.len() {
                f64::from(as_f32(last)) / 1_000.0
            } else {
                whole
            }
        };
        let rate = |of: fn(&Slot) -> f32| -> Vec<Option<f64>> {
            let values = slots.iter().enumerate();
            let rates = values.map(|(index, slot)| f64::from(of(slot)) / seconds(index));
            rates
                .map(|rate| Some((rate * 1_000.0).round() / 1_000.0))
                .collect()
        };
        api::Graph {
            from: Moment::from_ms(first * SLOT_MS),
            slot_ms: SLOT_MS.unsigned_abs(),
            done_per_second: rate(|slot| slot.done),
            failed_per_second: rate(|slot| slot.failed),
            running: slots.iter().map(|slot| slot.running).collect(),
            ready: slots.iter().map(|slot| slot.ready).collect(),
        }
    }

    /// Deliveries that ended in the newest slots, done and failed.
    pub(super) fn lately(&self, slots: usize, now: Moment) -> (f64, f64) {
        let from = number(now) - i64::try_from(slots).unwrap_or(i64::MAX);
        let from = from.max(self.oldest() - 1);
        let lately = (from + 1..=self.newest).map(|slot| self.slots[place(slot)]);
        lately.fold((0.0, 0.0), |(done, failed), slot| {
            (done + f64::from(slot.done), failed + f64::from(slot.failed))
        })
    }

    /// When it was last written.
    pub(super) fn newest(&self) -> Moment {
        Moment::from_ms(self.newest * SLOT_MS)
    }

    fn oldest(&self) -> i64 {
        self.newest - i64::try_from(SLOTS).expect("an hour is short") + 1
    }

    fn at(&mut self, now: Moment) -> &mut Slot {
        self.advance(now);
        &mut self.slots[place(number(now).max(self.oldest()))]
    }

    /// Time has passed: slots of an hour ago are used again.
    pub(super) fn advance(&mut self, now: Moment) {
        let now = number(now);
        let passed = now.saturating_sub(self.newest);
        for step in 1..=passed.min(i64::try_from(SLOTS).expect("an hour is short")) {
            self.slots[place(now - passed + step)] = Slot::default();
        }
        if passed > i64::try_from(SLOTS).expect("an hour is short") {
            *self.slots = [Slot::default(); SLOTS];
        }
        self.newest = self.newest.max(now);
    }
}

fn number(at: Moment) -> i64 {
    at.ms().div_euclid(SLOT_MS)
}

fn place(slot: i64) -> usize {
    let slots = i64::try_from(SLOTS).expect("an hour is short");
    usize::try_from(slot.rem_euclid(slots)).expect("a remainder is not negative")
}

fn clamped(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a graph needs three digits")]
fn as_f32(number: impl TryInto<i64>) -> f32 {
    number.try_into().unwrap_or(i64::MAX) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Moment {
        Moment::from_ms(1_800_000_000_000 + s * 1_000)
    }

    fn slots(graph: &Graph) -> Vec<Slot> {
        let slots = graph.oldest()..=graph.newest;
        slots.map(|slot| graph.slots[place(slot)]).collect()
    }

    fn done(graph: &Graph) -> Vec<f32> {
        let slots = slots(graph).into_iter().map(|slot| slot.done);
        slots.filter(|done| *done > 0.0).collect()
    }

    #[test]
    fn what_was_done_between_two_beats_is_spread_over_that_time() {
        let mut graph = Graph::new(at(0));
        graph.spread(60, 6, at(15), at(75));
        assert_eq!(done(&graph), [15.0, 30.0, 15.0]);
        assert_eq!(graph.lately(10, at(75)), (60.0, 6.0));
        assert_eq!(graph.lately(1, at(75)), (15.0, 1.5));
    }

    #[test]
    fn what_is_older_than_an_hour_is_gone() {
        let mut graph = Graph::new(at(0));
        graph.spread(10, 0, at(0), at(0));
        graph.spread(20, 0, at(3_590), at(3_590));
        assert_eq!(done(&graph), [10.0, 20.0]);
        graph.advance(at(3_600));
        assert_eq!(done(&graph), [20.0]);
        graph.spread(7_200, 0, at(0), at(7_200));
        // The newest slot has just begun.
        assert_eq!(
            done(&graph).len(),
            SLOTS - 1,
            "the first hour does not show"
        );
        graph.advance(at(90_000));
        assert_eq!(done(&graph), [0.0; 0]);
    }

    #[test]
    fn a_slot_keeps_the_most_that_was_seen_and_says_when_nobody_looked() {
        let mut graph = Graph::new(at(0));
        graph.waits(5, at(0));
        graph.waits(9, at(10));
        graph.waits(2, at(20));
        graph.runs(3, at(31));
        let slots = slots(&graph);
        let newest = &slots[SLOTS - 2..];
        assert_eq!((newest[0].ready, newest[0].running), (Some(9), None));
        assert_eq!((newest[1].ready, newest[1].running), (None, Some(3)));
    }

    #[test]
    fn a_graph_is_shown_from_the_start_of_the_program_in_rates() {
        let mut graph = Graph::new(at(0));
        graph.spread(60, 30, at(60), at(90));
        graph.runs(4, at(95));
        let shown = graph.shown(at(60), at(100));
        assert_eq!(shown.from, at(60));
        assert_eq!(shown.done_per_second, [Some(2.0), Some(0.0)]);
        assert_eq!(shown.failed_per_second, [Some(1.0), Some(0.0)]);
        assert_eq!(shown.running, [None, Some(4)]);
        assert_eq!(graph.shown(at(-90_000), at(100)).ready.len(), SLOTS);
    }
}

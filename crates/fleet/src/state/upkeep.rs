//! The consequences of a change of one worker: the indexes, the list of changes, and room for others.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use super::super::api::WorkerState;
use super::super::clock::Moment;
use super::entry::{Entry, report};
use super::text::Texts;
use super::{Fleet, week};
use tidegate::internal::status::wire::Drain;

/// Workers whose ids begin alike, looked through for one name.
const SIMILAR_LIMIT: usize = 64;
/// Workers that never answered, asked for each newcomer while room is scarce.
const UNPROVEN_ASKED: usize = 8;
/// Living workers of one name; of more than these none is taken for replaced by a newcomer.
const NAMESAKES_LIMIT: usize = 4;

impl Fleet {
    /// Changes a worker, which is made if it is not known, and follows up on the change. Returns `false` if a worker
    /// that is new finds no room.
    pub(super) fn change(
        &mut self,
        id: &Arc<str>,
        name: &Arc<str>,
        now: Moment,
        act: impl FnOnce(&mut Entry, &mut Texts),
    ) -> bool {
        if !self.entries.contains_key(id) {
            if !self.make_room(now) {
                self.dropped += 1;
                return false;
            }
            let entry = Entry::new(id, Arc::clone(name), now);
            self.entries.insert(Arc::clone(id), entry);
            self.urgent = true;
            if self.fresh.len() < super::FRESH_LIMIT {
                self.fresh.push(Arc::clone(id));
            }
        }
        let entry = self.entries.get_mut(id).expect("it was just put there");
        let before = entry.state();
        let had_report = entry.report().is_some();
        act(entry, &mut self.texts);
        self.follow_up(id, before, had_report, now);
        true
    }

    /// A worker is new. It may have replaced another one of its name, and it has to answer if room is scarce.
    pub(super) fn meet(&mut self, id: &Arc<str>, now: Moment) {
        if self.living() * 2 > self.limits.workers {
            let first = self.unproven.iter().take(UNPROVEN_ASKED);
            let first: Vec<_> = first.map(|(_, id)| Arc::clone(id)).collect();
            for unproven in first.iter().chain([id]) {
                if let Some(entry) = self.entries.get_mut(unproven) {
                    entry.must_answer();
                }
                self.reconsider(unproven, now);
            }
        }
        for other in self.namesakes(id) {
            if let Some(entry) = self.entries.get_mut(&other) {
                entry.doubt();
            }
            self.reconsider(&other, now);
        }
    }

    /// Other living workers with the name of this one, whose ids begin with it; none if there are many.
    fn namesakes(&self, id: &Arc<str>) -> Vec<Arc<str>> {
        let Some(entry) = self.entries.get(id) else {
            return Vec::new();
        };
        let name = entry.name();
        let prefix = format!("{name}-");
        let similar = self
            .entries
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(|(other, _)| other.starts_with(&prefix));
        let same = similar
            .take(SIMILAR_LIMIT)
            .filter(|(other, entry)| *other != id && *entry.name() == *name)
            .filter(|(_, entry)| entry.ended_at().is_none());
        let same: Vec<_> = same.map(|(other, _)| Arc::clone(other)).collect();
        if same.len() > NAMESAKES_LIMIT {
            return Vec::new();
        }
        same
    }

    /// The drain of a worker that there is no room for is counted.
    pub(super) fn count_refused(&mut self, drain: &Drain, now: Moment) {
        let said = Moment::parse(&drain.head.at).unwrap_or(now);
        let report = report(drain, said.min(now), Arc::default());
        self.forgotten.drained(&report, now);
        self.week.changed();
    }

    /// A worker's time has come.
    pub(super) fn look(&mut self, id: &Arc<str>, now: Moment) {
        let Some(entry) = self.entries.get_mut(id) else {
            self.timers.retain(|(_, other)| other != id);
            return;
        };
        if entry
            .ended_at()
            .is_some_and(|at| at.after(self.limits.retention) <= now)
        {
            self.forget(id, now);
            return;
        }
        let before = entry.state();
        entry.look(now, self.checks);
        if entry.state() == before {
            self.reconsider(id, now);
        } else {
            self.follow_up(id, before, true, now);
        }
    }

    fn follow_up(&mut self, id: &Arc<str>, before: WorkerState, had_report: bool, now: Moment) {
        let entry = self.entries.get_mut(id).expect("the caller has it");
        self.urgent |= entry.state() != before;
        if entry.state() == WorkerState::Lost && entry.is_only_noted() {
            // The log has forgotten it: nothing says that it ended without a report.
            self.forget(id, now);
            return;
        }
        if !entry.changed {
            entry.changed = true;
            self.changes.workers.push(Arc::clone(id));
        }
        let reported = !had_report && entry.report().is_some();
        self.reconsider(id, now);
        self.consider_note(id, now);
        if reported {
            self.changes.drains.push(Arc::clone(id));
            self.shorten_old_report();
        }
    }

    /// Brings the indexes up to date with an entry.
    pub(super) fn reconsider(&mut self, id: &Arc<str>, now: Moment) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let ended = entry.ended_at();
        let expiry = ended.map(|at| at.after(self.limits.retention));
        let due = [entry.next_look(now, self.checks), expiry]
            .into_iter()
            .flatten()
            .min();
        let unproven =
            (ended.is_none() && !entry.is_proven()).then(|| entry.indexed.unproven.unwrap_or(now));
        let drain = entry.report().map(|report| report.at);
        if entry.indexed.drain != drain {
            self.week.changed();
        }
        let indexed = &mut entry.indexed;
        reindex(&mut self.timers, id, &mut indexed.timer, due);
        reindex(&mut self.ended, id, &mut indexed.ended, ended);
        reindex(&mut self.unproven, id, &mut indexed.unproven, unproven);
        reindex(&mut self.drains, id, &mut indexed.drain, drain);
        let shared = entry.node_bytes.saturating_sub(super::NODE_BYTES_SURE);
        let was = std::mem::replace(&mut entry.indexed.node_bytes, shared);
        self.shared_bytes = self.shared_bytes + shared - was;
        let asked = entry.is_asked();
        let was = std::mem::replace(&mut entry.indexed.asked, asked);
        self.asked = self.asked + usize::from(asked) - usize::from(was);
        if entry.wants_asking(now) {
            self.asks.insert(Arc::clone(id));
        } else {
            self.asks.remove(id);
        }
    }

    /// A worker that has answered comes before those that never did.
    pub(super) fn make_room_for_answer(&mut self, id: &Arc<str>, now: Moment) {
        if !self.entries.contains_key(id) {
            self.free_places(now, true);
        }
    }

    /// Forgets those that ended first; whether there is room. While the log is being read, those that came first make
    /// room, too: nobody can be asked then, and whoever lives answers later.
    fn make_room(&mut self, now: Moment) -> bool {
        let reads_log = self.asking_from.is_none();
        self.free_places(now, reads_log)
    }

    fn free_places(&mut self, now: Moment, with_unproven: bool) -> bool {
        while self.entries.len() >= self.limits.workers.max(1) {
            let unproven = || self.unproven.first().filter(|_| with_unproven);
            let least = self.ended.first().or_else(unproven);
            let Some(id) = least.map(|(_, id)| Arc::clone(id)) else {
                return false;
            };
            self.dropped += 1;
            self.forget(&id, now);
        }
        true
    }

    fn forget(&mut self, id: &Arc<str>, now: Moment) {
        let Some(mut entry) = self.entries.remove(id) else {
            return;
        };
        if let Some(report) = entry.report() {
            self.forgotten.drained(report, now);
            self.week.changed();
        } else if entry.state() == WorkerState::Lost && !entry.is_only_noted() {
            self.forgotten.lost(entry.since(), now);
            self.week.changed();
        }
        let indexed = &mut entry.indexed;
        reindex(&mut self.timers, id, &mut indexed.timer, None);
        reindex(&mut self.ended, id, &mut indexed.ended, None);
        reindex(&mut self.unproven, id, &mut indexed.unproven, None);
        reindex(&mut self.drains, id, &mut indexed.drain, None);
        reindex(&mut self.notes, id, &mut indexed.note, None);
        self.shared_bytes -= indexed.node_bytes;
        self.asked -= usize::from(indexed.asked);
        self.asks.remove(id);
        if entry.changed {
            self.changes.workers.retain(|other| other != id);
            self.changes.drains.retain(|other| other != id);
        }
        self.changes.gone.push(Arc::clone(id));
        self.urgent = true;
    }

    /// Ids of interrupted messages are kept of the newest reports only.
    fn shorten_old_report(&mut self) {
        let old = self.drains.iter().rev().nth(week::DETAILED_REPORTS);
        if let Some(id) = old.map(|(_, id)| Arc::clone(id))
            && let Some(entry) = self.entries.get_mut(&id)
        {
            entry.shorten_report();
        }
    }
}

/// Moves an entry in an index from where it `was` to where it is `now`.
fn reindex(
    index: &mut BTreeSet<(Moment, Arc<str>)>,
    id: &Arc<str>,
    was: &mut Option<Moment>,
    now: Option<Moment>,
) {
    let before = std::mem::replace(was, now);
    if before == now {
        return;
    }
    if let Some(at) = before {
        index.remove(&(at, Arc::clone(id)));
    }
    if let Some(at) = now {
        index.insert((at, Arc::clone(id)));
    }
}

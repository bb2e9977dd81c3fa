//! The consequences of a change of one worker: the indexes, the list of changes, and room for others.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::api::WorkerState;
use super::super::clock::Moment;
use super::entry::Entry;
use super::text::Texts;
use super::{Fleet, week};

impl Fleet {
    /// Changes a worker, which is made if it is not known, and follows up on the change. A worker that is new is
    /// refused if all places are taken by living workers that have answered.
    pub(super) fn change(
        &mut self,
        id: &Arc<str>,
        name: &Arc<str>,
        now: Moment,
        act: impl FnOnce(&mut Entry, &mut Texts),
    ) {
        if !self.entries.contains_key(id) {
            if !self.make_room(now) {
                self.dropped += 1;
                return;
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
        let nodes = entry.nodes.len();
        let was = std::mem::replace(&mut entry.indexed.nodes, nodes);
        self.nodes = self.nodes + nodes - was;
        let asked = entry.is_asked();
        let was = std::mem::replace(&mut entry.indexed.asked, asked);
        self.asked = self.asked + usize::from(asked) - usize::from(was);
        if entry.wants_asking(now) {
            self.asks.insert(Arc::clone(id));
        } else {
            self.asks.remove(id);
        }
    }

    /// Forgets those that ended first, or else those that came first and never answered; whether there is room.
    fn make_room(&mut self, now: Moment) -> bool {
        while self.entries.len() >= self.limits.workers.max(1) {
            let least = self.ended.first().or_else(|| self.unproven.first());
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
        } else if entry.state() == WorkerState::Lost {
            self.forgotten.lost(entry.since(), now);
            self.week.changed();
        }
        let indexed = &mut entry.indexed;
        reindex(&mut self.timers, id, &mut indexed.timer, None);
        reindex(&mut self.ended, id, &mut indexed.ended, None);
        reindex(&mut self.unproven, id, &mut indexed.unproven, None);
        reindex(&mut self.drains, id, &mut indexed.drain, None);
        reindex(&mut self.notes, id, &mut indexed.note, None);
        self.nodes -= indexed.nodes;
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

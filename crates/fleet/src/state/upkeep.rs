//! What follows from a change of one worker: the indexes, the list of changes, and room for others.

use std::sync::Arc;

use super::super::api::WorkerState;
use super::super::clock::Moment;
use super::entry::Entry;
use super::text::Texts;
use super::{Fleet, week};

impl Fleet {
    /// Does something to a worker, which is made where it is not known, and follows up on what that changed.
    pub(super) fn with(
        &mut self,
        id: &Arc<str>,
        name: &Arc<str>,
        now: Moment,
        act: impl FnOnce(&mut Entry, &mut Texts),
    ) {
        if !self.entries.contains_key(id) {
            self.make_room();
            let entry = Entry::new(Arc::clone(name), now);
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
            self.forget(id);
            return;
        }
        let before = entry.state();
        entry.look(now);
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
        if !had_report && let Some(report) = entry.report() {
            let at = report.at;
            self.drains.insert((at, Arc::clone(id)));
            self.changes.drains.push(Arc::clone(id));
            self.week.changed();
            self.shorten_old_report();
        }
        self.reconsider(id, now);
    }

    /// Brings the indexes up to date with an entry.
    pub(super) fn reconsider(&mut self, id: &Arc<str>, now: Moment) {
        let Some(entry) = self.entries.get_mut(id) else {
            return;
        };
        let ended = entry.ended_at();
        let expiry = ended.map(|at| at.after(self.limits.retention));
        let due = [entry.next_look(now), expiry].into_iter().flatten().min();
        let was = std::mem::replace(&mut entry.indexed.timer, due);
        if was != due {
            if let Some(at) = was {
                self.timers.remove(&(at, Arc::clone(id)));
            }
            if let Some(at) = due {
                self.timers.insert((at, Arc::clone(id)));
            }
        }
        let was = std::mem::replace(&mut entry.indexed.ended, ended);
        if was != ended {
            if let Some(at) = was {
                self.ended.remove(&(at, Arc::clone(id)));
            }
            if let Some(at) = ended {
                self.ended.insert((at, Arc::clone(id)));
            }
        }
        let asked = entry.is_asked();
        let was = std::mem::replace(&mut entry.indexed.asked, asked);
        self.asked = self.asked + usize::from(asked) - usize::from(was);
        if entry.wants_asking(now) {
            self.asks.insert(Arc::clone(id));
        } else {
            self.asks.remove(id);
        }
    }

    fn make_room(&mut self) {
        while self.entries.len() >= self.limits.workers.max(1) {
            let oldest = self.ended.first().map(|(_, id)| Arc::clone(id));
            let quietest = || {
                let entries = self.entries.iter();
                let quietest = entries.min_by_key(|(_, entry)| entry.last_heard());
                quietest.map(|(id, _)| Arc::clone(id))
            };
            let Some(id) = oldest.or_else(quietest) else {
                return;
            };
            self.dropped += 1;
            self.forget(&id);
        }
    }

    fn forget(&mut self, id: &Arc<str>) {
        let Some(entry) = self.entries.remove(id) else {
            return;
        };
        if let Some(at) = entry.indexed.timer {
            self.timers.remove(&(at, Arc::clone(id)));
        }
        if let Some(at) = entry.indexed.ended {
            self.ended.remove(&(at, Arc::clone(id)));
        }
        if let Some(report) = entry.report() {
            self.drains.remove(&(report.at, Arc::clone(id)));
            self.week.changed();
        }
        self.asked -= usize::from(entry.indexed.asked);
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

//! Notes of fleet programs: what they change in the state of a worker, and which changes are worth one.

use std::sync::Arc;
use std::time::Duration;

use super::{Entry, SKEW_IGNORED_MS};
use crate::api::{HistoryKind, WorkerState};
use crate::clock::Moment;
use crate::state::note::Note;

/// Two notes of one loss by two programs are no further apart than this; the first in the log counts.
const SAME_LOSS: Duration = Duration::from_secs(60);
/// A clock that was noted is noted again if it is this much off from then.
const CLOCK_MOVED_MS: i64 = 1_000;

/// The content of fleet programs' notes about a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in super::super) struct Noted {
    /// The worker's last message before a loss, and when it was lost.
    lost: Option<(u64, Moment)>,
    /// The lag of its clock.
    behind_ms: Option<i64>,
}

impl Noted {
    /// When the worker was lost, if it has said nothing since.
    pub(super) fn lost_at(self, newest_seq: u64) -> Option<Moment> {
        self.lost
            .filter(|(seq, _)| *seq >= newest_seq)
            .map(|(_, at)| at)
    }

    pub(super) fn behind_ms(self) -> Option<i64> {
        self.behind_ms
    }
}

impl Entry {
    /// Takes in a note from the log.
    pub(in super::super) fn noted(&mut self, note: &Note, now: Moment) {
        if let Some(behind) = note.behind_ms {
            self.noted.behind_ms = Some(behind);
            self.place_report();
        }
        if let Some(at) = note.lost_at
            && self.noted.lost.is_none_or(|(seq, before)| {
                note.seq > seq || (note.seq == seq && at > before.after(SAME_LOSS))
            })
        {
            self.noted.lost = Some((note.seq, at));
        }
        self.follow_log(now);
        if self.state() == WorkerState::Lost
            && let Some(at) = self.noted.lost_at(self.heard.seq)
        {
            self.verdict_since = at;
            self.history.move_last(HistoryKind::Lost, at);
        }
    }

    /// What was read in the log says whether the worker was lost, until more is known of it.
    pub(super) fn follow_log(&mut self, now: Moment) {
        if !self.has_stopped() && !self.heard.live {
            let lost = self.noted.lost_at(self.heard.seq).is_some();
            self.judge(now, |contact| contact.told_by_log(lost));
        }
    }

    /// The note that is worth writing about this worker; nothing if the log says it already.
    pub(in super::super) fn note(&self, id: &Arc<str>) -> Option<Note> {
        let mut note = Note::new(Arc::clone(id), self.name(), self.heard.seq);
        if self.state() == WorkerState::Lost && self.noted.lost_at(self.heard.seq).is_none() {
            note.lost_at = Some(self.verdict_since);
        }
        // A program that has heard the worker itself knows best how its clock is.
        let first = || {
            self.behind_by_log_ms
                .filter(|_| self.noted.behind_ms.is_none())
        };
        if let Some(behind) = self.behind_ms.or_else(first) {
            let (is, was) = (ignoring_small(behind), self.noted.behind_ms.unwrap_or(0));
            let moved = is.saturating_sub(was).saturating_abs() > CLOCK_MOVED_MS;
            note.behind_ms = moved.then_some(is);
        }
        (note.lost_at.is_some() || note.behind_ms.is_some()).then_some(note)
    }

    /// Puts the drain at its time, now that more is known of the worker's clock.
    fn place_report(&mut self) {
        let behind = self.behind_ms();
        if let (Some(report), Some(at)) = (&mut self.report, self.report_at) {
            report.at = at.shown(behind);
        }
    }
}

/// Messages take their time: a clock that is a little off is taken for right.
pub(super) fn ignoring_small(behind_ms: i64) -> i64 {
    if behind_ms.saturating_abs() < SKEW_IGNORED_MS {
        0
    } else {
        behind_ms
    }
}

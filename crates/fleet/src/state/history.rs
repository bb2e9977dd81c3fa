//! The history of a worker in the order of `seq`, whatever order its messages came in.

use std::sync::Arc;
use std::time::Duration;

use super::super::api::HistoryKind;
use super::super::clock::Moment;
use tidegate::lifecycle::Phase;

/// Records kept of one worker.
pub(super) const LIMIT: usize = 40;
/// Bytes of the reasons kept of one worker.
const REASONS_LIMIT: usize = 4 << 10;

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The message's `seq`; of what was found out here, that of the last message before.
    pub seq: u64,
    pub kind: HistoryKind,
    /// When, by the sender's clock for what it said.
    pub at: Stamp,
    pub phase: Phase,
    pub reason: Option<Arc<str>>,
}

/// A message that seems to have been sent before others that came before it is not moved for less than this.
const DISORDER_IGNORED: Duration = Duration::from_secs(60);

/// The time of a message: by the sender's clock, and by ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub said: Moment,
    pub received: Moment,
    /// When messages before it in the log were sent; nothing if that is not known.
    pub after: Option<Moment>,
}

impl Stamp {
    /// Something found out here.
    pub(super) fn here(now: Moment) -> Self {
        Self {
            said: now,
            received: now,
            after: None,
        }
    }

    /// The sender's time, corrected by how far its clock is behind ours. It is never after receipt, and not long before
    /// the messages that came before it.
    pub(super) fn shown(self, behind_ms: i64) -> Moment {
        let said = self.said.shifted(behind_ms);
        let after = self
            .after
            .filter(|after| after.since(said) > DISORDER_IGNORED);
        after.unwrap_or(said).min(self.received)
    }
}

impl Record {
    fn is_said(&self) -> bool {
        matches!(self.kind, HistoryKind::State | HistoryKind::Drain)
    }

    fn repeats(&self, before: &Self) -> bool {
        self.is_said()
            && self.kind == before.kind
            && self.phase == before.phase
            && self.reason == before.reason
    }
}

/// The records.
#[derive(Debug, Clone, Default)]
pub(super) struct History(Vec<Record>);

impl History {
    /// Puts a record in its place. What a worker said with this `seq` already is not put there twice.
    pub(super) fn put(&mut self, record: Record) {
        let place = if record.is_said() {
            let place = self.0.partition_point(|other| other.seq < record.seq);
            let twice = self.0[place..]
                .iter()
                .take_while(|other| other.seq == record.seq)
                .any(Record::is_said);
            if twice {
                return;
            }
            place
        } else {
            self.0.partition_point(|other| other.seq <= record.seq)
        };
        self.0.insert(place, record);
        if self.0.len() > LIMIT {
            // Of states that say the same the later ones, else the oldest record.
            let repeated =
                (1..self.0.len()).find(|&place| self.0[place].repeats(&self.0[place - 1]));
            self.0.remove(repeated.unwrap_or(0));
        }
        self.shorten_reasons();
    }

    /// The records, oldest first, without states that only repeat the one before.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Record> {
        let before = std::iter::once(None).chain(self.0.iter().map(Some));
        self.0
            .iter()
            .zip(before)
            .filter(|(record, before)| before.is_none_or(|before| !record.repeats(before)))
            .map(|(record, _)| record)
    }

    /// The first state of the last run of states with the phase of the last.
    pub(super) fn phase_since(&self) -> Option<&Record> {
        let mut states = self
            .0
            .iter()
            .rev()
            .filter(|record| record.kind == HistoryKind::State);
        let last = states.next()?;
        let run = states.take_while(|record| record.phase == last.phase);
        Some(run.last().unwrap_or(last))
    }

    /// Moves the last record to `at`, if it is of this kind.
    pub(super) fn move_last(&mut self, kind: HistoryKind, at: Moment) {
        if let Some(last) = self.0.last_mut().filter(|last| last.kind == kind) {
            last.at = Stamp::here(at);
        }
    }

    /// Forgets the oldest reasons, until those left have at most [`REASONS_LIMIT`] bytes.
    fn shorten_reasons(&mut self) {
        let mut bytes = 0;
        for record in self.0.iter_mut().rev() {
            bytes += record.reason.as_ref().map_or(0, |reason| reason.len());
            if bytes > REASONS_LIMIT {
                record.reason = None;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn said(&self) -> Vec<Record> {
        let said = self.0.iter().filter(|record| record.is_said());
        said.cloned().collect()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

//! Notes: what a fleet program found out and the log would not tell another one. When a worker was lost, and how far
//! its clock is off. The program that finds it out first writes a note into the log, once; each program reads it.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Fleet;
use super::message::{BODY_LIMIT, ID_LIMIT};
use super::text::NAME_LIMIT;
use crate::clock::Moment;

/// The version of a note.
const VERSION: u32 = 1;
/// A program waits this long at most for another one to write the same note.
const PATIENCE: Duration = Duration::from_secs(2);
/// When a note that could not be written is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A note of one fleet program to the others, and to itself after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Its version: 1.
    v: u32,
    /// The worker's id.
    pub worker: Arc<str>,
    /// The worker's name.
    name: Arc<str>,
    /// The worker's last message before.
    pub(super) seq: u64,
    /// When it was lost, by the program's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) lost_at: Option<Moment>,
    /// How far its clock is behind the program's, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) behind_ms: Option<i64>,
}

/// Why a message in the log is no note.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NoteError {
    /// Not the JSON of a note.
    #[error("it is not a note of a fleet program: {cause}")]
    Json {
        /// What the parser says.
        cause: String,
    },
    /// A note that cannot be about a worker.
    #[error("it is a note of version {version} about a worker whose id has {bytes} bytes")]
    Content {
        /// Its version.
        version: u32,
        /// Bytes of the worker's id.
        bytes: usize,
    },
}

impl Note {
    pub(super) fn new(worker: Arc<str>, name: Arc<str>, seq: u64) -> Self {
        Self {
            v: VERSION,
            worker,
            name,
            seq,
            lost_at: None,
            behind_ms: None,
        }
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError`] if it is none.
    pub fn parse(body: &[u8]) -> Result<Self, NoteError> {
        let body = &body[..body.len().min(BODY_LIMIT)];
        let note: Self = serde_json::from_slice(body).map_err(|error| NoteError::Json {
            cause: error.to_string(),
        })?;
        let bytes = note.worker.len();
        if note.v != VERSION || !(1..=ID_LIMIT).contains(&bytes) {
            let version = note.v;
            return Err(NoteError::Content { version, bytes });
        }
        Ok(note)
    }

    /// The note as it is written.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a note is plain data")
    }
}

impl Fleet {
    /// Takes in a note that was read from the log.
    pub fn noted(&mut self, note: &Note, now: Moment) {
        let name = self.texts.keep(&note.name, NAME_LIMIT);
        self.change(&note.worker, &name, now, |entry, _| entry.noted(note, now));
    }

    /// Notes to write now, at most `limit`.
    pub fn due_notes(&mut self, now: Moment, limit: usize) -> Vec<Note> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some((at, _)) = self.notes.first()
            && *at <= now
        {
            let (_, id) = self.notes.pop_first().expect("it was just there");
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.indexed.note = None;
                due.extend(entry.note(&id));
            }
        }
        due
    }

    /// A note that [`due_notes`](Self::due_notes) gave out could not be written.
    pub fn unwritten(&mut self, note: &Note, now: Moment) {
        self.plan_note(&note.worker, now.after(AGAIN));
    }

    /// Plans a note about a worker, if there is something to note and none is planned.
    pub(super) fn consider_note(&mut self, id: &Arc<str>, now: Moment) {
        if self
            .entries
            .get(id)
            .is_some_and(|entry| entry.note(id).is_some())
        {
            let wait = PATIENCE.mul_f64(rand::random());
            self.plan_note(id, now.after(wait));
        }
    }

    fn plan_note(&mut self, id: &Arc<str>, at: Moment) {
        if let Some(entry) = self.entries.get_mut(id)
            && entry.indexed.note.is_none()
        {
            entry.indexed.note = Some(at);
            self.notes.insert((at, Arc::clone(id)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{HistoryKind, WorkerState};
    use crate::state::messages::{at, drained, running, sent_at};
    use crate::state::{Limits, Message, Origin};

    /// A program that has listened since the start.
    fn program() -> Fleet {
        let mut fleet = Fleet::new(Limits::default(), at(0));
        fleet.connected(at(0));
        fleet
    }

    /// A program that starts at `ms` and has read this from the log.
    fn restarted(log: &[Result<Message, Note>], ms: i64) -> Fleet {
        let mut fleet = Fleet::new(Limits::default(), at(ms));
        for entry in log {
            match entry {
                Ok(message) => fleet.apply(message.clone(), Origin::Log, at(ms)),
                Err(note) => fleet.noted(note, at(ms)),
            }
        }
        fleet.connected(at(ms));
        fleet
    }

    /// The worker is asked twice, and both questions come back.
    fn lose(fleet: &mut Fleet, ms: i64) {
        for asked in [ms, ms + 600] {
            fleet.due(at(asked), 9);
            fleet.queue_gone("w-1", at(asked));
        }
    }

    fn notes(fleet: &mut Fleet, ms: i64) -> Vec<Note> {
        fleet.due_notes(at(ms), 9)
    }

    fn lost(fleet: &Fleet) -> (WorkerState, Moment) {
        let detail = fleet.detail("w-1", at(0)).expect("it is known");
        let last = detail.history.last().expect("it has a history");
        if detail.worker.state == WorkerState::Lost {
            assert_eq!(
                (last.kind, last.at),
                (HistoryKind::Lost, detail.worker.since)
            );
        }
        (detail.worker.state, detail.worker.since)
    }

    #[test]
    fn a_loss_keeps_its_time_when_the_program_starts_anew() {
        let mut first = program();
        first.apply(running("w-1", 1), Origin::Live, at(1_000));
        lose(&mut first, 500_000);
        assert_eq!(lost(&first), (WorkerState::Lost, at(500_600)));
        let written = notes(&mut first, 503_000);
        assert_eq!(written.len(), 1);
        assert!(notes(&mut first, 900_000).is_empty(), "it is written once");
        let parsed = Note::parse(&written[0].to_json()).expect("it is a note");
        assert_eq!(parsed, written[0]);

        let log = [Ok(running("w-1", 1)), Err(parsed)];
        let mut second = restarted(&log, 9_000_000);
        lose(&mut second, 9_001_000);
        assert_eq!(lost(&second), (WorkerState::Lost, at(500_600)));
        assert!(notes(&mut second, 9_900_000).is_empty(), "the log has it");
    }

    #[test]
    fn two_programs_that_see_a_loss_agree_on_the_first_note_in_the_log() {
        let mut programs = [program(), program()];
        let mut log = vec![Ok(running("w-1", 1))];
        for (fleet, ms) in programs.iter_mut().zip([500_000, 502_000]) {
            fleet.apply(running("w-1", 1), Origin::Live, at(1_000));
            lose(fleet, ms);
            log.extend(notes(fleet, ms + 3_000).into_iter().map(Err));
        }
        assert_eq!(log.len(), 3, "both wrote before they read");
        for fleet in &mut programs {
            for note in log.iter().filter_map(|entry| entry.as_ref().err()) {
                fleet.noted(note, at(510_000));
            }
            assert_eq!(lost(fleet), (WorkerState::Lost, at(500_600)));
        }
        let mut third = restarted(&log, 9_000_000);
        lose(&mut third, 9_001_000);
        assert_eq!(lost(&third), (WorkerState::Lost, at(500_600)));
    }

    #[test]
    fn a_note_that_another_program_wrote_is_not_written_again() {
        let mut programs = [program(), program()];
        for fleet in &mut programs {
            fleet.apply(running("w-1", 1), Origin::Live, at(1_000));
            lose(fleet, 500_000);
        }
        let note = notes(&mut programs[0], 503_000).remove(0);
        programs[1].noted(&note, at(500_700));
        assert!(notes(&mut programs[1], 503_000).is_empty());
        programs[0].unwritten(&note, at(503_000));
        assert_eq!(
            notes(&mut programs[0], 508_000),
            [note],
            "it is tried again"
        );
    }

    #[test]
    fn a_worker_that_is_heard_after_its_loss_is_not_lost() {
        let mut fleet = program();
        fleet.apply(running("w-1", 1), Origin::Live, at(1_000));
        lose(&mut fleet, 500_000);
        let note = notes(&mut fleet, 503_000).remove(0);
        let mut restarted = restarted(
            &[Ok(running("w-1", 1)), Err(note), Ok(running("w-1", 2))],
            9_000_000,
        );
        restarted.answered("w-1", tidegate::lifecycle::Phase::Running, at(9_001_000));
        assert_eq!(lost(&restarted).0, WorkerState::Running);
        lose(&mut restarted, 9_900_000);
        assert_eq!(lost(&restarted), (WorkerState::Lost, at(9_900_600)));
        assert_eq!(
            notes(&mut restarted, 9_903_000).len(),
            1,
            "this loss is another"
        );
    }

    #[test]
    fn a_drain_of_a_worker_with_a_wrong_clock_is_placed_by_receipt_after_a_restart_too() {
        for skew in [-600_000, 600_000] {
            let said = [
                sent_at(running("w-1", 1), 1_000 + skew),
                sent_at(drained("w-1", 2), 60_000 + skew),
            ];
            let mut first = program();
            first.apply(said[0].clone(), Origin::Live, at(1_000));
            let clock = notes(&mut first, 4_000).remove(0);
            first.apply(said[1].clone(), Origin::Live, at(60_000));
            let placed = |fleet: &Fleet| fleet.drains(9, None).drains[0].drain.at;
            assert_eq!(placed(&first), at(60_000));
            // The note may stand anywhere.
            let orders: [Vec<Result<Message, Note>>; 2] = [
                vec![Ok(said[0].clone()), Err(clock.clone()), Ok(said[1].clone())],
                vec![Ok(said[0].clone()), Ok(said[1].clone()), Err(clock)],
            ];
            for log in orders {
                let mut second = restarted(&log, 9_000_000);
                assert_eq!(placed(&second), at(60_000), "{skew}");
                let week = second.overview(at(9_000_000)).week;
                assert_eq!(week.drains, 1);
                assert!(notes(&mut second, 9_900_000).is_empty());
            }
        }
    }

    #[test]
    fn what_the_log_says_is_lost_is_lost_before_it_is_asked() {
        let mut first = program();
        first.apply(running("w-1", 1), Origin::Live, at(1_000));
        lose(&mut first, 500_000);
        let note = notes(&mut first, 503_000).remove(0);
        let log = [Ok(running("w-1", 1)), Err(note.clone())];
        let mut second = restarted(&log, 9_000_000);
        assert_eq!(lost(&second), (WorkerState::Lost, at(500_600)));
        assert_eq!(second.overview(at(9_000_000)).week.lost, 1);
        assert!(
            !second.due(at(9_001_000), 9).is_empty(),
            "it is asked all the same"
        );
        let log = [Ok(running("w-1", 1)), Err(note), Ok(running("w-1", 2))];
        let third = restarted(&log, 9_000_000);
        assert_eq!(lost(&third).0, WorkerState::Running, "it was heard again");
    }

    #[test]
    fn a_note_about_a_worker_that_the_log_has_forgotten_tells_of_no_loss() {
        let mut first = program();
        first.apply(sent_at(running("w-1", 1), 900_000), Origin::Live, at(1_000));
        let clock = notes(&mut first, 4_000).remove(0);
        let mut second = restarted(&[Err(clock)], 9_000_000);
        for asked in [9_001_000, 9_001_600] {
            second.due(at(asked), 9);
            second.queue_gone("w-1", at(asked));
        }
        assert!(second.is_empty());
        assert_eq!(second.overview(at(9_002_000)).week.lost, 0);
    }

    #[test]
    fn a_clock_that_is_ahead_shows_in_the_log_and_its_drain_does_not_move_again() {
        let log = [
            Ok(sent_at(running("w-1", 1), 700_000)),
            Ok(sent_at(drained("w-1", 2), 760_000)),
        ];
        let placed = |fleet: &Fleet| fleet.drains(9, None).drains[0].drain.at;
        let mut first = restarted(&log, 200_000);
        assert_eq!(placed(&first), at(200_000));
        let clock = notes(&mut first, 203_000).remove(0);
        let [state, drain] = log;
        let mut second = restarted(&[state, drain, Err(clock)], 400_000);
        assert_eq!(placed(&second), at(200_000));
        assert!(notes(&mut second, 900_000).is_empty());
    }
}

//! Reads and writes the notes of fleet programs in the log.

use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tracing::debug;

use super::subscriptions::LOG;
use super::{Listener, Role};
use crate::speaker::{CommandError, NOTE_TYPE, Speaker};
use crate::state::Note;
use tidegate::delivery::Delivery;

/// Notes being written at a time.
const NOTES_LIMIT: usize = 50;

/// A note, and whether it is in the log.
pub(super) type Written = (Note, Result<(), CommandError>);
/// Notes being written.
pub(super) type Writing = FuturesUnordered<BoxFuture<'static, Written>>;

impl Listener {
    /// Takes what a fleet program wrote into the log: a note, or the mark of where it began to listen.
    pub(super) fn take_own(&mut self, message: &Delivery) {
        if message.properties.kind.as_deref() != Some(NOTE_TYPE) {
            let mark = message.properties.correlation_id.as_deref();
            self.progress.meets(mark);
            return;
        }
        match Note::parse(&message.body) {
            Ok(note) => {
                let now = self.shared.now();
                self.shared.fleet().noted(&note, now);
            }
            Err(error) => self.complain(&error.to_string()),
        }
    }

    /// Writes into the log what it lacks.
    pub(super) fn write_notes(&self, writing: &mut Writing) {
        if !self.connected || self.role != Role::Program {
            return;
        }
        let room = NOTES_LIMIT.saturating_sub(writing.len());
        let now = self.shared.now();
        for note in self.shared.fleet().due_notes(now, room) {
            writing.push(write(Arc::clone(&self.speaker), note).boxed());
        }
    }

    /// A note was written, or could not be.
    pub(super) fn noted(&self, note: &Note, written: Result<(), CommandError>) {
        if let Err(error) = written {
            debug!(%error, "a note could not be written into the log; trying again");
            let now = self.shared.now();
            self.shared.fleet().unwritten(note, now);
        }
    }
}

async fn write(speaker: Arc<Speaker>, note: Note) -> Written {
    let written = speaker.note(LOG, &note).await;
    (note, written)
}

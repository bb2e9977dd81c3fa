//! How far the log is read. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Where the broker's count was too high, the log counts as read after so long without a message.
const QUIET: Duration = Duration::from_secs(3);

/// How far the log is read.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The offset after the last message read.
    next: Option<u64>,
    /// Messages read so far, over all connections.
    done: u64,
    /// Messages of those that were there when the connection began, still to be read.
    to_read: Option<u64>,
    last: Option<Instant>,
    ever: bool,
}

impl Progress {
    /// Where to go on; nothing for the beginning.
    pub(super) fn next_offset(&self) -> Option<u64> {
        self.next
    }

    /// How many of `messages`, which are in the log, are not read yet. What the log has forgotten meanwhile makes it
    /// fewer than there are; those are taken for new.
    pub(super) fn left_of(&self, messages: u64) -> u64 {
        messages.saturating_sub(self.done)
    }

    /// A connection begins, with about so many messages not read yet.
    pub(super) fn begin(&mut self, to_read: u64, now: Instant) {
        self.to_read = Some(to_read);
        self.last = Some(now);
    }

    /// Messages came.
    pub(super) fn read(&mut self, count: usize, offset: Option<u64>, now: Instant) {
        if let Some(offset) = offset {
            self.next = Some(offset + 1);
        }
        self.done = self.done.saturating_add(count as u64);
        self.to_read = self.to_read.map(|left| left.saturating_sub(count as u64));
        self.last = Some(now);
    }

    /// Whether what there was when the connection began is read.
    pub(super) fn is_caught_up(&self) -> bool {
        self.to_read == Some(0)
    }

    /// Time has passed; whether the log has been read to its end for the first time.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        let quiet = self.last.is_some_and(|last| now - last >= QUIET);
        if quiet && self.to_read.is_some() {
            self.to_read = Some(0);
        }
        let first = self.is_caught_up() && !self.ever;
        self.ever |= first;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_read_when_as_much_has_come_as_there_was() {
        let start = Instant::now();
        let mut progress = Progress::default();
        assert!(!progress.look(start));
        progress.begin(10, start);
        progress.read(6, Some(105), start);
        assert!(!progress.look(start));
        progress.read(4, Some(109), start);
        assert!(progress.look(start));
        assert!(!progress.look(start), "once");
        assert_eq!(progress.next_offset(), Some(110));
        progress.begin(1, start);
        assert!(!progress.is_caught_up(), "after a reconnect there is more");
    }

    #[test]
    fn a_log_that_is_shorter_than_was_said_is_read_after_a_while() {
        let start = Instant::now();
        let mut progress = Progress::default();
        progress.begin(10, start);
        progress.read(6, Some(5), start);
        assert!(!progress.look(start + QUIET / 2));
        assert!(progress.look(start + QUIET));
    }
}

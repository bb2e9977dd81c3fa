//! The progress of reading the log. Pure.
//!
//! A program that begins to read puts a mark into the log. What it reads before its mark was said before it listened;
//! what comes after is new. The broker's own count of messages lags some seconds behind, and says less.

use std::time::Duration;

use tokio::time::Instant;

/// Where no mark comes (it could not be said, or the log has forgotten it), the log counts as read after so long
/// without a message.
const QUIET: Duration = Duration::from_secs(5);

/// The progress of reading the log.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The offset after the last message read.
    next: Option<u64>,
    /// This connection's mark, and whether it is in the log.
    mark: String,
    marked: bool,
    caught_up: bool,
    /// Whether it ever was.
    ever: bool,
    last: Option<Instant>,
}

impl Progress {
    /// The place to go on from; nothing for the beginning.
    pub(super) fn next_offset(&self) -> Option<u64> {
        self.next
    }

    /// A connection begins, whose mark this is.
    pub(super) fn begin(&mut self, mark: String, now: Instant) {
        self.mark = mark;
        self.marked = false;
        self.caught_up = false;
        self.last = Some(now);
    }

    /// There is no log: nothing is to be read.
    pub(super) fn nothing_to_read(&mut self) {
        self.caught_up = true;
    }

    /// The mark that is to be said; nothing if it is in the log, or not needed any more.
    pub(super) fn mark_to_say(&self) -> Option<&str> {
        (!self.marked && !self.caught_up).then_some(self.mark.as_str())
    }

    /// The mark is in the log.
    pub(super) fn marked(&mut self) {
        self.marked = true;
    }

    /// Whether this is the mark: the log is read.
    pub(super) fn meets(&mut self, mark: Option<&str>) -> bool {
        let met = mark == Some(&self.mark);
        self.caught_up |= met;
        met
    }

    /// Messages came, the last of which has this offset.
    pub(super) fn read(&mut self, offset: Option<u64>, now: Instant) {
        if let Some(offset) = offset {
            self.next = Some(offset + 1);
        }
        self.last = Some(now);
    }

    /// Whether what there was when the connection began is read.
    pub(super) fn is_caught_up(&self) -> bool {
        self.caught_up
    }

    /// Time has passed; whether the log has been read to its end for the first time.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        self.caught_up |= self.last.is_some_and(|last| now - last >= QUIET);
        let first = self.caught_up && !self.ever;
        self.ever |= first;
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_read_when_the_mark_comes() {
        let start = Instant::now();
        let mut progress = Progress::default();
        assert!(!progress.look(start));
        progress.begin("mine".into(), start);
        assert_eq!(progress.mark_to_say(), Some("mine"));
        progress.marked();
        assert_eq!(progress.mark_to_say(), None);
        assert!(!progress.meets(Some("another's")));
        assert!(!progress.meets(None));
        progress.read(Some(105), start);
        assert!(!progress.look(start));
        assert!(progress.meets(Some("mine")));
        progress.read(Some(106), start);
        assert!(progress.look(start));
        assert!(!progress.look(start), "once");
        assert_eq!(progress.next_offset(), Some(107));
        progress.begin("mine again".into(), start);
        assert!(!progress.is_caught_up(), "after a reconnect there is more");
    }

    #[test]
    fn without_a_mark_the_log_is_read_when_nothing_comes_any_more() {
        let start = Instant::now();
        let mut progress = Progress::default();
        progress.begin("mine".into(), start);
        progress.read(Some(5), start + QUIET / 2);
        assert!(!progress.look(start + QUIET));
        assert!(progress.look(start + QUIET * 3 / 2));
        assert_eq!(progress.mark_to_say(), None);
    }
}

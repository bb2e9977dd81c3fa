//! When the node's task writes what has been decided.

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

use super::port::{BrokerChannel as _, BrokerLink};
use super::task::{Mode, Task};
use crate::settlement::{Backlog, Wait};

impl<L: BrokerLink> Task<L> {
    /// Writes what has been decided, unless a write is under way: while it is, more decisions gather, and
    /// the next flush takes them together. One that lets the broker go on is written at once; see
    /// [`Pace`](crate::settlement::Pace). Returns until when the rest waits.
    pub(super) fn flush(&mut self) -> Option<Wait> {
        if self.gathering || !self.writes.is_empty() || self.book.decided() == 0 {
            return None;
        }
        let now = Instant::now();
        let running = self.may_start();
        let wait = running.then(|| self.pace.wait(self.backlog(), now));
        if let Some(wait) = wait.flatten() {
            return Some(wait);
        }
        // A closed channel would refuse it: then it stays unwritten, and is remembered so.
        self.look_at_channel();
        let channel = self.channel.as_mut()?;
        self.pace.wrote(now);
        self.book.next_batch(&mut self.calls);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch is far below 2^52 calls"
        )]
        self.metrics.flush.observe(self.calls.len() as f64);
        for call in self.calls.drain(..) {
            self.writes.push(channel.settle(call));
        }
        None
    }

    /// Takes note of the writes that have ended. Returns whether somebody has to know: one has failed, or their end is
    /// waited for.
    pub(super) fn writes_ended(&mut self) -> bool {
        let mut any = false;
        while let Some(Some(written)) = self.writes.next().now_or_never() {
            any = true;
            if let Err(error) = written {
                self.lose(&error);
                return true;
            }
        }
        any && self.may_close()
    }

    /// Whether the end of a write has to wake this task. A node that goes on consuming looks at it when the next thing comes
    /// up, unless more is to be written.
    pub(super) fn awaits_writes(&self) -> bool {
        !self.writes.is_empty() && (self.may_close() || self.book.decided() > 0)
    }

    /// Whether the channel is about to be closed, or may be, once all is written.
    fn may_close(&self) -> bool {
        self.mode != Mode::Running || self.retiring
    }

    fn backlog(&self) -> Backlog {
        let decided = self.book.decided();
        Backlog {
            decided,
            unsettled: decided + self.book.open_deliveries(),
            waiting: self.line.len(),
            prefetch: self.settings.prefetch.into(),
        }
    }
}

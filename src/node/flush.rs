//! When the node's task writes what has been decided.

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

use super::port::{BrokerChannel as _, BrokerLink};
use super::task::Task;
use crate::settlement::{Backlog, Wait};

impl<L: BrokerLink> Task<L> {
    /// Writes what has been decided, unless a write is under way: while it is, more decisions gather, and
    /// the next flush takes them together. One that lets the broker go on is written at once; see [`Pace`](crate::settlement::Pace). Returns
    /// until when the rest has to wait for that.
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
        // What a closed channel would refuse stays unwritten, so that it is remembered as such.
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
        any && self.settling
    }

    /// Whether the end of a write is worth a wake-up: it seldom is, as whatever comes next looks for it.
    pub(super) fn awaits_writes(&self) -> bool {
        !self.writes.is_empty() && (self.settling || self.book.decided() > 0)
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

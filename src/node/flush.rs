//! When the node's task writes what has been decided.

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

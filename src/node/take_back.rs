//! A drain whose channel was lost: its last deliveries are taken back from the broker, to settle them.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::NodeState;
use super::command::unless_interrupted;
use super::port::BrokerLink;
use super::task::Task;
use crate::lifecycle::limits::{OPENING_LIMIT, RECONNECT_LIMIT, REDELIVERY_LIMIT};
use crate::wait;

impl<L: BrokerLink> Task<L> {
    /// Whether something is left to do for messages that the broker has again: runs that go on, outcomes that
    /// are decided.
    fn is_owing(&self) -> bool {
        self.channel.is_none() && !self.single_active_consumer && self.book.owed() > 0
    }

    /// Consumes once more for each new connection while something is left to be settled, for as long as it
    /// takes to get those messages back. Whatever else comes is handed back untouched. Returns at once
    /// if there is nothing to do.
    ///
    /// A queue with a single active consumer is left alone: its next consumer has it already.
    pub(super) async fn take_back(&mut self) {
        if !self.is_owing() {
            return;
        }
        let Some(link) = self.link() else { return };
        if self.taken_back_on == Some(link.generation()) {
            return;
        }
        self.taken_back_on = Some(link.generation());
        let owed = self.book.owed();
        let opening = self.open_channel(link);
        match self.unless_interrupted(OPENING_LIMIT, opening).await {
            Some(Ok(opened)) => self.opened(Ok(opened)),
            Some(Err(error)) => {
                debug!(queue = %self.queue, %error, "the last deliveries cannot be taken back");
                return;
            }
            None => return,
        }
        self.state.send_replace(NodeState::Draining);
        self.redelivered(REDELIVERY_LIMIT).await;
        // A cancel that failed is logged; what came before it is settled all the same.
        let _ = self.cancel_consumer().await;
        self.hand_back_unstarted();
        info!(
            queue = %self.queue,
            owed,
            left = self.book.owed(),
            "the connection is back; the worker consumed again to get its last deliveries"
        );
    }

    /// The drain begins soon after the consumer was opened: waits until the broker has delivered again what a lost channel
    /// held. After the cancel it would be another worker's, and run there once more.
    pub(super) async fn redelivered_after_opening(&mut self) {
        let Some(opened) = self.opened_at else { return };
        // With caution they come one by one, each after the last was settled.
        let passed = if self.caution.is_on() {
            Duration::ZERO
        } else {
            opened.elapsed()
        };
        self.redelivered(REDELIVERY_LIMIT.saturating_sub(passed))
            .await;
    }

    /// Waits until all that is owed has been delivered again. What has not come within `limit` is another worker's.
    async fn redelivered(&mut self, limit: Duration) {
        let commands = self.commands.clone();
        let adopted = async {
            while self.is_consuming() && self.book.owed() > 0 {
                self.turn().await;
            }
        };
        unless_interrupted(commands, limit, adopted).await;
    }

    /// Nothing runs any more: waits a little for a connection if an outcome is left to be settled.
    pub(super) async fn settle_owed(&mut self) {
        let limit = self.commands.borrow().within(RECONNECT_LIMIT);
        let end = Instant::now() + limit;
        let mut session = self.session.clone();
        while self.is_owing() && Instant::now() < end {
            // What has changed before is not worth another look: the wait below would end at once, again and again.
            session.mark_unchanged();
            self.take_back().await;
            if !self.is_owing() {
                return;
            }
            let waited = timeout(
                end.saturating_duration_since(Instant::now()),
                wait::changed(&mut session),
            );
            if waited.await.is_err() {
                return;
            }
        }
    }
}

//! A drain whose channel was lost: its last deliveries are taken back from the broker, to settle them.

use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::NodeState;
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
        let limit = self.commands.borrow().within(REDELIVERY_LIMIT);
        let adopted = async {
            while self.is_consuming() && self.book.owed() > 0 {
                self.turn().await;
            }
        };
        // Messages that have not come by then are another worker's.
        let _ = timeout(limit, adopted).await;
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

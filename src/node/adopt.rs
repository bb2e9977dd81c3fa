//! Deliveries whose channel is lost, and their redeliveries.

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::port::{BrokerChannel as _, BrokerLink};
use super::task::{Mode, Task};
use crate::broker::BrokerError;
use crate::settlement::{ChannelTag, Known, Then, Work, Written};

impl<L: BrokerLink> Task<L> {
    /// The channel is gone: its deliveries are the broker's again. What runs goes on. What it comes to, and
    /// what was settled without proof that it arrived, is remembered for when the broker delivers it again.
    pub(super) fn lose(&mut self, error: &BrokerError) {
        if self.channel.take().is_none() {
            return;
        }
        self.opening = None;
        self.waiting = None;
        let unsettled = self.book.open_deliveries() + self.book.decided();
        if is_consumer_timeout(error) {
            self.metrics.settling.consumer_timeouts.inc();
        }
        warn!(
            queue = %self.queue,
            %error,
            consumer_timeout = is_consumer_timeout(error),
            unsettled,
            running = self.runs.len(),
            "the channel is lost"
        );
        self.channel_ended(Written::Unproven);
        if self.mode == Mode::Running {
            self.try_again();
        }
    }

    /// The channel has ended.
    pub(super) fn channel_ended(&mut self, written: Written) {
        self.line.empty();
        self.in_place.empty();
        self.writes.clear();
        let lost = self.book.end_channel(written, Instant::now());
        self.metrics.unconfirmed.inc_by(lost.unconfirmed);
        for number in lost.copies {
            // A copy that may have been published goes on; any other waits for its message to be delivered again.
            if let Some(copying) = self.copying.get(&number) {
                copying.abort_unless_published();
            }
        }
        if self.book.remembered() > 0 {
            let remembered = self.book.remembered();
            debug!(queue = %self.queue, remembered, "messages of lost channels are remembered");
        }
    }

    /// Takes note of a channel that was closed. If nothing is consumed on it, no delivery tells.
    pub(super) fn look_at_channel(&mut self) {
        let lost = |channel: &L::Channel| !channel.is_open();
        if self.channel.as_ref().is_some_and(lost) {
            self.lose(&BrokerError::Lost {
                what: "settling",
                cause: "the channel is closed".to_owned(),
            });
        }
    }

    /// Gives the delivery back unless it is known: a message whose channel was lost is adopted, the second of two copies
    /// with one id shares the fate of the first.
    pub(super) fn unless_known(&mut self, place: ChannelTag, work: Work) -> Option<Work> {
        let message_id = work.message_id().map(str::to_owned);
        if work.earlier_deliveries > 0
            && work.identity.is_named()
            && let Some(earlier) = self.line.remove_before(&work)
        {
            self.book.replaced(earlier.tag);
        }
        match self.book.arrive(place.tag, work, Instant::now()) {
            Known::New(work) => return Some(work),
            Known::Twin => {
                info!(
                    queue = %self.queue,
                    message_id,
                    "a copy that was published twice came twice; it is run once"
                );
                self.metrics.settling.twins.inc();
            }
            Known::Adopted { known, then } => {
                debug!(
                    queue = %self.queue,
                    message_id,
                    known,
                    "adopted: the handler does not run again"
                );
                self.metrics.settling.adopted(known);
                match then {
                    Then::Nothing => {}
                    Then::Follow(work, outcome) => {
                        let runs = work.delivery().attempt;
                        self.follow(place, work, outcome, runs);
                    }
                    Then::Copy(work, copy) => self.begin_copy(place, work, copy),
                }
            }
        }
        None
    }
}

/// Whether the broker closed the channel because a delivery was unacknowledged for too long (classic queues, and
/// quorum queues before RabbitMQ 4.3).
fn is_consumer_timeout(error: &BrokerError) -> bool {
    matches!(error, BrokerError::Refused { code: 406, text, .. } if text.contains("acknowledgement") && text.contains("timed out"))
}

//! What becomes of deliveries when their channel is lost, and when the broker delivers them again.

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::run::{ChannelTag, Work};
use super::task::Task;
use crate::broker::{BrokerError, ConsumeChannel};
use crate::settlement::{Arrival, Ledger, Remembered, Settlement, Unproven};

impl Task {
    /// Whether the delivery belongs to the present channel, so that it can be settled.
    pub(super) fn is_present(&self, place: ChannelTag) -> bool {
        let present = self.channel.as_ref().map(ConsumeChannel::generation);
        present == Some(place.generation)
    }

    /// The channel is gone: its deliveries are the broker's again. What runs goes on; what it comes to, and
    /// what was settled without proof that it arrived, is remembered for when the broker delivers it again.
    pub(super) fn lose(&mut self, error: &BrokerError) {
        let Some(channel) = self.channel.take() else {
            return;
        };
        self.opening = None;
        self.waiting = None;
        let unwritten = self.writes.len() as u64;
        let unsettled = self.ledger.open() + self.ledger.decided();
        self.remember(channel.generation());
        self.forget_channel();
        let unproven = match &mut self.drain {
            Some(drain) => drain.channel_lost(),
            None => unwritten,
        };
        self.metrics.unconfirmed.inc_by(unproven);
        warn!(
            queue = %self.queue,
            %error,
            unsettled,
            running = self.running.len(),
            remembered = self.adoption.len(),
            "the channel is lost"
        );
        if self.is_running() {
            self.try_again();
        }
    }

    /// The connection has changed while nothing is consumed, so that no delivery tells whether the channel is
    /// still there.
    pub(super) fn look_at_channel(&mut self) {
        if self
            .channel
            .as_ref()
            .is_some_and(|channel| !channel.is_open())
        {
            self.lose(&BrokerError::Lost {
                what: "settling",
                cause: "its connection is gone".to_owned(),
            });
        }
    }

    fn remember(&mut self, generation: u64) {
        let now = Instant::now();
        for (number, run) in &self.running {
            if run.place.generation == generation {
                let running = Remembered::Running(*number);
                self.adoption.remember(run.work.identity, running, now);
            }
        }
        self.remember_copies(generation, now);
        let (doubtful, certain) = std::mem::take(&mut self.unproven).lost();
        // An acknowledgement that may have arrived must not be taken for an equal message's.
        let doubtful = doubtful.into_iter().filter(|identity| identity.is_named());
        for identity in doubtful.chain(certain) {
            self.adoption.remember(identity, Remembered::Finished, now);
        }
    }

    /// Forgets what belonged to a channel that is gone: it is the broker's again.
    pub(super) fn forget_channel(&mut self) {
        self.line.empty();
        self.writes.clear();
        self.copies.lose();
        self.ledger = Ledger::new();
        self.unproven = Unproven::new();
    }

    /// Gives the delivery back unless it is known: a message whose channel was lost is adopted, the twin of a
    /// copy shares the first one's fate.
    pub(super) fn unless_known(&mut self, tag: u64, work: Work) -> Option<Work> {
        let is_copy = work.received.copy.is_some();
        let copy = work.identity;
        if !is_copy && (!work.delivery().redelivered || self.adoption.is_empty()) {
            return Some(work);
        }
        if let Some(remembered) = self.adoption.take(work.identity, Instant::now()) {
            if is_copy {
                self.copies.adopt(copy);
            }
            return self.adopt(tag, work, remembered);
        }
        if !is_copy {
            return Some(work);
        }
        match self.copies.arrive(copy, tag) {
            Arrival::First => return Some(work),
            Arrival::TwinOfOpen => {}
            Arrival::TwinOfFinished => self.settle(tag, &work, Settlement::Ack),
        }
        info!(
            queue = %self.queue,
            message_id = work.message_id(),
            "a copy that was published twice came twice; it is run once"
        );
        self.metrics.settling.twins.inc();
        None
    }

    fn adopt(&mut self, tag: u64, work: Work, remembered: Remembered) -> Option<Work> {
        let generation = self.channel.as_ref().map(ConsumeChannel::generation)?;
        let place = ChannelTag { generation, tag };
        let kind = remembered.as_str();
        match remembered {
            Remembered::Running(number) => match self.running.get_mut(&number) {
                Some(run) => run.place = place,
                None => return Some(work),
            },
            Remembered::Copying(number) => match self.copying.get_mut(&number) {
                Some(copying) => copying.place = place,
                None => return Some(work),
            },
            Remembered::Decided(outcome) => {
                if let Some(drain) = &mut self.drain {
                    drain.adopted();
                }
                let runs = work.delivery().attempt;
                self.follow(tag, work.clone(), outcome, runs);
            }
            Remembered::Unpublished(copy) => self.begin_copy(place, work.clone(), copy),
            Remembered::Finished => self.settle(tag, &work, Settlement::Ack),
        }
        debug!(
            queue = %self.queue,
            message_id = work.message_id(),
            kind,
            "adopted: the handler does not run again"
        );
        self.metrics.settling.adopted(kind);
        None
    }
}

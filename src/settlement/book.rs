//! Everything that a node has in hand, and what it has come to. Pure.
//!
//! The parts keep their own forms, because each serves another question: the [`Ledger`] has tags in a row, for the fewest
//! calls; [`Unproven`] has settlements in the order of writing, for proofs; [`Adoption`] has messages by identity, for
//! redeliveries. The book alone changes them, so that a delivery is in one stage at a time: waiting, running, being
//! copied, settled without proof, remembered. The counts of a drain are read off these stages at its end.

mod end;
mod facts;
mod returned;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::adoption::{Acknowledgement, Adoption, Remembered};
use super::copies::{Arrival, Copies};
use super::ledger::{Call, Ledger, LedgerError, Settlement};
use super::unproven::{Settled, Unproven};
use super::work::{ChannelTag, Work};
use crate::handler::Outcome;
use crate::retry::Pending;

pub(crate) use facts::{Ended, InHand, Known, LostChannel, RunEnd, Tally, Then, Written};

/// The deliveries of one node, from their arrival until their settlement is known to have arrived.
#[derive(Debug)]
pub(crate) struct Book {
    /// The channel that is there, by its generation.
    present: Option<u64>,
    /// How many deliveries of the present channel the broker lets be unsettled.
    window: u64,
    ledger: Ledger,
    unproven: Unproven,
    adoption: Adoption,
    copies: Copies,
    running: HashMap<u64, InHand>,
    copying: HashMap<u64, InHand>,
    /// What is to be handed back by the end of the channel; nothing if hand-backs are settled as they come.
    kept: Option<Vec<(u64, Work)>>,
    drain: Option<Tally>,
}

impl Book {
    /// The book of a node; it remembers at most `limit` messages of lost channels beside those whose work goes on.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            present: None,
            window: 0,
            ledger: Ledger::new(),
            unproven: Unproven::default(),
            adoption: Adoption::new(limit),
            copies: Copies::default(),
            running: HashMap::new(),
            copying: HashMap::new(),
            kept: None,
            drain: None,
        }
    }

    /// From now on it remembers at most `limit` messages of lost channels beside those whose work goes on.
    pub(crate) fn remember_at_most(&mut self, limit: usize) {
        self.adoption.set_limit(limit);
    }

    /// A channel has opened, on which the broker lets `window` deliveries be unsettled.
    pub(crate) fn open(&mut self, generation: u64, window: u64, now: Instant) {
        self.present = Some(generation);
        self.window = window;
        self.ledger = Ledger::new();
        self.unproven = Unproven::new(self.drain.is_some());
        self.adoption.restart_clock(now);
    }

    /// From now on the end of the channel hands back, all at once and in order. With a consumer that goes on, what is handed
    /// back by itself would come again at once, behind what was sent ahead.
    pub(crate) fn keep_hand_backs(&mut self) {
        self.kept.get_or_insert_default();
    }

    /// Hands back as it comes again, and what was kept.
    pub(crate) fn release_hand_backs(&mut self) {
        for (tag, work) in self.kept.take().unwrap_or_default() {
            self.settle(tag, &work, Settlement::HandBack);
        }
    }

    /// The broker lets `more` deliveries be unsettled on the present channel: what an earlier consumer left does not count
    /// for the next one.
    pub(crate) fn widen(&mut self, more: u64) {
        self.window += more;
    }

    /// A drain begins: from now on its counts are kept.
    pub(crate) fn begin_drain(&mut self) {
        self.unproven.drain_begins();
        self.drain = Some(Tally {
            forgotten_before: self.adoption.unconfirmed().1,
            ..Tally::default()
        });
    }

    /// Whether the delivery belongs to the present channel, so that it can be settled.
    pub(crate) fn is_present(&self, place: ChannelTag) -> bool {
        self.present == Some(place.generation)
    }

    /// The runs.
    pub(crate) fn running(&self) -> &HashMap<u64, InHand> {
        &self.running
    }

    /// The number of deliveries that are being copied.
    pub(crate) fn copying(&self) -> usize {
        self.copying.len()
    }

    /// Whether a delivery of the present channel waits for its copy.
    pub(crate) fn is_copying(&self) -> bool {
        let mut copying = self.copying.values();
        copying.any(|in_hand| self.is_present(in_hand.place))
    }

    /// A delivery being copied.
    pub(crate) fn copy(&self, number: u64) -> Option<&InHand> {
        self.copying.get(&number)
    }

    /// How many messages of lost channels are remembered.
    pub(crate) fn remembered(&self) -> usize {
        self.adoption.len()
    }

    /// How many of those the broker certainly has.
    pub(crate) fn owed(&self) -> usize {
        self.adoption.owed()
    }

    /// The number of deliveries of the present channel that are not decided.
    pub(crate) fn open_deliveries(&self) -> usize {
        self.ledger.open()
    }

    /// The number of decisions that wait to be written.
    pub(crate) fn decided(&self) -> usize {
        self.ledger.decided()
    }

    /// Takes note of a delivery on the present channel.
    ///
    /// # Errors
    /// [`LedgerError::OutOfOrder`] unless `tag` is one more than the last.
    pub(crate) fn deliver(&mut self, tag: u64) -> Result<(), LedgerError> {
        self.ledger.deliver(tag)?;
        self.unproven.delivered(tag, self.window);
        Ok(())
    }

    /// Finds out what a delivery of the present channel is.
    pub(crate) fn arrive(&mut self, tag: u64, work: Work, now: Instant) -> Known {
        if let Some(known) = self.returned(tag, &work) {
            return known;
        }
        if !work.is_copy() && (!work.delivery().redelivered || self.adoption.is_empty()) {
            return Known::New(work);
        }
        if let Some(remembered) = self.adoption.take(work.identity, now) {
            if work.is_copy() {
                self.copies.adopt(work.identity);
            }
            return self.adopt(tag, work, remembered);
        }
        if !work.is_copy() {
            return Known::New(work);
        }
        match self.copies.arrive(work.identity, tag) {
            Arrival::First => Known::New(work),
            Arrival::TwinOfOpen => Known::Twin,
            Arrival::TwinOfFinished => {
                self.decide(tag, Settlement::Ack, None, false);
                Known::Twin
            }
        }
    }

    fn adopt(&mut self, tag: u64, work: Work, remembered: Remembered) -> Known {
        let generation = self.present.expect("deliveries come on a channel");
        let place = ChannelTag { generation, tag };
        let known = remembered.as_str();
        let then = match remembered {
            Remembered::Running(number) => match self.running.get_mut(&number) {
                Some(run) => {
                    run.moves_to(place, &work);
                    Then::Nothing
                }
                None => return Known::New(work),
            },
            Remembered::Copying(number) => match self.copying.get_mut(&number) {
                Some(copying) => {
                    copying.moves_to(place, &work);
                    Then::Nothing
                }
                None => return Known::New(work),
            },
            Remembered::Decided(outcome) => Then::Follow(work, outcome),
            Remembered::Unpublished(copy) => Then::Copy(work, copy),
            Remembered::Finished(_) => {
                self.settle(tag, &work, Settlement::Ack);
                Then::Nothing
            }
        };
        Known::Adopted { known, then }
    }

    /// Run `number` has begun.
    pub(crate) fn begin_run(&mut self, number: u64, place: ChannelTag, work: Work, now: Instant) {
        if !self.is_present(place) {
            // Its channel was lost while its slot went on with it.
            let running = Remembered::Running(number);
            self.adoption.remember(work.identity, running, now);
        }
        self.running.insert(number, InHand { place, work });
    }

    /// Run `number` is over; `None` if it was interrupted, and settled then.
    pub(crate) fn end_run(&mut self, number: u64, end: RunEnd, now: Instant) -> Option<Ended> {
        let run = self.running.remove(&number)?;
        let present = self.is_present(run.place);
        let running = Remembered::Running(number);
        let (outcome, decided) = match end {
            RunEnd::Decided(Outcome::HandBack) | RunEnd::Cancelled => {
                let interrupted = matches!(end, RunEnd::Cancelled);
                if let Some(drain) = &mut self.drain {
                    drain.interrupted += u64::from(interrupted);
                    drain.handed_back += u64::from(!interrupted && present);
                }
                if present {
                    self.settle(run.place.tag, &run.work, Settlement::HandBack);
                } else {
                    // The broker has it back already.
                    self.adoption.forget(run.work.identity, &running);
                }
                return Some(if interrupted {
                    Ended::Interrupted(run)
                } else {
                    Ended::HandedBack(run)
                });
            }
            RunEnd::Decided(outcome) => (outcome, true),
            RunEnd::Failed(outcome) => (outcome, false),
        };
        if let Some(drain) = &mut self.drain {
            drain.finished += u64::from(decided);
        }
        if present {
            return Some(Ended::Follow(run, outcome));
        }
        let decided = Remembered::Decided(outcome.clone());
        let identity = run.work.identity;
        self.adoption.replace(identity, &running, decided, now);
        Some(Ended::Remembered(run, outcome))
    }

    /// Decides what the broker is told about a delivery of the present channel, and about the twins that wait
    /// for it.
    pub(crate) fn settle(&mut self, tag: u64, work: &Work, settlement: Settlement) {
        if let (Settlement::HandBack, Some(kept)) = (settlement, &mut self.kept) {
            kept.push((tag, work.clone()));
            return;
        }
        let is_outcome = settlement != Settlement::HandBack;
        let acknowledged = (settlement == Settlement::Ack).then_some(work);
        self.decide(tag, settlement, acknowledged, is_outcome);
        if !work.is_copy() {
            return;
        }
        let (twins, fate) = match settlement {
            Settlement::Ack => (self.copies.finish(work.identity), Settlement::Ack),
            Settlement::HandBack | Settlement::Return => {
                (self.copies.hand_back(work.identity), Settlement::HandBack)
            }
        };
        for twin in twins {
            self.decide(twin, fate, None, false);
        }
    }

    fn decide(
        &mut self,
        tag: u64,
        settlement: Settlement,
        acknowledged: Option<&Work>,
        is_outcome: bool,
    ) {
        self.ledger
            .decide(tag, settlement)
            .expect("each delivery of the present channel is decided once");
        self.unproven.decided(Settled {
            identity: acknowledged.map(|work| work.identity),
            deliveries: acknowledged.map_or(0, |work| work.earlier_deliveries),
            is_outcome,
        });
    }

    /// Hands back a delivery of the present channel that has not started.
    pub(crate) fn hand_back(&mut self, tag: u64, work: &Work) {
        self.settle(tag, work, Settlement::HandBack);
        if let Some(drain) = &mut self.drain {
            drain.handed_back += 1;
        }
    }

    /// The end of the channel has handed back `count` deliveries that had not started.
    pub(crate) fn handed_back_by_close(&mut self, count: u64) {
        if let Some(drain) = &mut self.drain {
            drain.handed_back += count;
        }
    }

    /// The calls for everything decided since the last batch; they are being written now.
    pub(crate) fn next_batch(&mut self, calls: &mut Vec<Call>) {
        self.ledger.next_batch(calls);
        self.unproven.flushed();
    }

    /// Copy `number` is on its way.
    pub(crate) fn begin_copy(&mut self, number: u64, place: ChannelTag, work: Work) {
        self.copying.insert(number, InHand { place, work });
    }

    /// The broker has taken copy `number`: its delivery is done with.
    pub(crate) fn copy_taken(&mut self, number: u64, now: Instant) {
        let Some(InHand { place, work }) = self.copying.remove(&number) else {
            return;
        };
        if self.is_present(place) {
            self.settle(place.tag, &work, Settlement::Ack);
        } else {
            let before = Remembered::Copying(number);
            let after = Remembered::Finished(Acknowledgement::Unwritten);
            let identity = work.identity;
            self.adoption.replace(identity, &before, after, now);
        }
    }

    /// There will be no copy `number`; its delivery is on the present channel, and is dealt with in another way.
    pub(crate) fn end_copy(&mut self, number: u64) {
        let ended = self.copying.remove(&number);
        debug_assert!(ended.is_some_and(|it| self.is_present(it.place)));
    }

    /// A try to publish copy `number` has failed. Whether to try again: not if its delivery is on no channel; then
    /// `copy` waits for the message to be delivered again.
    pub(crate) fn copy_failed(&mut self, number: u64, copy: &Arc<Pending>, now: Instant) -> bool {
        let Some(in_hand) = self.copying.get(&number) else {
            return false;
        };
        if self.is_present(in_hand.place) {
            return true;
        }
        let identity = in_hand.work.identity;
        self.copying.remove(&number);
        let before = Remembered::Copying(number);
        let after = Remembered::Unpublished(Arc::clone(copy));
        self.adoption.replace(identity, &before, after, now);
        false
    }

    /// Gives up every copy, and hands back those deliveries that are on the present channel. How many those are.
    pub(crate) fn give_up_copies(&mut self) -> u64 {
        let mut given_up = 0;
        for (_, InHand { place, work }) in std::mem::take(&mut self.copying) {
            // Any other is still remembered, and counted as such.
            if self.is_present(place) {
                self.settle(place.tag, &work, Settlement::HandBack);
                given_up += 1;
            }
        }
        if let Some(drain) = &mut self.drain {
            drain.unconfirmed += given_up;
        }
        given_up
    }
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

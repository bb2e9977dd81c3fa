//! The end of a channel, and what a drain has come to.

use tokio::time::Instant;

use super::{Book, InHand, LostChannel, Tally, Written};
use crate::settlement::adoption::{Acknowledgement, Remembered};
use crate::settlement::ledger::Ledger;
use crate::settlement::unproven::Settled;

impl Book {
    /// The present channel has ended; its deliveries are the broker's again. What is not known to be settled is
    /// remembered for when the broker delivers it again.
    pub(crate) fn end_channel(&mut self, written: Written, now: Instant) -> LostChannel {
        let mut lost = LostChannel::default();
        let Some(generation) = self.present.take() else {
            return lost;
        };
        let of_channel = |in_hand: &InHand| in_hand.place.generation == generation;
        for (number, run) in self.running.iter().filter(|(_, run)| of_channel(run)) {
            let running = Remembered::Running(*number);
            self.adoption.remember(run.work.identity, running, now);
        }
        for (number, copy) in self.copying.iter().filter(|(_, copy)| of_channel(copy)) {
            let copying = Remembered::Copying(*number);
            self.adoption.remember(copy.work.identity, copying, now);
            lost.copies.push(*number);
        }
        let unsettled = std::mem::take(&mut self.unproven).end();
        lost.unconfirmed += self.finished(unsettled.unwritten, Acknowledgement::Unwritten, now);
        if written == Written::MayBeTooLate {
            self.finished(
                unsettled.known_to_channel,
                Acknowledgement::WrittenBefore,
                now,
            );
        }
        if written != Written::Arrived {
            let (before, in_drain) = (unsettled.written_before, unsettled.written_in_drain);
            self.finished(before, Acknowledgement::WrittenBefore, now);
            lost.unconfirmed += self.finished(in_drain, Acknowledgement::WrittenInDrain, now);
        }
        if let Some(kept) = &mut self.kept {
            kept.clear();
        }
        self.ledger = Ledger::new();
        self.copies.lose();
        lost
    }

    /// Remembers settlements without proof. How many of them settle outcomes.
    fn finished(&mut self, all: Vec<Settled>, how: Acknowledgement, now: Instant) -> u64 {
        let mut outcomes = 0;
        for settled in all {
            outcomes += u64::from(settled.is_outcome);
            match settled.identity {
                // An acknowledgement that may have arrived must not be taken for that of an equal message.
                Some(identity) if how == Acknowledgement::Unwritten || identity.is_named() => {
                    self.adoption
                        .remember(identity, Remembered::Finished(how), now);
                }
                _ => {
                    let counts = settled.is_outcome && how != Acknowledgement::WrittenBefore;
                    if let Some(drain) = &mut self.drain {
                        drain.unconfirmed += u64::from(counts);
                    }
                }
            }
        }
        outcomes
    }

    /// The counts of the drain, once its channel has ended.
    pub(crate) fn tally(&self) -> Tally {
        let Some(tally) = self.drain else {
            return Tally::default();
        };
        let (remembered, forgotten) = self.adoption.unconfirmed();
        let forgotten = forgotten - tally.forgotten_before;
        Tally {
            unconfirmed: tally.unconfirmed + remembered + forgotten,
            ..tally
        }
    }
}

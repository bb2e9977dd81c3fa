//! The delivery tags of one channel and what has been decided about each.

use std::collections::VecDeque;

use thiserror::Error;

/// The settlement of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// The message is done with.
    Ack,
    /// The message goes back to its queue, to where it was; RabbitMQ 4.3 does not count it as a failure.
    HandBack,
    /// The message goes back to its queue as a failure: RabbitMQ counts it, and delays it if the queue is declared so.
    Return,
}

/// One settlement method (AMQP 0-9-1 `basic.ack`, `basic.reject`; RabbitMQ's `basic.nack`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// `basic.ack`
    Ack {
        /// The delivery.
        tag: u64,
        /// Whether it covers every unsettled delivery up to `tag`.
        multiple: bool,
    },
    /// `basic.nack`, requeue=true
    HandBack {
        /// The delivery.
        tag: u64,
        /// Whether it covers every unsettled delivery up to `tag`.
        multiple: bool,
    },
    /// `basic.reject`, requeue=true
    Return {
        /// The delivery.
        tag: u64,
    },
}

impl Call {
    /// The delivery, or the last of those that the call covers.
    pub(crate) const fn tag(self) -> u64 {
        match self {
            Self::Ack { tag, .. } | Self::HandBack { tag, .. } | Self::Return { tag } => tag,
        }
    }
}

/// A call that would break the ledger's rule: each delivery of this channel is settled exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LedgerError {
    /// Tags of a channel count up by one.
    #[error("delivery tag {tag} follows {expected}, which was expected")]
    OutOfOrder {
        /// The tag that came.
        tag: u64,
        /// The tag that had to come.
        expected: u64,
    },
    /// No such delivery is open on this channel.
    #[error("delivery tag {tag} is not open on this channel")]
    NotOpen {
        /// The tag.
        tag: u64,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Entry {
    Open,
    Decided(Settlement),
    Called,
}

/// The deliveries of one channel generation, from delivery to settlement. Bounded by the prefetch.
///
/// It is made anew with each channel, so a tag of an older channel cannot be settled here by mistake.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The number of deliveries that left at the front; the tag of `entries[0]` is one more.
    gone: u64,
    entries: VecDeque<Entry>,
    /// Tags decided since the last batch, in the order of their decisions.
    decided: Vec<u64>,
    open: usize,
}

impl Ledger {
    /// The ledger of a channel on which nothing was delivered yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes note of a delivery.
    ///
    /// # Errors
    /// `LedgerError::OutOfOrder` unless `tag` is one more than the last.
    pub fn deliver(&mut self, tag: u64) -> Result<(), LedgerError> {
        let expected = self.gone + self.entries.len() as u64 + 1;
        if tag != expected {
            return Err(LedgerError::OutOfOrder { tag, expected });
        }
        self.entries.push_back(Entry::Open);
        self.open += 1;
        Ok(())
    }

    /// Decides about an open delivery.
    ///
    /// # Errors
    /// `LedgerError::NotOpen` if it was decided before or never delivered.
    pub fn decide(&mut self, tag: u64, settlement: Settlement) -> Result<(), LedgerError> {
        let entry = self.entry(tag).ok_or(LedgerError::NotOpen { tag })?;
        if *entry != Entry::Open {
            return Err(LedgerError::NotOpen { tag });
        }
        *entry = Entry::Decided(settlement);
        self.open -= 1;
        self.decided.push(tag);
        Ok(())
    }

    /// The number of deliveries that are not decided yet.
    pub fn open(&self) -> usize {
        self.open
    }

    /// The number of deliveries that are decided and wait for a batch.
    pub fn decided(&self) -> usize {
        self.decided.len()
    }

    /// Whether a batch would have calls.
    pub fn has_decided(&self) -> bool {
        !self.decided.is_empty()
    }

    /// The calls for everything decided since the last batch, to be made in this order: first what goes
    /// back or is dropped, each by itself; then one acknowledgement for the whole settled prefix; then
    /// one for each island beyond it. Going first lets the prefix reach across what was handed back.
    ///
    /// Appends to `calls`, so that a caller can keep its buffer.
    pub fn next_batch(&mut self, calls: &mut Vec<Call>) {
        let begin = calls.len();
        self.hand_back_prefix(calls);
        let mut decided = std::mem::take(&mut self.decided);
        decided.retain(|&tag| {
            let entry = self
                .entry(tag)
                .expect("a decided tag stays until it is called");
            let call = match *entry {
                Entry::Decided(Settlement::HandBack) => Call::HandBack {
                    tag,
                    multiple: false,
                },
                Entry::Decided(Settlement::Return) => Call::Return { tag },
                Entry::Decided(Settlement::Ack) => return true,
                // The call for the prefix covers it.
                Entry::Called => return false,
                Entry::Open => unreachable!("only decided tags are listed"),
            };
            *entry = Entry::Called;
            calls.push(call);
            false
        });
        // A quorum queue delivers what was returned in the order of the returns.
        calls[begin..].sort_unstable_by_key(|call| call.tag());
        let mut acknowledged = 0_u64;
        let mut last = 0;
        while let Some(&entry) = self.entries.front() {
            match entry {
                Entry::Open => break,
                Entry::Called => {}
                Entry::Decided(_) => {
                    acknowledged += 1;
                    last = self.gone + 1;
                }
            }
            self.entries.pop_front();
            self.gone += 1;
        }
        if acknowledged > 0 {
            calls.push(Call::Ack {
                tag: last,
                multiple: acknowledged > 1,
            });
        }
        decided.retain(|&tag| tag > self.gone);
        for &tag in &decided {
            let entry = self.entry(tag).expect("it is beyond the prefix");
            *entry = Entry::Called;
            calls.push(Call::Ack {
                tag,
                multiple: false,
            });
        }
        decided.clear();
        self.decided = decided;
    }

    /// One call for everything that goes back before the first delivery that does not.
    fn hand_back_prefix(&mut self, calls: &mut Vec<Call>) {
        let mut last = None;
        let mut count = 0;
        for (tag, entry) in (self.gone + 1..).zip(&mut self.entries) {
            match entry {
                Entry::Called => {}
                Entry::Decided(Settlement::HandBack) => {
                    count += 1;
                    last = Some(tag);
                }
                Entry::Decided(_) | Entry::Open => break,
            }
        }
        let Some(tag) = last.filter(|_| count > 1) else {
            return;
        };
        for (_, entry) in (self.gone + 1..=tag).zip(&mut self.entries) {
            *entry = Entry::Called;
        }
        calls.push(Call::HandBack {
            tag,
            multiple: true,
        });
    }

    fn entry(&mut self, tag: u64) -> Option<&mut Entry> {
        let index = tag.checked_sub(self.gone + 1)?;
        self.entries.get_mut(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests;

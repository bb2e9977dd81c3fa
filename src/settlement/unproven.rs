//! The settlements of one channel that may not have reached the broker.
//!
//! Nothing answers an acknowledgement, but the prefetch does in its way: the broker delivers tag `t` only when
//! no more than the prefetch is unsettled, so it has processed at least `t - prefetch` settlements by then;
//! and it processes those of a channel in the order they were written (AMQP 0-9-1, 4.7).

use std::collections::VecDeque;

use super::Identity;

/// The settlements of one channel, in order, of which the broker has shown no knowledge yet. Bounded by the
/// prefetch and what is decided between two flushes.
#[derive(Debug, Default)]
pub(crate) struct Unproven {
    /// Settlements that left at the front.
    proven: u64,
    settlements: VecDeque<Settled>,
    /// The sizes of the batches that were written. Within a batch the order is the ledger's, not this one.
    batches: VecDeque<usize>,
    /// Entries at the back that are in no batch yet.
    unwritten: usize,
    /// How many settlements were written before the drain began, if it has.
    before_drain: Option<u64>,
    /// The last of those that left. The broker's channel knows of them, its queue may not.
    known_to_channel: VecDeque<Settled>,
}

/// A settlement that was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Settled {
    /// The message; `None` if it need not be remembered, as it will be done anew.
    pub identity: Option<Identity>,
    /// How often its queue had delivered the message before.
    pub deliveries: u64,
    /// Whether an outcome is settled so.
    pub is_outcome: bool,
}

/// The settlements of a channel that has ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unsettled {
    /// The last of those that the broker's channel knows of.
    pub known_to_channel: Vec<Settled>,
    /// Written before the drain began, if one has, and not known to have arrived.
    pub written_before: Vec<Settled>,
    /// Written during the drain, and not known to have arrived.
    pub written_in_drain: Vec<Settled>,
    /// Not written.
    pub unwritten: Vec<Settled>,
}

impl Unproven {
    /// The settlements of a channel on which nothing was settled yet. `draining`: a drain has begun.
    pub(crate) fn new(draining: bool) -> Self {
        Self {
            before_drain: draining.then_some(0),
            ..Self::default()
        }
    }

    /// Takes note of a settlement that was decided.
    pub(crate) fn decided(&mut self, settled: Settled) {
        self.settlements.push_back(settled);
        self.unwritten += 1;
    }

    /// All that was decided is being written now.
    pub(crate) fn flushed(&mut self) {
        if self.unwritten > 0 {
            self.batches.push_back(self.unwritten);
            self.unwritten = 0;
        }
    }

    /// A drain begins.
    pub(crate) fn drain_begins(&mut self) {
        let written = self.settlements.len() - self.unwritten;
        self.before_drain = Some(self.proven + written as u64);
    }

    /// The broker has delivered `tag` though it lets no more than `window` deliveries be unsettled.
    pub(crate) fn delivered(&mut self, tag: u64, window: u64) {
        let processed = tag.saturating_sub(window);
        while let Some(&batch) = self.batches.front()
            && self.proven + batch as u64 <= processed
        {
            self.batches.pop_front();
            self.known_to_channel
                .extend(self.settlements.drain(..batch));
            self.proven += batch as u64;
        }
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        let older = self.known_to_channel.len().saturating_sub(window);
        self.known_to_channel.drain(..older);
    }

    /// Takes the acknowledgement of a message that the queue had delivered less than `deliveries` times before, if
    /// it was one of the last on this channel. Whether it was.
    pub(crate) fn acknowledged(&mut self, identity: Identity, deliveries: u64) -> bool {
        let all = self
            .settlements
            .iter_mut()
            .chain(&mut self.known_to_channel);
        let mut earlier = all.filter(|one| one.deliveries < deliveries);
        let found = earlier.find(|one| one.identity == Some(identity));
        let found = found.map(|one| {
            one.identity = None;
            one.is_outcome = false;
        });
        found.is_some()
    }

    /// The channel has ended: what has no proof.
    pub(crate) fn end(self) -> Unsettled {
        let written = self.settlements.len() - self.unwritten;
        let before = self.before_drain.map_or(written, |before| {
            let left = before.saturating_sub(self.proven);
            usize::try_from(left).unwrap_or(usize::MAX).min(written)
        });
        let mut settlements = self.settlements.into_iter();
        Unsettled {
            known_to_channel: self.known_to_channel.into(),
            written_before: settlements.by_ref().take(before).collect(),
            written_in_drain: settlements.by_ref().take(written - before).collect(),
            unwritten: settlements.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing;
    use super::*;

    fn settled(number: u64) -> Settled {
        Settled {
            identity: Some(testing::identity(&number.to_string())),
            deliveries: 0,
            is_outcome: true,
        }
    }

    #[test]
    fn a_delivery_beyond_the_prefetch_proves_what_was_written_before() {
        let mut unproven = Unproven::new(false);
        for number in 1..=4 {
            unproven.decided(settled(number));
            if number % 2 == 0 {
                unproven.flushed();
            }
        }
        unproven.decided(settled(5));
        // Tag 13 with a window of 10: three are processed, so the first batch of two is.
        unproven.delivered(13, 10);
        let unsettled = unproven.end();
        assert_eq!(unsettled.written_before, [settled(3), settled(4)]);
        assert_eq!(unsettled.unwritten, [settled(5)]);
    }

    #[test]
    fn what_is_written_after_a_drain_has_begun_counts_for_the_drain() {
        let mut unproven = Unproven::new(false);
        unproven.decided(settled(1));
        unproven.flushed();
        unproven.decided(settled(2));
        unproven.drain_begins();
        unproven.flushed();
        unproven.decided(settled(3));
        let expected = Unsettled {
            known_to_channel: Vec::new(),
            written_before: vec![settled(1)],
            written_in_drain: vec![settled(2)],
            unwritten: vec![settled(3)],
        };
        assert_eq!(unproven.end(), expected);
        let mut unproven = Unproven::new(true);
        unproven.decided(settled(1));
        unproven.flushed();
        assert_eq!(unproven.end().written_in_drain, [settled(1)]);
    }

    proptest! {
        /// Against a broker that keeps the window: what it has not processed is never taken for proven.
        #[test]
        fn nothing_is_proven_that_the_broker_has_not_processed(
            steps in prop::collection::vec(0_u8..4, 0..300),
            window in 1_u64..20,
        ) {
            let mut unproven = Unproven::new(false);
            let (mut delivered, mut decided, mut written, mut processed) = (0_u64, 0_u64, 0_u64, 0_u64);
            for step in steps {
                match step {
                    0 if delivered - processed < window => {
                        delivered += 1;
                        unproven.delivered(delivered, window);
                    }
                    1 if decided < delivered => {
                        decided += 1;
                        unproven.decided(settled(decided));
                    }
                    2 => {
                        unproven.flushed();
                        written = decided;
                    }
                    3 if processed < written => processed += 1,
                    _ => {}
                }
                prop_assert!(unproven.proven <= processed);
                prop_assert!(unproven.settlements.len() as u64 <= 2 * window);
            }
            let unsettled = unproven.end();
            prop_assert_eq!(unsettled.unwritten.len() as u64, decided - written);
            for number in processed + 1..=written {
                prop_assert!(unsettled.written_before.contains(&settled(number)));
            }
        }
    }
}

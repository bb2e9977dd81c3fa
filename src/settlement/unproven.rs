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
    /// `None` for one that need not be remembered.
    settlements: VecDeque<Option<Identity>>,
    /// The sizes of the batches that were written. Within a batch the order is the ledger's, not this one.
    batches: VecDeque<usize>,
    /// How many at the back are in no batch yet.
    unwritten: usize,
}

impl Unproven {
    /// The settlements of a channel on which nothing was settled yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Takes note of a settlement that was decided; `identity` is its message's, where the message is done with.
    pub(crate) fn decided(&mut self, identity: Option<Identity>) {
        self.settlements.push_back(identity);
        self.unwritten += 1;
    }

    /// All that was decided is being written now.
    pub(crate) fn flushed(&mut self) {
        if self.unwritten > 0 {
            self.batches.push_back(self.unwritten);
            self.unwritten = 0;
        }
    }

    /// The broker has delivered `tag` though it lets no more than `window` deliveries be unsettled.
    pub(crate) fn delivered(&mut self, tag: u64, window: u64) {
        let processed = tag.saturating_sub(window);
        while let Some(&batch) = self.batches.front()
            && self.proven + batch as u64 <= processed
        {
            self.batches.pop_front();
            self.settlements.drain(..batch);
            self.proven += batch as u64;
        }
    }

    /// The channel is lost: the messages whose acknowledgement may have arrived, and those whose
    /// certainly has not.
    pub(crate) fn lost(self) -> (Vec<Identity>, Vec<Identity>) {
        let written = self.settlements.len() - self.unwritten;
        let mut settlements = self.settlements.into_iter();
        let doubtful = settlements.by_ref().take(written).flatten().collect();
        (doubtful, settlements.flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing;
    use super::*;

    fn identity(number: u64) -> Identity {
        testing::identity(&number.to_string())
    }

    #[test]
    fn a_delivery_beyond_the_prefetch_proves_what_was_written_before() {
        let mut unproven = Unproven::new();
        for number in 1..=4 {
            unproven.decided(Some(identity(number)));
            if number % 2 == 0 {
                unproven.flushed();
            }
        }
        unproven.decided(Some(identity(5)));
        // Tag 13 with a window of 10: three are processed, so the first batch of two is.
        unproven.delivered(13, 10);
        let (doubtful, certain) = unproven.lost();
        assert_eq!(doubtful, [identity(3), identity(4)]);
        assert_eq!(certain, [identity(5)]);
    }

    proptest! {
        /// Against a broker that keeps the window: what it has not processed is never taken for proven.
        #[test]
        fn nothing_is_proven_that_the_broker_has_not_processed(
            steps in prop::collection::vec(0_u8..4, 0..300),
            window in 1_u64..20,
        ) {
            let mut unproven = Unproven::new();
            let (mut delivered, mut decided, mut written, mut processed) = (0_u64, 0_u64, 0_u64, 0_u64);
            for step in steps {
                match step {
                    0 if delivered - processed < window => {
                        delivered += 1;
                        unproven.delivered(delivered, window);
                    }
                    1 if decided < delivered => {
                        decided += 1;
                        unproven.decided(Some(identity(decided)));
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
            let (doubtful, certain) = unproven.lost();
            prop_assert_eq!(certain.len() as u64, decided - written);
            let kept: Vec<_> = doubtful.into_iter().collect();
            for number in processed + 1..=written {
                prop_assert!(kept.contains(&identity(number)));
            }
        }
    }
}

//! When decisions are written to the broker. Pure.
//!
//! Whatever lets the broker go on is written at once. Only if handlers are faster than the broker, so that most of what
//! it may send is on its way still, are writes a millisecond apart: each costs the broker more than the settling of a
//! message does (see docs/performance.md, "Where the time goes"). So a settlement that comes a millisecond or more after the
//! last one never waits.

use std::time::Duration;

use tokio::time::Instant;

/// The time between two writes of a channel whose broker has plenty to send without them.
const SPACING: Duration = Duration::from_millis(1);
/// The part of the prefetch that, once decided, is written however short ago the last write was.
const SHARE: usize = 8;

/// Facts about a channel at the time of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Deliveries decided and not written.
    pub decided: usize,
    /// Deliveries that came and are not settled, those decided included.
    pub unsettled: usize,
    /// Deliveries that the broker lets be unsettled at most.
    pub prefetch: usize,
}

impl Backlog {
    /// Whether there is nothing to be gained by waiting.
    fn is_urgent(self) -> bool {
        // Half of the prefetch is here: the broker may be waiting for us.
        let here = self.unsettled.saturating_mul(2) >= self.prefetch;
        let much = self.decided.saturating_mul(SHARE) >= self.prefetch;
        here || much
    }
}

/// The spacing of one channel's writes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// Until when a write of what is decided has to wait; nothing if it is to be made now.
    pub(crate) fn wait(&self, backlog: Backlog, now: Instant) -> Option<Instant> {
        let next = self.last? + SPACING;
        (next > now && !backlog.is_urgent()).then_some(next)
    }

    /// A write is made.
    pub(crate) fn wrote(&mut self, now: Instant) {
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLENTY: Backlog = Backlog {
        decided: 5,
        unsettled: 11,
        prefetch: 200,
    };

    fn wrote(now: Instant) -> Pace {
        let mut pace = Pace::default();
        pace.wrote(now);
        pace
    }

    #[test]
    fn writes_are_apart_only_while_the_broker_has_plenty_to_send() {
        let now = Instant::now();
        assert_eq!(
            Pace::default().wait(PLENTY, now),
            None,
            "the first is made at once"
        );
        let pace = wrote(now);
        assert_eq!(pace.wait(PLENTY, now), Some(now + SPACING));
        assert_eq!(pace.wait(PLENTY, now + SPACING), None);
        let lone = Backlog {
            decided: 1,
            unsettled: 1,
            ..PLENTY
        };
        assert_eq!(pace.wait(lone, now), Some(now + SPACING));
        for urgent in [
            Backlog {
                prefetch: 1,
                ..lone
            },
            Backlog {
                decided: 25,
                unsettled: 30,
                ..PLENTY
            },
            Backlog {
                decided: 1,
                unsettled: 100,
                ..PLENTY
            },
        ] {
            assert_eq!(pace.wait(urgent, now), None, "{urgent:?}");
        }
    }

    proptest! {
        #[test]
        fn a_small_prefetch_and_a_full_one_never_wait(
            prefetch in 0..2_000_usize, decided in 1..2_000_usize, open in 0..2_000_usize,
        ) {
            let now = Instant::now();
            let backlog = Backlog { decided, unsettled: decided + open, prefetch };
            let waits = wrote(now).wait(backlog, now).is_some();
            prop_assert!(!waits || prefetch > SHARE);
            prop_assert!(!waits || 2 * backlog.unsettled < prefetch);
            // Nobody waits longer than the spacing.
            prop_assert_eq!(wrote(now).wait(backlog, now + SPACING), None);
        }
    }
}

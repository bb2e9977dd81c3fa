//! When decisions are written to the broker. Pure.
//!
//! A write costs the broker, and this process, more than the settling of a message does, and so does waking a thread for
//! it (see docs/performance.md, "Where the time goes"). So what nobody waits for is written together, in two cases:
//!
//! - Handlers are faster than the broker: most of what it may send is on its way still.
//! - Handlers are slower than the broker: a good part of what it may send is here, in line.
//!
//! In between a write lets the broker go on, and is made at once. A settlement that comes later than that after the last
//! one never waits.

use std::time::Duration;

use tokio::time::Instant;

/// The time between two writes of a channel whose broker has plenty to send without them.
const WHILE_MUCH_COMES: Duration = Duration::from_millis(1);
/// The time between two writes of a channel whose handlers have plenty in line.
const WHILE_MUCH_WAITS: Duration = Duration::from_millis(5);
/// The part of the prefetch that, once decided, is written however short ago the last write was.
const SHARE: usize = 8;
/// The part of the prefetch that, once here, tells that the broker may be waiting.
const MUCH_HERE: usize = 2;
/// The part of the prefetch that is enough in line. While it is decided, what was written before brings more.
const MUCH_WAITING: usize = 4;

const _: () = assert!(
    SHARE > MUCH_WAITING,
    "the line would be empty before the next write"
);

/// Facts about a channel at the time of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Deliveries decided and not written.
    pub decided: usize,
    /// Deliveries that came and are not settled, those decided included.
    pub unsettled: usize,
    /// Deliveries that wait for a slot.
    pub waiting: usize,
    /// Deliveries that the broker lets be unsettled at most.
    pub prefetch: usize,
}

impl Backlog {
    /// The time between two writes; nothing if there is nothing to be gained by waiting.
    fn spacing(self) -> Option<Duration> {
        let is_part = |number: usize, share| number.saturating_mul(share) >= self.prefetch;
        if self.further() == 0 {
            None
        } else if is_part(self.waiting, MUCH_WAITING) {
            Some(WHILE_MUCH_WAITS)
        } else if is_part(self.unsettled, MUCH_HERE) {
            None
        } else {
            Some(WHILE_MUCH_COMES)
        }
    }

    /// How many more may be decided before a write is made in any case.
    fn further(self) -> usize {
        self.prefetch.div_ceil(SHARE).saturating_sub(self.decided)
    }
}

/// A wait for company.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    /// When it ends.
    pub until: Instant,
    /// How many more decisions do not end it.
    pub silent: usize,
}

/// The spacing of one channel's writes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: Option<Instant>,
}

impl Pace {
    /// How long a write of what is decided has to wait; nothing if it is to be made now.
    pub(crate) fn wait(&self, backlog: Backlog, now: Instant) -> Option<Wait> {
        let until = self.last? + backlog.spacing()?;
        (until > now).then(|| Wait {
            until,
            silent: backlog.further() - 1,
        })
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

    const MUCH_COMES: Backlog = Backlog {
        decided: 5,
        unsettled: 11,
        waiting: 3,
        prefetch: 200,
    };
    const MUCH_WAITS: Backlog = Backlog {
        decided: 5,
        unsettled: 200,
        waiting: 190,
        prefetch: 200,
    };

    fn wrote(now: Instant) -> Pace {
        let mut pace = Pace::default();
        pace.wrote(now);
        pace
    }

    #[test]
    fn writes_are_apart_while_much_comes_or_much_waits() {
        let now = Instant::now();
        for (backlog, spacing) in [
            (MUCH_COMES, WHILE_MUCH_COMES),
            (MUCH_WAITS, WHILE_MUCH_WAITS),
        ] {
            assert_eq!(
                Pace::default().wait(backlog, now),
                None,
                "the first is made at once"
            );
            let pace = wrote(now);
            let until = now + spacing;
            assert_eq!(pace.wait(backlog, now), Some(Wait { until, silent: 19 }));
            assert_eq!(pace.wait(backlog, until), None);
            for urgent in [
                Backlog {
                    prefetch: 1,
                    ..backlog
                },
                Backlog {
                    decided: 25,
                    ..backlog
                },
                Backlog {
                    unsettled: 100,
                    waiting: 49,
                    ..backlog
                },
            ] {
                assert_eq!(pace.wait(urgent, now), None, "{urgent:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn whoever_may_be_waiting_is_never_kept_waiting(
            prefetch in 0..2_000_usize,
            decided in 1..2_000_usize,
            waiting in 0..2_000_usize,
            running in 0..2_000_usize,
        ) {
            let now = Instant::now();
            let unsettled = decided + waiting + running;
            let backlog = Backlog { decided, unsettled, waiting, prefetch };
            let wait = wrote(now).wait(backlog, now);
            if let Some(wait) = wait {
                prop_assert!(prefetch > SHARE);
                prop_assert!(2 * unsettled < prefetch || 4 * waiting >= prefetch);
                // As many more decisions end it, and one fewer does not.
                let more = |more: usize| Backlog { decided: decided + more, ..backlog };
                prop_assert_eq!(wrote(now).wait(more(wait.silent + 1), now), None);
                prop_assert!(wrote(now).wait(more(wait.silent), now).is_some());
            }
            // Nobody waits longer than the spacing.
            prop_assert_eq!(wrote(now).wait(backlog, now + WHILE_MUCH_WAITS), None);
        }
    }
}

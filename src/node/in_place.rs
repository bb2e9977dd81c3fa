//! Retries without a copy: the delivery stays with the node until its next run.
//!
//! A copy needs more room in its header frame than its message had, and the broker may no longer take a body so large. Then
//! the delivery waits here, unacknowledged. The broker has it back whenever the channel ends, and then its runs count anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::warn;

use super::line::Waiting;
use super::port::BrokerLink;
use super::task::{Mode, Task};
use crate::settlement::{ChannelTag, Work};

/// The deliveries that wait for another run, by when they are to run. Bounded by the prefetch.
#[derive(Debug, Default)]
pub(crate) struct InPlace {
    waiting: BTreeMap<(Instant, u64), Waiting>,
}

impl InPlace {
    /// Lets a delivery wait until `at`.
    fn push(&mut self, at: Instant, waiting: Waiting) {
        self.waiting.insert((at, waiting.place.tag), waiting);
    }

    /// When the next delivery is to run.
    pub(crate) fn next(&self) -> Option<Instant> {
        let first = self.waiting.first_key_value();
        first.map(|(&(at, _), _)| at)
    }

    /// Takes the deliveries that are to run by `now`.
    fn due(&mut self, now: Instant) -> Vec<Waiting> {
        let mut later = self.waiting.split_off(&(now, u64::MAX));
        std::mem::swap(&mut self.waiting, &mut later);
        later.into_values().collect()
    }

    /// Takes all deliveries.
    pub(crate) fn empty(&mut self) -> Vec<Waiting> {
        std::mem::take(&mut self.waiting).into_values().collect()
    }
}

impl<L: BrokerLink> Task<L> {
    /// Keeps a delivery of the present channel for another run after `delay`; `false` if it would wait longer than
    /// deliveries may be held. `why` there can be no copy is for the log.
    pub(super) fn retry_in_place(
        &mut self,
        place: ChannelTag,
        work: &Work,
        delay: Duration,
        why: &str,
    ) -> bool {
        if self.mode == Mode::Draining {
            self.book.hand_back(place.tag, work);
            return true;
        }
        let at = Instant::now() + delay;
        if at > work.arrived + self.settings.hold_max {
            return false;
        }
        let mut work = work.clone();
        let delivery = Arc::make_mut(&mut work.received.delivery);
        delivery.attempt = delivery.attempt.saturating_add(1);
        warn!(
            queue = %self.queue,
            message_id = work.message_id(),
            ?delay,
            why,
            "no copy of the message can be published: it is retried in its place"
        );
        self.in_place.push(at, Waiting { place, work });
        true
    }

    /// Puts the deliveries in line whose time has come.
    pub(super) fn run_in_place(&mut self) {
        for waiting in self.in_place.due(Instant::now()) {
            self.line.push(waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::line::testing::waiting;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_delivery_comes_when_it_is_due() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut in_place = InPlace::default();
        assert_eq!(in_place.next(), None);
        in_place.push(now + second * 2, waiting(1));
        in_place.push(now + second, waiting(3));
        in_place.push(now + second, waiting(2));
        assert_eq!(in_place.next(), Some(now + second));
        let tags = |due: Vec<Waiting>| due.iter().map(|it| it.place.tag).collect::<Vec<_>>();
        assert!(in_place.due(now).is_empty());
        assert_eq!(tags(in_place.due(now + second)), [2, 3]);
        assert_eq!(tags(in_place.empty()), [1]);
    }
}

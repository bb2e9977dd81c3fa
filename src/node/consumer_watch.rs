//! Notices a consumer that is dead although its channel lives.
//!
//! A cluster node that is cut off from the majority keeps its connections. A consumer of a quorum queue there gets nothing
//! more, and nobody tells it. But the node then counts no consumer of the queue (`queue.declare` passive), so a node that
//! has had no delivery for a while looks whether its consumer is counted. If it is not, several times in a row, the
//! connection is given up, and the next one goes to another host.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::port::BrokerLink;
use super::task::{Mode, Task};
use crate::broker::BrokerError;
use crate::config::QueueType;

/// After so long without a delivery the queue is looked at, and then as often.
const IDLE: Duration = Duration::from_secs(30);
/// All nodes of a connection together look no more often than this.
const TURN: Duration = Duration::from_secs(30);
/// After a look that found no consumer the next one follows sooner: a queue that elects a leader counts none either.
const AGAIN: Duration = Duration::from_secs(5);
/// So many looks in a row without a consumer mean that it is dead.
const LOOKS: u32 = 4;

/// A look that is under way: how many consumers the queue has.
pub(super) type Look = Pin<Box<dyn Future<Output = Result<u32, BrokerError>> + Send>>;

/// When to look for the consumer of a node, and what was seen.
#[derive(Debug, Default)]
pub(super) struct ConsumerWatch {
    next: Option<Instant>,
    /// Looks in a row that counted no consumer.
    missing: u32,
}

impl ConsumerWatch {
    /// A consumer has started, or a delivery has come.
    pub(super) fn alive(&mut self, now: Instant) {
        self.next = Some(now + IDLE);
        self.missing = 0;
    }

    /// Whether the last look gives reason to look again soon.
    fn doubts(&self) -> bool {
        self.missing > 0
    }

    /// A look has to wait, for up to as long again.
    fn put_off(&mut self, now: Instant, random: f64) {
        self.next = Some(now + IDLE.mul_f64(0.5 + random));
    }

    /// A look has counted `consumers`; nothing if there was no answer. Whether the consumer is dead.
    fn looked(&mut self, consumers: Option<u32>, now: Instant, random: f64) -> bool {
        match consumers {
            Some(0) => {
                self.missing += 1;
                self.next = Some(now + AGAIN);
            }
            Some(_) => {
                self.missing = 0;
                self.put_off(now, random);
            }
            // It proves nothing.
            None => self.put_off(now, random),
        }
        self.missing >= LOOKS
    }
}

impl<L: BrokerLink> Task<L> {
    /// When to look at the queue; `None` if deliveries are not to be expected, or a look is under way.
    pub(super) fn look_at(&self) -> Option<Instant> {
        let expects_deliveries = self.mode == Mode::Running
            && self.looking.is_none()
            && self.is_consuming()
            && self.queue_type() == Some(QueueType::Quorum)
            && self.book.open_deliveries() < self.settings.prefetch.into();
        self.consumer_watch.next.filter(|_| expects_deliveries)
    }

    /// It is time to look at the queue.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        let Some(link) = self.link() else { return };
        if !self.consumer_watch.doubts() && !link.takes_turn(now, TURN) {
            self.consumer_watch.put_off(now, rand::random());
            return;
        }
        let queue = self.queue.clone();
        self.looking = Some(Box::pin(async move { link.consumers(&queue).await }));
    }

    /// A look is over.
    pub(super) fn looked(&mut self, consumers: Result<u32, BrokerError>) {
        self.looking = None;
        if !self.is_consuming() {
            return;
        }
        if let Err(error) = &consumers {
            debug!(queue = %self.queue, %error, "the queue could not be looked at");
        }
        let now = Instant::now();
        let is_dead = self
            .consumer_watch
            .looked(consumers.ok(), now, rand::random());
        if let Some(link) = self.link().filter(|_| is_dead) {
            warn!(
                queue = %self.queue,
                "the broker no longer counts this consumer: its cluster node may be cut off from the queue. The connection is \
                 given up for another"
            );
            self.consumer_watch = ConsumerWatch::default();
            link.give_up();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_dead_once_several_looks_in_a_row_do_not_count_it() {
        let mut now = Instant::now();
        let mut watch = ConsumerWatch::default();
        assert_eq!(watch.next, None, "there is no consumer yet");
        watch.alive(now);
        assert_eq!(watch.next, Some(now + IDLE));
        for consumers in [Some(0), Some(0), Some(1), Some(0), None, Some(0), Some(0)] {
            now = watch.next.expect("it goes on looking");
            assert!(!watch.looked(consumers, now, 0.5), "{consumers:?}");
        }
        assert!(watch.doubts());
        assert_eq!(watch.next, Some(now + AGAIN));
        assert!(watch.looked(Some(0), now, 0.5));
    }

    #[test]
    fn a_delivery_ends_all_doubt() {
        let now = Instant::now();
        let mut watch = ConsumerWatch::default();
        watch.alive(now);
        for _ in 1..LOOKS {
            assert!(!watch.looked(Some(0), now, 0.5));
        }
        watch.alive(now);
        assert!(!watch.doubts());
        assert!(!watch.looked(Some(0), now, 0.5));
    }

    #[test]
    fn looks_spread() {
        let now = Instant::now();
        let mut watch = ConsumerWatch::default();
        for (random, wait) in [(0.0, IDLE / 2), (0.5, IDLE), (1.0, IDLE * 3 / 2)] {
            assert!(!watch.looked(Some(1), now, random));
            assert_eq!(watch.next, Some(now + wait));
        }
    }
}

//! From the broker to a slot: what a delivery is, and when it starts.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::warn;

use super::lease::Lease;
use super::line::Waiting;
use super::port::{BrokerChannel as _, BrokerLink};
use super::run::{Start, start};
use super::slots::Slot;
use super::task::{Task, next_intake};
use crate::broker::{BrokerError, Intake};
use crate::config::Slots;
use crate::delivery::{Delivery, header};
use crate::handler::{Outcome, Reason};
use crate::retry::{Received, receive};
use crate::settlement::{ChannelTag, Identity, Work};

/// Clock-skew tolerance for "not before".
const CLOCK_SKEW: Duration = Duration::from_millis(100);

impl<L: BrokerLink> Task<L> {
    pub(super) fn take(&mut self, intake: Intake) {
        // Deliveries that are here together arrived together.
        let (now, arrived) = (Timestamp::now(), Instant::now());
        self.consumer_watch.alive(arrived);
        let mut next = Some(intake);
        while let Some(intake) = next.take() {
            match intake {
                Intake::Delivery(tag, delivery) => {
                    if let Err(error) = self.book.deliver(tag) {
                        let cause = error.to_string();
                        let what = "taking a delivery";
                        return self.lose(&BrokerError::Lost { what, cause });
                    }
                    self.caution.delivered();
                    self.accept(tag, delivery, now, arrived);
                    next = next_intake(self.channel.as_mut()).now_or_never();
                }
                // The cancel that we asked for tells it.
                Intake::Ended => {}
                Intake::Cancelled => self.cancelled_by_broker(),
                Intake::Lost(error) => self.lose(&error),
            }
        }
    }

    /// Finds out what a delivery is: one that is known already, one that has to wait, one that cannot be run,
    /// or work.
    fn accept(&mut self, tag: u64, mut delivery: Arc<Delivery>, now: Timestamp, arrived: Instant) {
        let undecodable = delivery.undecodable().map(str::to_owned);
        if undecodable.is_some() {
            // The mark is the guard's word to this process, and no part of the message.
            let headers = &mut Arc::make_mut(&mut delivery).properties.headers;
            headers.remove(header::UNDECODABLE);
        }
        let received = receive(delivery, self.delayed_by_broker, now);
        let identity = match &undecodable {
            None => self.handlers_identity(&received.delivery),
            Some(_) => None,
        };
        let identity = Identity::of(&received, identity.as_deref());
        let work = Work::new(received, identity, arrived);
        let Some(generation) = self.channel.as_ref().map(L::Channel::generation) else {
            return;
        };
        let place = ChannelTag { generation, tag };
        let Some(work) = self.unless_known(place, work) else {
            return;
        };
        if let Some(error) = undecodable {
            let reason = Reason::Undecodable;
            return self.set_aside(place, work, Outcome::Dead { reason, error });
        }
        if work.is_copy() && work.received.is_expired(now) {
            self.expired(place, work);
            return;
        }
        if let Some(left) = time_left(&work.received, now) {
            self.wait_longer(place, work, left);
            return;
        }
        let size = work.delivery().body.len() as u64;
        if size <= self.settings.max_body {
            self.line.push(Waiting { place, work });
            return;
        }
        let outcome = Outcome::Dead {
            reason: Reason::TooLarge,
            error: format!(
                "the body has {size} bytes; node {:?} takes {} (max_body)",
                self.settings.queue, self.settings.max_body
            ),
        };
        self.set_aside(place, work, outcome);
    }

    /// Does with a delivery what follows from `outcome`, though it was not run.
    pub(super) fn set_aside(&mut self, place: ChannelTag, work: Work, outcome: Outcome) {
        let runs = work.delivery().attempt - 1;
        self.follow(place, work, outcome, runs);
    }

    /// The identity that the handler gives a message without an id.
    fn handlers_identity(&self, delivery: &Delivery) -> Option<String> {
        if delivery.properties.message_id.is_some() {
            return None;
        }
        let identity = AssertUnwindSafe(|| self.handler.identity(delivery));
        std::panic::catch_unwind(identity).unwrap_or_else(|_panic| {
            warn!(queue = %self.queue, "the handler panicked in `identity`; the message has none");
            None
        })
    }

    /// Has a quick handler run on this thread, and one with a runtime on that.
    pub(super) fn choose_thread(&mut self) {
        if self.handler.is_quick() {
            self.runtime = Handle::current();
        } else if let Some(runtime) = self.handler.runtime() {
            self.runtime = runtime;
        }
    }

    pub(super) fn start_ready(&mut self) {
        while self.may_start() && self.waiting.is_none() && !self.line.is_empty() {
            match self.slots.try_acquire() {
                Some(slot) => self.start_next(slot),
                None => self.waiting = Some(Box::pin(self.slots.acquire())),
            }
        }
    }

    /// Whether a slot may go on with the next delivery by itself. Slots of a pool are shared in turn. With a single active
    /// consumer order counts, and the node's task alone starts deliveries.
    fn goes_on(&self) -> bool {
        matches!(self.settings.slots, Slots::Own(_)) && !self.single_active_consumer
    }

    pub(super) fn start_next(&mut self, slot: Slot) {
        let Some((run, Waiting { place, work })) = self.line.first() else {
            return;
        };
        let now = Instant::now();
        self.metrics.run_began(run, now);
        let begin = Start {
            run,
            began: now,
            delivery: Arc::clone(work.delivery()),
            hold_until: work.arrived + self.settings.hold_max,
            slot,
            lease: Lease::new(
                self.slots.clone(),
                self.drain_signal.clone(),
                self.events_sender.clone(),
                Arc::clone(&self.line),
                self.single_active_consumer,
            ),
            handler: self.handler.clone(),
            surroundings: Arc::clone(&self.surroundings),
            timeout: self.settings.timeout,
            hold_max: self.settings.hold_max,
            events: self.events_sender.clone(),
            line: self.goes_on().then(|| Arc::clone(&self.line)),
        };
        self.book.begin_run(run, place, work, now);
        self.runs.insert(run, start(begin, &self.runtime));
    }
}

/// The time until a delivery may be run.
fn time_left(received: &Received, now: Timestamp) -> Option<Duration> {
    let not_before = received.copy.as_ref()?.not_before?;
    let at = Timestamp::from_millisecond(not_before).ok()?;
    let left = now.duration_until(at);
    Duration::try_from(left)
        .ok()
        .filter(|left| *left > CLOCK_SKEW)
}

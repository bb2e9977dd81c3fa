//! From the broker to a slot: the consumer's life, and what it delivers.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use super::command::interruption;
use super::lease::Lease;
use super::line::Waiting;
use super::opening::{Opened, open, reopen};
use super::run::{ChannelTag, Start, Work, start};
use super::slots::Slot;
use super::task::{NodeState, Task, next_intake};
use crate::broker::{Attempt, BrokerError, ConsumeChannel, Intake};
use crate::config::{QueueType, Slots};
use crate::delivery::{Delivery, header};
use crate::handler::{Outcome, Reason};
use crate::retry::{Received, receive};
use crate::settlement::{Identity, Ledger, Unproven};

/// How long a drain waits for a consumer that is on its way.
const OPENING_LIMIT: Duration = Duration::from_secs(2);
/// How long a broker that answers gets for a cancel although what runs is to be interrupted now.
const LAST_CHANCE: Duration = Duration::from_millis(100);
/// How long taking in what is in memory may take.
const REST_LIMIT: Duration = Duration::from_secs(1);
/// How much earlier than it asked a message may be run: clocks differ.
const EARLY: Duration = Duration::from_millis(100);
/// How long the broker may take to cancel a consumer.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

impl Task {
    /// Awaits a consumer that is on its way, within bounds: cancelled in order it leaves its deliveries as
    /// they were, while dropped it would have the broker count them as failed.
    pub(super) async fn finish_opening(&mut self) {
        let Some(opening) = self.opening.take() else {
            return;
        };
        if let Some(opened) = self.unless_interrupted(OPENING_LIMIT, opening).await {
            self.opened(opened);
        } else {
            info!(queue = %self.queue, "the consumer on its way is given up");
        }
    }

    /// From now on nothing starts, and no consumer is made.
    pub(super) fn stop_intake(&mut self) {
        self.opening = None;
        self.reopen_at = None;
        self.waiting = None;
    }

    /// Cancels the consumer and takes in what the broker sent before cancel-ok: after it, the set of
    /// deliveries is final.
    ///
    /// # Errors
    /// Where the cancel is not known to have arrived; deliveries that still come are not taken.
    pub(super) async fn cancel_consumer(&mut self) -> Result<(), BrokerError> {
        let Some(channel) = self
            .channel
            .as_mut()
            .filter(|channel| channel.is_consuming())
        else {
            return Ok(());
        };
        let cancel = channel.cancel(CANCEL_LIMIT);
        let cancelled = self.unless_interrupted(CANCEL_LIMIT, cancel).await;
        let what = "basic.cancel";
        let limit = CANCEL_LIMIT;
        if let Err(error) = cancelled.unwrap_or(Err(BrokerError::TimedOut { what, limit })) {
            warn!(queue = %self.queue, %error, "the consumer could not be cancelled in order");
            self.detach();
            return Err(error);
        }
        // What came before cancel-ok is in memory; the limit guards against a stream that never ends.
        let rest = async {
            while self.is_consuming() {
                self.turn().await;
            }
        };
        if timeout(REST_LIMIT, rest).await.is_err() {
            self.detach();
        }
        Ok(())
    }

    /// Awaits `future` while the node's work goes on, for at most `limit`, and little longer than until what
    /// runs is to be interrupted: nothing may keep the node from doing that.
    pub(super) async fn unless_interrupted<T>(
        &mut self,
        limit: Duration,
        future: impl Future<Output = T>,
    ) -> Option<T> {
        let commands = self.commands.clone();
        let given_up = async move {
            tokio::select! {
                () = sleep(limit) => {}
                () = interruption(commands) => sleep(LAST_CHANCE).await,
            }
        };
        let either = async {
            tokio::select! {
                biased;
                value = future => Some(value),
                () = given_up => None,
            }
        };
        self.meanwhile(either).await
    }

    fn detach(&mut self) {
        if let Some(channel) = &mut self.channel {
            channel.detach();
        }
    }

    pub(super) fn seek_consumer(&mut self) {
        if self.is_consuming() {
            return;
        }
        if !self.is_running() || self.opening.is_some() || self.reopen_at.is_some() {
            return;
        }
        let Some(link) = self.link() else { return };
        let kind = self.queue_type;
        match &self.channel {
            None => {
                let settings = Arc::clone(&self.settings);
                let tag = self.consumer_tag.clone();
                self.opening = Some(open(link, settings, Arc::clone(&self.queue), tag, kind));
            }
            Some(channel) => {
                self.opening = Some(reopen(link, Arc::clone(&self.settings), channel, kind));
            }
        }
    }

    pub(super) fn opened(&mut self, opened: Result<Box<Opened>, BrokerError>) {
        if let Some(link) = self.link() {
            link.note_answer(&opened);
        }
        let facts = match opened.map(|opened| *opened) {
            Ok(Opened::Channel(mut channel, consumer, facts)) => {
                channel.attach(consumer);
                self.ledger = Ledger::new();
                self.unproven = Unproven::new();
                self.window = self.settings.prefetch.into();
                self.channel = Some(channel);
                facts
            }
            Ok(Opened::Consumer(consumer, facts)) => {
                if let Some(channel) = &mut self.channel {
                    channel.attach(consumer);
                }
                // What the last consumer left unsettled does not count for this one.
                self.window += u64::from(self.settings.prefetch);
                facts
            }
            Err(error) if error.is_refusal() && !self.consumed_before => {
                warn!(
                    queue = %self.queue,
                    attempt = self.backoff.attempts() + 1,
                    %error,
                    "the broker refuses the queue; trying again"
                );
                let wait = self.backoff.after(Attempt::Refused, rand::random());
                self.reopen_at = Some(Instant::now() + wait);
                self.state.send_replace(NodeState::Refused(error));
                return;
            }
            Err(error) => {
                warn!(
                    queue = %self.queue,
                    attempt = self.backoff.attempts() + 1,
                    %error,
                    "cannot consume; trying again"
                );
                if self.channel.is_some() && !error.is_refusal() {
                    self.lose(&error);
                }
                self.try_again();
                return;
            }
        };
        self.single_active_consumer |= facts.single_active_consumer;
        self.delayed_by_broker = facts.delayed_retry;
        self.queue_type = facts.kind;
        if facts.delivery_limit && !self.consumed_before {
            warn!(
                queue = %self.queue,
                "the queue has a delivery limit, by default 20: the broker drops a message that was lost with its \
                 channel, or before RabbitMQ 4.3 handed back, more often"
            );
        }
        self.consumed_before = true;
        self.backoff.reset();
        info!(
            queue = %self.queue,
            messages = facts.messages,
            single_active_consumer = self.single_active_consumer,
            "consuming"
        );
        self.state.send_replace(NodeState::Consuming);
    }

    pub(super) fn try_again(&mut self) {
        self.state.send_replace(NodeState::Opening);
        self.reopen_at = Some(Instant::now() + self.backoff.next(rand::random()));
    }

    pub(super) fn take(&mut self, intake: Intake) {
        let mut next = Some(intake);
        while let Some(intake) = next.take() {
            match intake {
                Intake::Delivery(tag, delivery) => {
                    if let Err(error) = self.ledger.deliver(tag) {
                        let cause = error.to_string();
                        let what = "taking a delivery";
                        return self.lose(&BrokerError::Lost { what, cause });
                    }
                    self.unproven.delivered(tag, self.window);
                    self.accept(tag, delivery);
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
    fn accept(&mut self, tag: u64, mut delivery: Arc<Delivery>) {
        let undecodable = delivery.undecodable().map(str::to_owned);
        if undecodable.is_some() {
            // The mark is the guard's word to this process, and no part of the message.
            let headers = &mut Arc::make_mut(&mut delivery).properties.headers;
            headers.remove(header::UNDECODABLE);
        }
        let now = Timestamp::now();
        let received = receive(delivery, self.delayed_by_broker, now);
        let identity = match &undecodable {
            None => self.handlers_identity(&received.delivery),
            Some(_) => None,
        };
        let work = Work {
            identity: Identity::of(&received, identity.as_deref()),
            received,
            arrived: Instant::now(),
        };
        let Some(work) = self.unless_known(tag, work) else {
            return;
        };
        if let Some(error) = undecodable {
            let reason = Reason::Undecodable;
            return self.set_aside(tag, work, Outcome::Dead { reason, error });
        }
        if work.received.copy.is_some() && work.received.is_expired(now) {
            self.expired(tag, work);
            return;
        }
        if let Some(left) = time_left(&work.received, now) {
            self.wait_longer(tag, work, left);
            return;
        }
        let size = work.delivery().body.len() as u64;
        if size <= self.settings.max_body {
            let generation = self.channel.as_ref().map(ConsumeChannel::generation);
            if let Some(generation) = generation {
                let place = ChannelTag { generation, tag };
                self.line.push(Waiting { place, work });
            }
            return;
        }
        let outcome = Outcome::Dead {
            reason: Reason::TooLarge,
            error: format!(
                "the body has {size} bytes; node {:?} takes {} (max_body)",
                self.settings.queue, self.settings.max_body
            ),
        };
        self.set_aside(tag, work, outcome);
    }

    /// Does with a delivery what follows from `outcome`, though it was not run.
    fn set_aside(&mut self, tag: u64, work: Work, outcome: Outcome) {
        self.log(&outcome, work.delivery());
        let runs = work.delivery().attempt - 1;
        self.follow(tag, work, outcome, runs);
    }

    /// What the handler says identifies a message without an id.
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

    /// The broker cancelled the consumer. Another one gets a channel of its own: after a consumer time-out RabbitMQ 4.3
    /// still knows the old one, and closes the whole connection if its tag is used again. What runs is adopted when
    /// the broker delivers it again.
    fn cancelled_by_broker(&mut self) {
        // A drain and a pause settle on the channel that they have.
        if !self.is_running() {
            return;
        }
        let cause = self.why_cancelled();
        self.queue_type = None;
        let unstarted = self.line.empty().len() as u64;
        self.metrics.handed_back.inc_by(unstarted);
        if let Some(channel) = &self.channel {
            channel.hand_back_all();
        }
        self.lose(&BrokerError::Cancelled { cause });
    }

    /// Why the broker may have cancelled the consumer, in words. It does not say so itself.
    fn why_cancelled(&self) -> String {
        let oldest = self.running.values().min_by_key(|run| run.started);
        let Some(oldest) = oldest.filter(|_| self.queue_type == Some(QueueType::Quorum)) else {
            return "the queue was deleted or moved".to_owned();
        };
        let id = &oldest.work.delivery().properties.message_id;
        let order = if self.single_active_consumer {
            "; the broker may run the next message beside it, so their order is lost"
        } else {
            ""
        };
        format!(
            "consumer time-out, or the queue was deleted; message {} has run for {:.1?}{order}",
            id.as_deref().unwrap_or("without an id"),
            oldest.started.elapsed(),
        )
    }

    pub(super) fn start_ready(&mut self) {
        while self.is_running() && self.waiting.is_none() && !self.line.is_empty() {
            match self.slots.try_acquire() {
                Some(slot) => self.start_next(slot),
                None => self.waiting = Some(Box::pin(self.slots.acquire())),
            }
        }
    }

    /// Whether a slot may go on with the next delivery by itself. Slots of a pool are shared in turn, and where order
    /// counts the node's task alone says what starts.
    fn goes_on(&self) -> bool {
        matches!(self.settings.slots, Slots::Own(_)) && !self.single_active_consumer
    }

    pub(super) fn start_next(&mut self, slot: Slot) {
        let Some((run, Waiting { place, work })) = self.line.first() else {
            return;
        };
        self.metrics.run_began(run);
        let begin = Start {
            run,
            place,
            work,
            slot,
            lease: Lease::new(
                self.slots.clone(),
                self.drain_signal.clone(),
                self.events_sender.clone(),
                Arc::clone(&self.line),
                self.single_active_consumer,
            ),
            handler: self.handler.clone(),
            drain: self.drain_signal.clone(),
            shortages: self.metrics.shortages.clone(),
            timeout: self.settings.timeout,
            hold_max: self.settings.hold_max,
            events: self.events_sender.clone(),
            line: self.goes_on().then(|| Arc::clone(&self.line)),
        };
        self.running.insert(run, start(begin, &self.runtime));
    }
}

/// How long a delivery has to wait yet before it may be run.
fn time_left(received: &Received, now: Timestamp) -> Option<Duration> {
    let not_before = received.copy.as_ref()?.not_before?;
    let at = Timestamp::from_millisecond(not_before).ok()?;
    let left = now.duration_until(at);
    Duration::try_from(left).ok().filter(|left| *left > EARLY)
}

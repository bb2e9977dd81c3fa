//! The consumer's life: opened, cancelled, lost, opened again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::NodeState;
use super::command::unless_interrupted;
use super::opening::{Opened, Opening, open, reopen};
use super::port::{BrokerChannel as _, BrokerLink};
use super::task::{Mode, Task};
use crate::broker::{Attempt, BrokerError, QueueFacts};
use crate::config::QueueType;
use crate::lifecycle::limits::OPENING_LIMIT;
use crate::settlement::Written;

/// The time limit for taking in deliveries that are in memory.
const REST_LIMIT: Duration = Duration::from_secs(1);
/// How long the broker may take to close a channel whose consumer it cancelled.
const RETIRE_LIMIT: Duration = Duration::from_secs(1);
/// How long the broker may take to cancel a consumer.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

impl<L: BrokerLink> Task<L> {
    /// Awaits a consumer that is on its way, for a limited time. If it is cancelled in order, its deliveries stay as they
    /// were; if it were dropped, the broker would count them as failed.
    pub(super) async fn finish_opening(&mut self) {
        let Some(opening) = self.opening.take() else {
            return;
        };
        if let Some(opened) = self.unless_interrupted(OPENING_LIMIT, opening).await {
            self.opened(opened);
        } else {
            info!(queue = %self.queue, "the consumer could not be opened in time; the drain goes on without it");
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
    /// If the cancel is not known to have arrived. Deliveries that still come are not taken.
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
        // Deliveries before cancel-ok are in memory; the limit guards against a stream that never ends.
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
        let step = unless_interrupted(self.commands.clone(), limit, future);
        self.meanwhile(step).await
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
        if self.mode != Mode::Running
            || self.retiring
            || self.opening.is_some()
            || self.reopen_at.is_some()
        {
            return;
        }
        let Some(link) = self.link() else { return };
        self.opening = Some(match &self.channel {
            None => self.open_channel(link),
            Some(channel) => reopen(
                link,
                Arc::clone(&self.settings),
                channel,
                self.facts.clone(),
            ),
        });
    }

    /// Opens a channel and consumes on it, with a consumer tag of its own.
    pub(super) fn open_channel(&mut self, link: L) -> Opening<L> {
        let settings = Arc::clone(&self.settings);
        let prefetch = self.caution.prefetch(&link, self.mode, settings.prefetch);
        self.opened_channels += 1;
        let tag = match self.opened_channels {
            1 => self.worker.clone(),
            number => format!("{}.{number}", self.worker),
        };
        open(
            link,
            settings,
            Arc::clone(&self.queue),
            tag,
            self.facts.clone(),
            prefetch,
        )
    }

    pub(super) fn opened(&mut self, opened: Result<Box<Opened<L>>, BrokerError>) {
        if let Some(link) = self.link() {
            link.note_answer(&opened);
        }
        let facts = match opened.map(|opened| *opened) {
            Ok(Opened::Channel(mut channel, consumer, facts)) => {
                channel.attach(consumer);
                let prefetch = self.settings.prefetch.into();
                let generation = channel.generation();
                self.book.open(generation, prefetch, Instant::now());
                self.channel = Some(channel);
                facts
            }
            Ok(Opened::Consumer(consumer, facts)) => {
                if let Some(channel) = &mut self.channel {
                    channel.attach(consumer);
                }
                self.book.widen(self.settings.prefetch.into());
                facts
            }
            Err(error) => {
                self.not_opened(error);
                return;
            }
        };
        self.single_active_consumer |= facts.single_active_consumer;
        self.delayed_by_broker = facts.delayed_retry;
        if facts.delivery_limit && self.opened_at.is_none() {
            warn!(
                queue = %self.queue,
                "the queue has a delivery limit, by default 20: the broker drops a message that was lost with its \
                 channel, or before RabbitMQ 4.3 handed back, more often"
            );
        }
        if !facts.differences.is_empty() && self.opened_at.is_none() {
            warn!(
                queue = %self.queue,
                differences = facts.differences.join("; "),
                "the queue differs from the configuration; it is used as it is"
            );
        }
        self.opened_at = Some(Instant::now());
        self.consumer_watch.alive(Instant::now());
        self.backoff.reset();
        self.copier.queues_are_there();
        self.prepare_delay_queues();
        self.explain_cancel(&facts);
        info!(
            queue = %self.queue,
            messages = facts.messages,
            single_active_consumer = self.single_active_consumer,
            "consuming"
        );
        self.state.send_replace(NodeState::Consuming(facts.kind));
        self.facts = Some(facts);
    }

    /// Declares the delay queues, once, so that they are old enough when they are needed.
    pub(super) fn prepare_delay_queues(&mut self) {
        let copies_retries = self.settings.retry.max_attempts > 1 && !self.delayed_by_broker;
        if self.preparing.is_none() && self.settings.declare && copies_retries {
            let prepare = tokio::spawn(self.copier.clone().prepare());
            self.preparing = Some(AbortOnDropHandle::new(prepare));
        }
    }

    /// A consumer could not be opened.
    fn not_opened(&mut self, error: BrokerError) {
        let attempt = self.backoff.attempts() + 1;
        if error.is_refusal() {
            warn!(
                queue = %self.queue,
                attempt,
                %error,
                "the broker refuses the queue; trying again"
            );
            // A queue that was there may come back soon.
            let wait = match self.opened_at {
                None => self.backoff.after(Attempt::Refused, rand::random()),
                Some(_) => self.backoff.next(rand::random()),
            };
            self.reopen_at = Some(Instant::now() + wait);
            self.state.send_replace(NodeState::Refused(error));
            return;
        }
        warn!(queue = %self.queue, attempt, %error, "cannot consume; trying again");
        if self.channel.is_some() {
            self.lose(&error);
        }
        self.try_again();
    }

    pub(super) fn try_again(&mut self) {
        self.state.send_replace(NodeState::Opening);
        self.reopen_at = Some(Instant::now() + self.backoff.next(rand::random()));
    }

    /// The broker cancelled the consumer. Another one gets a channel and a tag of its own: after a consumer time-out
    /// RabbitMQ 4.3 still knows the old one, and closes the whole connection if its tag is used again.
    pub(super) fn cancelled_by_broker(&mut self) {
        // A drain and a pause settle on the channel that they have.
        if self.mode != Mode::Running {
            return;
        }
        let order = if self.single_active_consumer && !self.runs.is_empty() {
            "; the broker may run the next message beside what runs here, so that their order is lost"
        } else {
            ""
        };
        warn!(
            queue = %self.queue,
            running = self.runs.len(),
            "the broker cancelled the consumer: the queue was deleted or moved, or a delivery was unacknowledged for too long{order}"
        );
        self.hand_back_unstarted();
        self.facts = None;
        self.cancelled_while_running = self.runs.values().map(|run| run.started).min();
        self.retiring = true;
    }

    /// Closes the channel of a consumer that the broker has cancelled. All that is unsettled goes back; what runs is
    /// adopted when it is delivered on the next channel.
    pub(super) async fn retire_channel(&mut self) {
        if !self.retiring {
            return;
        }
        self.written_unless_interrupted().await;
        if let Some(channel) = self.channel.take() {
            channel.hand_back_all();
            let close = channel.close(RETIRE_LIMIT);
            // However it ended, the queue may have taken its deliveries back before.
            let _ = unless_interrupted(self.commands.clone(), RETIRE_LIMIT, close).await;
            self.channel_ended(Written::MayBeTooLate);
        }
        // A drain that follows does not count what was decided meanwhile.
        self.run_events();
        self.retiring = false;
        self.try_again();
    }

    /// A quorum queue that is still there after the broker cancelled its consumer: then a delivery of it was unacknowledged
    /// for too long, unless somebody has deleted the queue and declared it again. A classic queue's time-out ends the channel.
    fn explain_cancel(&mut self, facts: &QueueFacts) {
        let Some(began) = self.cancelled_while_running.take() else {
            return;
        };
        if facts.is_new || facts.kind == Some(QueueType::Classic) {
            return;
        }
        self.metrics.settling.consumer_timeouts.inc();
        warn!(
            queue = %self.queue,
            oldest_run = ?began.elapsed(),
            "consumer time-out: a delivery was unacknowledged for longer than the broker's consumer_timeout, and the broker \
             took it back; its run goes on and settles the redelivery"
        );
    }
}

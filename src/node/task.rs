//! The node's task: what comes up next, and what follows from it.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::command::Command;
use super::opening::{Opened, Opening, open, reopen};
use super::run::{Completion, Run, Start, start};
use super::{NodeDrain, NodeParts};
use crate::broker::{Backoff, BrokerError, ConsumeChannel, Intake, Link, SessionState, Write};
use crate::config::NodeSettings;
use crate::delivery::Delivery;
use crate::handler::{AnyHandler, Context, Outcome, Reason};
use crate::lifecycle::DrainSignal;
use crate::metrics::NodeMetrics;
use crate::retry;
use crate::settlement::{Call, Decision, Ledger, Settlement, decide};

/// How long the broker may take to cancel a consumer.
const CANCEL_LIMIT: Duration = Duration::from_secs(5);

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeState {
    /// On the way to its first consumer, or to another after a loss.
    Opening,
    /// Consuming.
    Consuming,
    /// Not consuming, by command.
    Paused,
    /// Its queue was refused before it ever consumed; it does not try again.
    Refused(BrokerError),
    /// Stopping in order.
    Draining,
}

pub(super) struct Task {
    pub(super) settings: Arc<NodeSettings>,
    pub(super) queue: Arc<str>,
    handler: AnyHandler,
    slots: Arc<tokio::sync::Semaphore>,
    consumer_tag: String,
    session: watch::Receiver<SessionState>,
    pub(super) metrics: NodeMetrics,
    drain_signal: DrainSignal,
    work: tokio::runtime::Handle,
    pub(super) commands: watch::Receiver<Command>,
    pub(super) state: watch::Sender<NodeState>,
    completions_sender: mpsc::UnboundedSender<Completion>,
    completions: mpsc::UnboundedReceiver<Completion>,

    pub(super) channel: Option<ConsumeChannel>,
    opening: Option<Opening>,
    reopen_at: Option<Instant>,
    backoff: Backoff,
    consumed_before: bool,
    pub(super) single_active_consumer: bool,

    pub(super) ledger: Ledger,
    pub(super) ready: VecDeque<(u64, Arc<Delivery>)>,
    pub(super) running: HashMap<u64, Run>,
    next_run: u64,
    waiting: Option<Pin<Box<dyn Future<Output = OwnedSemaphorePermit> + Send>>>,
    held: BTreeMap<(Instant, u64), Settlement>,
    pub(super) writes: FuturesUnordered<Write>,
    calls: Vec<Call>,
    /// What the drain has come to; `None` before it.
    pub(super) drain: Option<NodeDrain>,
}

enum Happening {
    Completed(Completion),
    Written(Result<(), BrokerError>),
    Slot(OwnedSemaphorePermit),
    Intake(Intake),
    Opened(Result<Box<Opened>, BrokerError>),
    Due,
    Link,
}

impl Task {
    pub(super) fn new(
        parts: NodeParts,
        commands: watch::Receiver<Command>,
        state: watch::Sender<NodeState>,
        completions_sender: mpsc::UnboundedSender<Completion>,
        completions: mpsc::UnboundedReceiver<Completion>,
    ) -> Self {
        Self {
            queue: parts.settings.queue.as_str().into(),
            single_active_consumer: parts.settings.single_active_consumer,
            settings: Arc::new(parts.settings),
            handler: parts.handler,
            slots: parts.slots,
            consumer_tag: parts.consumer_tag,
            session: parts.session,
            metrics: parts.metrics,
            drain_signal: parts.drain,
            work: parts.work,
            commands,
            state,
            completions_sender,
            completions,
            channel: None,
            opening: None,
            reopen_at: None,
            backoff: Backoff::default(),
            consumed_before: false,
            ledger: Ledger::new(),
            ready: VecDeque::new(),
            running: HashMap::new(),
            next_run: 0,
            waiting: None,
            held: BTreeMap::new(),
            writes: FuturesUnordered::new(),
            calls: Vec::new(),
            drain: None,
        }
    }

    /// Consumes, pauses and resumes as commanded, until a drain is commanded and done.
    pub(super) async fn run(mut self) -> NodeDrain {
        let mut commands = self.commands.clone();
        loop {
            let command = *commands.borrow_and_update();
            match command {
                Command::Run => self.resume(),
                Command::Pause => self.pause().await,
                Command::Drain { .. } | Command::Abort { .. } => return self.drain().await,
            }
            loop {
                tokio::select! {
                    biased;
                    changed = commands.changed() => match changed {
                        Ok(()) => break,
                        // Without anyone to command it a node drains at once.
                        Err(_gone) => return self.drain().await,
                    },
                    () = self.turn() => {}
                }
            }
        }
    }

    fn resume(&mut self) {
        if let (Some(channel), Some(link)) = (&self.channel, self.link())
            && !channel.is_consuming()
        {
            self.opening = Some(reopen(link, Arc::clone(&self.settings), channel));
        }
        if !matches!(*self.state.borrow(), NodeState::Refused(_)) {
            self.state.send_replace(NodeState::Opening);
        }
    }

    async fn pause(&mut self) {
        self.stop_intake();
        if !self.single_active_consumer {
            self.cancel_consumer().await;
            self.hand_back_unstarted();
        }
        self.state.send_replace(NodeState::Paused);
    }

    fn is_running(&self) -> bool {
        matches!(*self.commands.borrow(), Command::Run) && self.drain.is_none()
    }

    fn link(&self) -> Option<Link> {
        self.session.borrow().link().cloned()
    }

    /// From now on nothing starts, and no consumer is made.
    pub(super) fn stop_intake(&mut self) {
        self.opening = None;
        self.reopen_at = None;
        self.waiting = None;
    }

    /// Cancels the consumer and takes in what the broker sent before cancel-ok: after it, the set of
    /// deliveries is final.
    pub(super) async fn cancel_consumer(&mut self) {
        let Some(channel) = self
            .channel
            .as_ref()
            .filter(|channel| channel.is_consuming())
        else {
            return;
        };
        let limit = self.commands.borrow().within(CANCEL_LIMIT);
        let cancel = channel.cancel(limit);
        if let Err(error) = self.meanwhile(cancel).await {
            warn!(queue = %self.queue, %error, "the consumer could not be cancelled in order");
            if let Some(channel) = &mut self.channel {
                channel.detach();
            }
            return;
        }
        while self
            .channel
            .as_ref()
            .is_some_and(ConsumeChannel::is_consuming)
        {
            self.turn().await;
        }
    }

    /// Decides to hand back every delivery that has not started, and every one that waits for its retry.
    pub(super) fn hand_back_unstarted(&mut self) {
        for (tag, _) in std::mem::take(&mut self.ready) {
            self.metrics.handed_back.inc();
            if let Some(drain) = &mut self.drain {
                drain.handed_back += 1;
            }
            self.settle(tag, Settlement::HandBack);
        }
        for ((_, tag), settlement) in std::mem::take(&mut self.held) {
            self.settle(tag, settlement);
        }
        self.flush();
    }

    /// Awaits `future` while the node's work goes on.
    pub(super) async fn meanwhile<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                biased;
                value = &mut future => return value,
                () = self.turn() => {}
            }
        }
    }

    /// Does the next thing that comes up. Cancel safe: it waits first and acts then.
    pub(super) async fn turn(&mut self) {
        self.flush();
        self.start_ready();
        self.seek_consumer();
        let next_due = self.held.first_key_value().map(|((due, _), _)| *due);
        let due = next_due.into_iter().chain(self.reopen_at).min();
        let consuming = self
            .channel
            .as_ref()
            .is_some_and(ConsumeChannel::is_consuming);
        let happening = tokio::select! {
            biased;
            Some(completion) = self.completions.recv() => Happening::Completed(completion),
            Some(written) = self.writes.next(), if !self.writes.is_empty() => {
                Happening::Written(written)
            }
            slot = pending_or(self.waiting.as_mut()) => Happening::Slot(slot),
            intake = next_intake(self.channel.as_mut()), if consuming => Happening::Intake(intake),
            opened = pending_or(self.opening.as_mut()) => Happening::Opened(opened),
            () = link_changed(&mut self.session), if !consuming => Happening::Link,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Happening::Due,
        };
        match happening {
            Happening::Completed(completion) => {
                self.complete(completion);
                while let Ok(completion) = self.completions.try_recv() {
                    self.complete(completion);
                }
            }
            Happening::Written(Ok(())) | Happening::Link => {}
            Happening::Written(Err(error)) => self.lose(&error),
            Happening::Slot(slot) => {
                self.waiting = None;
                self.start_next(slot);
            }
            Happening::Intake(intake) => self.take(intake),
            Happening::Opened(opened) => {
                self.opening = None;
                self.opened(opened);
            }
            Happening::Due => self.settle_due(),
        }
    }

    /// Writes what has been decided, unless a write is under way: while it is, more decisions gather, and
    /// the next flush takes them together. No timer, so a lone settlement is written at once.
    pub(super) fn flush(&mut self) {
        let Some(channel) = &self.channel else { return };
        if !self.writes.is_empty() || !self.ledger.has_decided() {
            return;
        }
        self.ledger.next_batch(&mut self.calls);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch is far below 2^52 calls"
        )]
        self.metrics.flush.observe(self.calls.len() as f64);
        for call in self.calls.drain(..) {
            self.writes.push(channel.settle(call));
        }
    }

    fn start_ready(&mut self) {
        while self.is_running() && self.waiting.is_none() && !self.ready.is_empty() {
            let slots = Arc::clone(&self.slots);
            match Arc::clone(&slots).try_acquire_owned() {
                Ok(slot) => self.start_next(slot),
                Err(_all_taken) => {
                    // The semaphore serves its waiters in order, so that no node of a pool starves.
                    self.waiting = Some(Box::pin(async move {
                        let slot = slots.acquire_owned().await;
                        slot.expect("the semaphore of slots is never closed")
                    }));
                }
            }
        }
    }

    fn start_next(&mut self, slot: OwnedSemaphorePermit) {
        let (Some((tag, delivery)), Some(channel)) = (self.ready.pop_front(), &self.channel) else {
            return;
        };
        let run = self.next_run;
        self.next_run += 1;
        self.metrics.in_flight.inc();
        let begin = Start {
            run,
            generation: channel.generation(),
            tag,
            delivery,
            slot,
            handler: self.handler.clone(),
            context: Context::new(self.drain_signal.clone()),
            timeout: self.settings.timeout,
            completions: self.completions_sender.clone(),
        };
        self.running.insert(run, start(begin, &self.work));
    }

    fn take(&mut self, intake: Intake) {
        let mut next = Some(intake);
        while let Some(intake) = next.take() {
            match intake {
                Intake::Delivery(tag, delivery) => {
                    if let Err(error) = self.ledger.deliver(tag) {
                        let cause = error.to_string();
                        let what = "taking a delivery";
                        return self.lose(&BrokerError::Lost { what, cause });
                    }
                    self.accept(tag, delivery);
                    next = next_intake(self.channel.as_mut()).now_or_never();
                }
                Intake::Ended => self.consumer_ended(),
                Intake::Lost(error) => self.lose(&error),
            }
        }
    }

    fn accept(&mut self, tag: u64, delivery: Arc<Delivery>) {
        let size = delivery.body.len() as u64;
        if size <= self.settings.max_body {
            self.ready.push_back((tag, delivery));
            return;
        }
        let outcome = Outcome::Dead {
            reason: Reason::TooLarge,
            error: format!(
                "the body has {size} bytes; node {:?} takes {} (max_body)",
                self.settings.queue, self.settings.max_body
            ),
        };
        self.count(&outcome, &delivery);
        self.follow(tag, &delivery, &outcome);
    }

    fn consumer_ended(&mut self) {
        // Our own cancel ends the consumer too; then there is nothing to do.
        if !self.is_running() {
            return;
        }
        warn!(queue = %self.queue, "the broker cancelled the consumer: its queue was deleted, or moved");
        self.hand_back_unstarted();
        self.try_again();
    }

    fn seek_consumer(&mut self) {
        let refused = matches!(*self.state.borrow(), NodeState::Refused(_));
        if !self.is_running() || refused || self.opening.is_some() || self.reopen_at.is_some() {
            return;
        }
        let Some(link) = self.link() else { return };
        match &self.channel {
            None => {
                let settings = Arc::clone(&self.settings);
                let tag = self.consumer_tag.clone();
                self.opening = Some(open(link, settings, Arc::clone(&self.queue), tag));
            }
            Some(channel) if !channel.is_consuming() => {
                self.opening = Some(reopen(link, Arc::clone(&self.settings), channel));
            }
            Some(_) => {}
        }
    }

    fn opened(&mut self, opened: Result<Box<Opened>, BrokerError>) {
        let facts = match opened.map(|opened| *opened) {
            Ok(Opened::Channel(mut channel, consumer, facts)) => {
                channel.attach(consumer);
                self.ledger = Ledger::new();
                self.channel = Some(channel);
                facts
            }
            Ok(Opened::Consumer(consumer, facts)) => {
                if let Some(channel) = &mut self.channel {
                    channel.attach(consumer);
                }
                facts
            }
            Err(error) if error.is_refusal() && !self.consumed_before => {
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

    fn try_again(&mut self) {
        self.state.send_replace(NodeState::Opening);
        self.reopen_at = Some(Instant::now() + self.backoff.next(rand::random()));
    }

    /// The channel is gone: its deliveries are the broker's again. What runs goes on; its outcome can no
    /// longer be settled, for its tag means nothing elsewhere.
    pub(super) fn lose(&mut self, error: &BrokerError) {
        if self.channel.take().is_none() {
            return;
        }
        self.opening = None;
        self.ready.clear();
        self.held.clear();
        self.waiting = None;
        let unwritten = self.writes.len() as u64;
        self.writes.clear();
        self.ledger = Ledger::new();
        self.metrics.unconfirmed.inc_by(unwritten);
        if let Some(drain) = &mut self.drain {
            drain.channel_lost();
        }
        warn!(queue = %self.queue, %error, running = self.running.len(), "the channel is lost");
        if self.is_running() {
            self.try_again();
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Some(run) = self.running.remove(&completion.run) else {
            // It was interrupted, and settled then.
            return;
        };
        self.metrics.in_flight.dec();
        self.metrics
            .handler
            .observe(run.started.elapsed().as_secs_f64());
        let Some(outcome) = completion.outcome else {
            self.interrupted(&run);
            return;
        };
        self.count(&outcome, &run.delivery);
        if let Some(drain) = &mut self.drain {
            drain.finished += 1;
        }
        let generation = self.channel.as_ref().map(ConsumeChannel::generation);
        if generation == Some(run.generation) {
            self.follow(run.tag, &run.delivery, &outcome);
        } else {
            info!(
                queue = %self.queue,
                message_id = run.delivery.properties.message_id,
                outcome = outcome.as_str(),
                "its channel is gone: the outcome cannot be settled, the broker delivers the message again"
            );
            self.metrics.unconfirmed.inc();
            if let Some(drain) = &mut self.drain {
                drain.unconfirmed += 1;
            }
        }
    }

    fn count(&self, outcome: &Outcome, delivery: &Delivery) {
        let message_id = delivery.properties.message_id.as_deref();
        match outcome {
            Outcome::Done => {
                self.metrics.done.inc();
                debug!(queue = %self.queue, message_id, "done");
            }
            Outcome::Retry { reason, error, .. } => {
                self.metrics.retried.inc();
                let reason = reason.as_str();
                warn!(queue = %self.queue, message_id, attempt = delivery.attempt, reason, error, "retry");
            }
            Outcome::Dead { reason, error } => {
                self.metrics.dead.inc();
                let reason = reason.as_str();
                warn!(queue = %self.queue, message_id, attempt = delivery.attempt, reason, error, "dead");
            }
        }
    }

    /// Does what follows from an outcome of a delivery of the present channel.
    fn follow(&mut self, tag: u64, delivery: &Delivery, outcome: &Outcome) {
        let delay = retry::delay(&self.settings.retry, delivery.attempt, rand::random());
        match decide(outcome, delay, retry::LONGEST_HELD) {
            Decision::Now(settlement) => self.settle(tag, settlement),
            // A drain does not wait for retries: somebody else may run them.
            Decision::After(_, settlement) if self.drain.is_some() => self.settle(tag, settlement),
            Decision::After(delay, settlement) => {
                self.held.insert((Instant::now() + delay, tag), settlement);
            }
        }
    }

    pub(super) fn settle(&mut self, tag: u64, settlement: Settlement) {
        if let Some(drain) = &mut self.drain {
            drain.unproven += 1;
        }
        self.ledger
            .decide(tag, settlement)
            .expect("each delivery of the present channel is decided once");
    }

    fn settle_due(&mut self) {
        let now = Instant::now();
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.reopen_at = None;
        }
        while let Some(entry) = self.held.first_entry()
            && entry.key().0 <= now
        {
            let ((_, tag), settlement) = entry.remove_entry();
            self.settle(tag, settlement);
        }
    }
}

async fn pending_or<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn link_changed(session: &mut watch::Receiver<SessionState>) {
    if session.changed().await.is_err() {
        // The session has ended for good: there will be no other link.
        std::future::pending().await
    }
}

async fn next_intake(channel: Option<&mut ConsumeChannel>) -> Intake {
    match channel {
        Some(channel) => channel.next().await,
        None => std::future::pending().await,
    }
}

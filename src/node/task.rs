//! The node's task: what comes up next, and what follows from it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::command::Command;
use super::copier::Copier;
use super::copying::{Copied, Copying};
use super::line::Line;
use super::opening::{Opened, Opening};
use super::run::{Run, RunEvent};
use super::slots::{Slot, SlotPool};
use super::{NodeDrain, NodeParts};
use crate::broker::{Backoff, BrokerError, ConsumeChannel, Intake, Link, SessionState, Write};
use crate::config::{NodeSettings, QueueType};
use crate::handler::AnyHandler;
use crate::lifecycle::DrainSignal;
use crate::metrics::NodeMetrics;
use crate::settlement::{Adoption, Backlog, Call, Copies, Ledger, Pace, Unproven};
use crate::wait;

/// How many messages of lost channels are remembered, beside twice the prefetch.
const REMEMBERED: usize = 256;

/// How a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeState {
    /// On the way to its first consumer, or to another after a loss.
    Opening,
    /// Consuming.
    Consuming,
    /// Not consuming, by command.
    Paused,
    /// The broker refuses its queue, and it has never consumed. It tries again, with backoff.
    Refused(BrokerError),
    /// Stopping in order.
    Draining,
}

pub(super) struct Task {
    pub(super) settings: Arc<NodeSettings>,
    pub(super) queue: Arc<str>,
    pub(super) handler: AnyHandler,
    pub(super) slots: SlotPool,
    pub(super) consumer_tag: String,
    pub(super) session: watch::Receiver<SessionState>,
    pub(super) metrics: NodeMetrics,
    pub(super) drain_signal: DrainSignal,
    pub(super) runtime: tokio::runtime::Handle,
    pub(super) commands: watch::Receiver<Command>,
    pub(super) state: watch::Sender<NodeState>,
    pub(super) events_sender: mpsc::UnboundedSender<RunEvent>,
    pub(super) events: mpsc::UnboundedReceiver<RunEvent>,

    pub(super) channel: Option<ConsumeChannel>,
    pub(super) opening: Option<Opening>,
    pub(super) reopen_at: Option<Instant>,
    pub(super) backoff: Backoff,
    pub(super) consumed_before: bool,
    pub(super) single_active_consumer: bool,
    /// The queue's type, once it is known.
    pub(super) queue_type: Option<QueueType>,
    /// Whether the queue delays and counts what is rejected.
    pub(super) delayed_by_broker: bool,

    pub(super) ledger: Ledger,
    /// How many deliveries of the present channel the broker lets be unsettled.
    pub(super) window: u64,
    /// What was settled on the present channel and may not have arrived.
    pub(super) unproven: Unproven,
    /// What was lost with earlier channels and may be delivered again.
    pub(super) adoption: Adoption,
    /// Copies that came.
    pub(super) copies: Copies,
    pub(super) line: Arc<Line>,
    pub(super) running: HashMap<u64, Run>,
    pub(super) waiting: Option<Pin<Box<dyn Future<Output = Slot> + Send>>>,
    pub(super) copier: Copier,
    /// Deliveries whose copies are on their way.
    pub(super) copying: HashMap<u64, Copying>,
    pub(super) next_copy: u64,
    pub(super) copied: FuturesUnordered<Copied>,
    pub(super) writes: FuturesUnordered<Write>,
    pace: Pace,
    pub(super) calls: Vec<Call>,
    /// Whether settlements wait for others, so that all go back in the order of the queue.
    pub(super) gathering: bool,
    /// The connection on which a drain has asked for its last deliveries.
    pub(super) taken_back_on: Option<u64>,
    /// What the drain has come to; `None` before it.
    pub(super) drain: Option<NodeDrain>,
}

enum Happening {
    Run(RunEvent),
    Written(Result<(), BrokerError>),
    Slot(Slot),
    Copied(u64, Option<Result<(), BrokerError>>),
    Intake(Intake),
    Opened(Result<Box<Opened>, BrokerError>),
    Due,
    Flush,
    Link,
}

impl Task {
    pub(super) fn new(
        parts: NodeParts,
        session: watch::Receiver<SessionState>,
        commands: watch::Receiver<Command>,
        state: watch::Sender<NodeState>,
        events_sender: mpsc::UnboundedSender<RunEvent>,
        events: mpsc::UnboundedReceiver<RunEvent>,
    ) -> Self {
        let settings = Arc::new(parts.settings);
        Self {
            queue: settings.queue.as_str().into(),
            single_active_consumer: settings.single_active_consumer,
            queue_type: None,
            delayed_by_broker: settings.delayed_retry,
            adoption: Adoption::new(2 * usize::from(settings.prefetch) + REMEMBERED),
            copier: Copier::new(Arc::clone(&settings), parts.publish),
            settings,
            handler: parts.handler,
            slots: parts.slots,
            consumer_tag: parts.consumer_tag,
            session,
            metrics: parts.metrics,
            drain_signal: parts.drain,
            runtime: parts.work,
            commands: commands.clone(),
            state,
            events_sender,
            events,
            channel: None,
            opening: None,
            reopen_at: None,
            backoff: Backoff::default(),
            consumed_before: false,
            ledger: Ledger::new(),
            window: 0,
            unproven: Unproven::new(),
            copies: Copies::default(),
            line: Arc::new(Line::new(commands)),
            running: HashMap::new(),
            waiting: None,
            copying: HashMap::new(),
            next_copy: 0,
            copied: FuturesUnordered::new(),
            writes: FuturesUnordered::new(),
            pace: Pace::default(),
            calls: Vec::new(),
            gathering: false,
            taken_back_on: None,
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
            if command == Command::Pause {
                self.hand_over().await;
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
                if command == Command::Pause {
                    self.hand_over().await;
                }
            }
        }
    }

    fn resume(&mut self) {
        if matches!(*self.state.borrow(), NodeState::Refused(_)) {
            return;
        }
        // The next turn seeks a consumer where there is none.
        let state = if self.is_consuming() {
            NodeState::Consuming
        } else {
            NodeState::Opening
        };
        self.state.send_replace(state);
    }

    async fn pause(&mut self) {
        self.finish_opening().await;
        self.stop_intake();
        if !self.single_active_consumer {
            match self.cancel_consumer().await {
                Ok(()) => self.hand_back_unstarted(),
                // Its tag may be taken still, so that the channel cannot be consumed on again.
                Err(error) => self.lose(&error),
            }
        }
        self.state.send_replace(NodeState::Paused);
    }

    /// In a pause a queue with a single active consumer goes over to another as in a drain: by the end of
    /// the channel, once nothing of it runs here.
    async fn hand_over(&mut self) {
        let idle = self.running.is_empty() && self.copying.is_empty();
        if self.single_active_consumer && self.channel.is_some() && idle {
            self.stop_intake();
            self.close().await;
            self.forget_channel();
        }
    }

    /// Whether a consumer is there.
    pub(super) fn is_consuming(&self) -> bool {
        self.channel
            .as_ref()
            .is_some_and(ConsumeChannel::is_consuming)
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(*self.commands.borrow(), Command::Run) && self.drain.is_none()
    }

    pub(super) fn link(&self) -> Option<Link> {
        self.session.borrow().link().cloned()
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
        let flush_at = self.flush();
        self.start_ready();
        self.seek_consumer();
        let due = self.reopen_at;
        let consuming = self.is_consuming();
        let happening = tokio::select! {
            biased;
            Some(event) = self.events.recv() => Happening::Run(event),
            Some(written) = self.writes.next(), if !self.writes.is_empty() => {
                Happening::Written(written)
            }
            slot = wait::some(self.waiting.as_mut()) => Happening::Slot(slot),
            Some((copy, published)) = self.copied.next(), if !self.copied.is_empty() => {
                Happening::Copied(copy, published)
            }
            intake = next_intake(self.channel.as_mut()), if consuming => Happening::Intake(intake),
            opened = wait::some(self.opening.as_mut()) => Happening::Opened(opened),
            () = wait::changed(&mut self.session), if !consuming => Happening::Link,
            () = wait::reached(due) => Happening::Due,
            () = wait::reached(flush_at) => Happening::Flush,
        };
        match happening {
            Happening::Run(event) => {
                self.run_event(event);
                while let Ok(event) = self.events.try_recv() {
                    self.run_event(event);
                }
            }
            // The next turn begins with a flush.
            Happening::Written(Ok(())) | Happening::Flush => {}
            Happening::Link => self.look_at_channel(),
            Happening::Written(Err(error)) => self.lose(&error),
            Happening::Slot(slot) => {
                self.waiting = None;
                self.start_next(slot);
            }
            Happening::Copied(copy, published) => self.copy_ended(copy, published),
            Happening::Intake(intake) => self.take(intake),
            Happening::Opened(opened) => {
                self.opening = None;
                self.opened(opened);
            }
            Happening::Due => self.reopen_at = None,
        }
    }

    /// Writes what has been decided, unless a write is under way: while it is, more decisions gather, and
    /// the next flush takes them together. A lone settlement, and one that lets the broker go on, is written at once;
    /// see [`Pace`]. Returns when to flush what has to wait for that.
    pub(super) fn flush(&mut self) -> Option<Instant> {
        if self.gathering || !self.writes.is_empty() || !self.ledger.has_decided() {
            return None;
        }
        let now = Instant::now();
        let wait = self
            .is_running()
            .then(|| self.pace.wait(self.backlog(), now));
        if let Some(at) = wait.flatten() {
            return Some(at);
        }
        let channel = self.channel.as_mut()?;
        self.pace.wrote(now);
        self.ledger.next_batch(&mut self.calls);
        self.unproven.flushed();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a batch is far below 2^52 calls"
        )]
        self.metrics.flush.observe(self.calls.len() as f64);
        for call in self.calls.drain(..) {
            self.writes.push(channel.settle(call));
        }
        None
    }

    fn backlog(&self) -> Backlog {
        let decided = self.ledger.decided();
        Backlog {
            decided,
            unsettled: decided + self.ledger.open(),
            prefetch: self.settings.prefetch.into(),
        }
    }
}

pub(super) async fn next_intake(channel: Option<&mut ConsumeChannel>) -> Intake {
    match channel {
        Some(channel) => channel.next().await,
        None => std::future::pending().await,
    }
}

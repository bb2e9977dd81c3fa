//! The node's task: what comes up next, and what follows from it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::caution::Caution;
use super::command::Command;
use super::consumer_watch::{ConsumerWatch, Look};
use super::copier::Copier;
use super::copying::{Copied, Copying};
use super::in_place::InPlace;
use super::line::Line;
use super::opening::{Opened, Opening};
use super::pause::remembered;
use super::port::{BrokerChannel, BrokerLink};
use super::run::{Run, RunEvent};
use super::slots::{Slot, SlotPool};
use super::{NodeDrain, NodeParts, NodeState};
use crate::broker::{Backoff, BrokerError, Intake, QueueFacts, SessionState, Write};
use crate::config::{NodeSettings, QueueType};
use crate::handler::{AnyHandler, Surroundings};
use crate::lifecycle::{DrainSignal, DrainTrigger};
use crate::metrics::NodeMetrics;
use crate::settlement::{Book, Call, Pace};
use crate::wait;

/// The mode that the node's task works in. It follows the command, which may have changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// It consumes, or tries to.
    Running,
    /// It consumes nothing.
    Paused,
    /// It stops in order.
    Draining,
}

/// What the node is told from outside.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub commands: watch::Receiver<Command>,
    pub settings: watch::Receiver<Arc<NodeSettings>>,
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact about the queue, independent of the others"
)]
pub(super) struct Task<L: BrokerLink> {
    pub(super) settings: Arc<NodeSettings>,
    pub(super) queue: Arc<str>,
    pub(super) handler: AnyHandler,
    pub(super) slots: SlotPool,
    /// The worker's id.
    pub(super) worker: String,
    /// Channels that were opened; the number tells their consumers apart.
    pub(super) opened_channels: u64,
    pub(super) session: watch::Receiver<SessionState<L>>,
    pub(super) metrics: NodeMetrics,
    /// Tells handlers that this node drains: with its worker, or alone.
    pub(super) drain_trigger: DrainTrigger,
    pub(super) drain_signal: DrainSignal,
    pub(super) surroundings: Arc<Surroundings>,
    pub(super) runtime: Handle,
    pub(super) commands: watch::Receiver<Command>,
    renewed: watch::Receiver<Arc<NodeSettings>>,
    pub(super) mode: Mode,
    pub(super) state: watch::Sender<NodeState>,
    pub(super) events_sender: mpsc::UnboundedSender<RunEvent>,
    pub(super) events: mpsc::UnboundedReceiver<RunEvent>,

    pub(super) channel: Option<L::Channel>,
    pub(super) opening: Option<Opening<L>>,
    pub(super) reopen_at: Option<Instant>,
    pub(super) backoff: Backoff,
    pub(super) caution: Caution<L>,
    pub(super) consumer_watch: ConsumerWatch,
    pub(super) looking: Option<Look>,
    /// When the last consumer was opened; nothing before the first.
    pub(super) opened_at: Option<Instant>,
    pub(super) single_active_consumer: bool,
    /// What is known of the queue.
    pub(super) facts: Option<QueueFacts>,
    /// Whether the queue delays and counts what is rejected.
    pub(super) delayed_by_broker: bool,

    /// Everything that the node has in hand.
    pub(super) book: Book,
    pub(super) line: Arc<Line>,
    pub(super) runs: HashMap<u64, Run>,
    /// Messages that wait for another run without a copy.
    pub(super) in_place: InPlace,
    pub(super) waiting: Option<Pin<Box<dyn Future<Output = Slot> + Send>>>,
    pub(super) copier: Copier<L>,
    /// Declares the delay queues, once.
    pub(super) preparing: Option<AbortOnDropHandle<()>>,
    /// Copies on their way.
    pub(super) copying: HashMap<u64, Copying>,
    pub(super) next_copy: u64,
    pub(super) copied: FuturesUnordered<Copied>,
    pub(super) writes: FuturesUnordered<Write>,
    pub(super) pace: Pace,
    pub(super) calls: Vec<Call>,
    /// Settlements wait for others, so that all deliveries go back in the order of the queue.
    pub(super) gathering: bool,
    /// Whether the channel is to be closed, because the broker cancelled its consumer.
    pub(super) retiring: bool,
    /// When the oldest of those runs began that went on when the broker cancelled the consumer.
    pub(super) cancelled_while_running: Option<Instant>,
    /// The connection on which a drain has asked for its last deliveries.
    pub(super) taken_back_on: Option<u64>,
    /// Message ids of the first runs that were cut off.
    pub(super) interrupted_ids: Vec<String>,
}

enum Happening<L: BrokerLink> {
    Run(RunEvent),
    Written(Result<(), BrokerError>),
    Slot(Slot),
    Copied(u64, Option<Result<(), BrokerError>>),
    Intake(Intake),
    Opened(Result<Box<Opened<L>>, BrokerError>),
    Due,
    InPlace,
    Flush,
    Link,
    Look,
    Looked(Result<u32, BrokerError>),
}

impl<L: BrokerLink> Task<L> {
    pub(super) fn new(
        parts: NodeParts<L>,
        session: watch::Receiver<SessionState<L>>,
        told: Told,
        state: watch::Sender<NodeState>,
        events_sender: mpsc::UnboundedSender<RunEvent>,
        events: mpsc::UnboundedReceiver<RunEvent>,
    ) -> Self {
        let settings = Arc::new(parts.settings);
        let Told {
            commands,
            settings: renewed,
        } = told;
        let drain_trigger = DrainTrigger::new();
        let surroundings = Surroundings {
            drain: drain_trigger.signal(),
            shortages: parts.metrics.shortages.clone(),
        };
        Self {
            queue: settings.queue.as_str().into(),
            single_active_consumer: settings.single_active_consumer,
            facts: None,
            delayed_by_broker: settings.delayed_retry,
            book: Book::new(remembered(&settings)),
            copier: Copier::new(Arc::clone(&settings), parts.publish),
            settings,
            handler: parts.handler,
            slots: parts.slots,
            worker: parts.worker,
            opened_channels: 0,
            session,
            metrics: parts.metrics,
            drain_signal: drain_trigger.signal(),
            surroundings: Arc::new(surroundings),
            drain_trigger,
            runtime: parts.work,
            commands: commands.clone(),
            renewed,
            mode: Mode::Running,
            state,
            events_sender,
            events,
            channel: None,
            opening: None,
            reopen_at: None,
            backoff: Backoff::default(),
            caution: Caution::none(),
            consumer_watch: ConsumerWatch::default(),
            looking: None,
            opened_at: None,
            line: Arc::new(Line::new(commands)),
            runs: HashMap::new(),
            in_place: InPlace::default(),
            waiting: None,
            copying: HashMap::new(),
            preparing: None,
            next_copy: 0,
            copied: FuturesUnordered::new(),
            writes: FuturesUnordered::new(),
            pace: Pace::default(),
            calls: Vec::new(),
            gathering: false,
            retiring: false,
            cancelled_while_running: None,
            taken_back_on: None,
            interrupted_ids: Vec::new(),
        }
    }

    /// Consumes, pauses and resumes as commanded, until a drain is commanded and done.
    pub(super) async fn run(mut self) -> NodeDrain {
        self.choose_thread();
        let mut commands = self.commands.clone();
        let mut renewed = self.renewed.clone();
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
                    () = wait::changed(&mut renewed) => {
                        let settings = Arc::clone(&renewed.borrow_and_update());
                        self.renew(settings).await;
                    }
                    () = self.turn() => {}
                }
                self.retire_channel().await;
                self.end_caution().await;
                if command == Command::Pause {
                    self.hand_over().await;
                }
            }
        }
    }

    fn resume(&mut self) {
        self.mode = Mode::Running;
        self.book.release_hand_backs();
        if matches!(*self.state.borrow(), NodeState::Refused(_)) {
            return;
        }
        // If there is no consumer, the next turn seeks one.
        let state = if self.is_consuming() {
            NodeState::Consuming(self.queue_type())
        } else {
            NodeState::Opening
        };
        self.state.send_replace(state);
    }

    /// The queue's type, if it is known.
    pub(super) fn queue_type(&self) -> Option<QueueType> {
        self.facts.as_ref().and_then(|facts| facts.kind)
    }

    /// Whether a consumer is there.
    pub(super) fn is_consuming(&self) -> bool {
        self.channel.as_ref().is_some_and(L::Channel::is_consuming)
    }

    /// Whether deliveries may start: the node runs, and nothing else has been commanded since.
    pub(super) fn may_start(&self) -> bool {
        self.mode == Mode::Running && matches!(*self.commands.borrow(), Command::Run)
    }

    pub(super) fn link(&self) -> Option<L> {
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

    /// Does the next thing that comes up. Cancel safe: it waits first and acts then. Whatever a caller looks at changes only
    /// in a turn that ends, so that no turn waits for what has happened already.
    pub(super) async fn turn(&mut self) {
        if self.run_events() || self.writes_ended() {
            return;
        }
        let wait = self.flush();
        let unseen = self.line.look_later(wait.map_or(0, |wait| wait.silent));
        if unseen && wait.is_none() {
            return;
        }
        let flush_at = wait.map(|wait| wait.until);
        self.start_ready();
        self.seek_consumer();
        let due = self.reopen_at;
        let in_place = self.in_place.next();
        let look_at = self.look_at();
        let consuming = self.is_consuming();
        let awaits_writes = self.awaits_writes();
        let happening = tokio::select! {
            biased;
            Some(event) = self.events.recv() => Happening::Run(event),
            Some(written) = self.writes.next(), if awaits_writes => Happening::Written(written),
            slot = wait::some(self.waiting.as_mut()) => Happening::Slot(slot),
            Some((copy, published)) = self.copied.next(), if !self.copied.is_empty() => {
                Happening::Copied(copy, published)
            }
            intake = next_intake(self.channel.as_mut()), if consuming => Happening::Intake(intake),
            opened = wait::some(self.opening.as_mut()) => Happening::Opened(opened),
            () = wait::changed(&mut self.session), if !consuming => Happening::Link,
            () = wait::reached(due) => Happening::Due,
            () = wait::reached(in_place) => Happening::InPlace,
            () = wait::reached(flush_at) => Happening::Flush,
            () = wait::reached(look_at) => Happening::Look,
            consumers = wait::some(self.looking.as_mut()) => Happening::Looked(consumers),
        };
        match happening {
            Happening::Run(event) => {
                self.run_event(event);
                self.run_events();
            }
            // The next turn begins with a flush.
            Happening::Written(Ok(())) | Happening::Flush => {}
            Happening::Link => self.look_at_channel(),
            Happening::Look => self.look(),
            Happening::Looked(consumers) => self.looked(consumers),
            Happening::Written(Err(error)) => self.lose(&error),
            Happening::Slot(slot) => {
                self.waiting = None;
                // A drain may have been commanded while the node awaits something else.
                if self.may_start() {
                    self.start_next(slot);
                }
            }
            Happening::Copied(copy, published) => self.copy_ended(copy, published),
            Happening::Intake(intake) => self.take(intake),
            Happening::Opened(opened) => {
                self.opening = None;
                self.opened(opened);
            }
            Happening::Due => self.reopen_at = None,
            Happening::InPlace => self.run_in_place(),
        }
    }
}

pub(super) async fn next_intake<C: BrokerChannel>(channel: Option<&mut C>) -> Intake {
    match channel {
        Some(channel) => channel.next().await,
        None => std::future::pending().await,
    }
}

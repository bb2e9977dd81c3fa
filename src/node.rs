//! One queue, consumed by one handler: the unit of state.
//!
//! A node is one task that owns everything about its queue: the channel, the ledger of its deliveries, what
//! runs, what is being written. Nothing of that is shared, so nothing of it is locked. What waits for a slot is in a line
//! that the slots take from too. Handlers run elsewhere and report back over one queue, bounded by the prefetch.

mod adopt;
mod ages;
mod caution;
mod command;
mod consumer;
mod consumer_watch;
mod copier;
mod copying;
mod drain;
mod flush;
mod in_place;
mod intake;
mod lease;
mod line;
#[cfg(test)]
mod model;
mod opening;
mod outcomes;
mod pause;
mod port;
mod run;
mod slots;
mod state;
mod take_back;
mod task;

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

pub(crate) use command::Command;
pub(crate) use drain::NodeDrain;
pub(crate) use slots::SlotPool;
pub(crate) use state::NodeState;

use port::BrokerLink;

use crate::broker::{AmqpRuntime, Isolation, Link, SessionState};
use crate::config::NodeSettings;
use crate::handler::AnyHandler;
use crate::lifecycle::WatchedTask;
use crate::metrics::NodeMetrics;

/// What a node is made of.
#[derive(Debug)]
pub(crate) struct NodeParts<L: BrokerLink = Link> {
    /// Its settings at first.
    pub settings: NodeSettings,
    /// Its handler.
    pub handler: AnyHandler,
    /// Its slots: its own, or a pool's.
    pub slots: SlotPool,
    /// The worker's id.
    pub worker: String,
    /// The connection that its retries and dead letters are published on.
    pub publish: watch::Receiver<SessionState<L>>,
    /// What it counts.
    pub metrics: NodeMetrics,
    /// Where its handlers run.
    pub work: Handle,
}

/// A running node.
#[derive(Debug)]
pub(crate) struct Node {
    commands: watch::Sender<Command>,
    settings: watch::Sender<Arc<NodeSettings>>,
    state: watch::Receiver<NodeState>,
    task: WatchedTask<NodeDrain>,
}

impl Node {
    /// Starts the node's task on `amqp`; it consumes as soon as there is a connection. `consume`: that connection, the shared
    /// one or one of its own.
    pub(crate) fn start(parts: NodeParts, consume: Isolation, amqp: &AmqpRuntime) -> Self {
        let (commands, receiver) = watch::channel(Command::Run);
        let (state_sender, state) = watch::channel(NodeState::Opening);
        let (sender, events) = mpsc::unbounded_channel();
        let name = format!("node {}", parts.settings.queue);
        let (session, relay) = consume.session_of(&parts.settings.queue);
        let (settings, renewed) = watch::channel(Arc::new(parts.settings.clone()));
        let told = task::Told {
            commands: receiver,
            settings: renewed,
        };
        let task = task::Task::new(parts, session, told, state_sender, sender, events);
        let beside = async move {
            tokio::select! {
                biased;
                drained = task.run() => drained,
                never = relay => match never {},
            }
        };
        Self {
            commands,
            settings,
            state,
            task: amqp.spawn(name, beside),
        }
    }

    /// Tells the node what to do from now on.
    pub(crate) fn command(&self, command: Command) {
        self.commands.send_replace(command);
    }

    /// Has the node go over to other settings, of which [`NodeSettings::may_become`] is true.
    pub(crate) fn renew(&self, settings: NodeSettings) {
        self.settings.send_replace(Arc::new(settings));
    }

    /// Commands the node from elsewhere.
    pub(crate) fn commander(&self) -> watch::Sender<Command> {
        self.commands.clone()
    }

    /// Observes the node's state.
    pub(crate) fn state(&self) -> watch::Receiver<NodeState> {
        self.state.clone()
    }

    /// Resolves when the node has drained, with what the drain did to it. It never resolves before a
    /// drain was commanded.
    pub(crate) fn drained(self) -> impl Future<Output = NodeDrain> + Send {
        // Now, not when it is awaited: a node with nothing to do drains at once.
        self.task.expect_end();
        async move {
            match self.task.join().await {
                Ok(drain) => drain,
                Err(error) => {
                    tracing::error!(%error, "a node's task ended badly; the broker takes back its deliveries");
                    NodeDrain::default()
                }
            }
        }
    }
}

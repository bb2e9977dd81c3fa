//! The worker's own task: it owns the phase, and acts on commands and on what becomes of its nodes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::{error, info, warn};

use super::control::Control;
use super::{DrainReport, Refusal, Request, WorkerCommand, WorkerError};
use crate::broker::{AmqpRuntime, BrokerError, Session, SessionState};
use crate::handler::AnyHandler;
use crate::lifecycle::{DrainTrigger, Event, Phase, TaskFailure, WatchedTask};
use crate::metrics::Metrics;
use crate::node::{self, Node, NodeState};
use crate::status::{Snapshot, Status};
use crate::wait;

pub(super) struct Supervisor {
    /// Kept so that the thread lives as long as the worker.
    pub amqp: Arc<AmqpRuntime>,
    /// Where handlers run, and are released.
    pub work: Handle,
    pub grace: Duration,
    pub phase: watch::Sender<Phase>,
    /// Why the worker takes no new work, if it takes none.
    pub readiness: watch::Sender<Result<(), String>>,
    pub snapshot: watch::Sender<Snapshot>,
    pub commands: mpsc::Receiver<Request>,
    pub drain: DrainTrigger,
    pub nodes: Vec<Node>,
    pub handlers: Vec<AnyHandler>,
    pub consume: Session,
    pub publish: Session,
    pub status: Option<Status>,
    pub control: Option<Control>,
    pub metrics: Metrics,
    #[cfg(feature = "endpoints")]
    pub _server: Option<WatchedTask<()>>,
}

impl Supervisor {
    /// Lives through the phases, until the drain is over.
    pub(super) async fn supervise(mut self) -> Result<DrainReport, WorkerError> {
        let mut states: Vec<_> = self.nodes.iter().map(Node::state).collect();
        let mut consume = self.consume.state();
        let tasks = self.amqp.tasks().clone();
        loop {
            if let Some((subject, cause)) = self.refusal(&states, &consume) {
                error!(subject, error = %cause, "the broker refuses the worker");
                self.drain(format!("refused: {cause}")).await;
                return Err(WorkerError::Refused { subject, cause });
            }
            self.ready(&states);
            self.describe(&states);
            tokio::select! {
                biased;
                failure = tasks.failed() => return Ok(self.fail(&failure).await),
                request = self.commands.recv() => if let Some(reason) = self.obey(request) {
                    return Ok(self.drain(reason).await);
                },
                () = any_changed(&mut states) => {}
                changed = consume.changed() => if changed.is_err() {
                    // The keeper has ended after a refusal, which the next turn sees.
                    tokio::task::yield_now().await;
                },
            }
        }
    }

    /// Nothing dies alone: when a task of the worker is gone, the rest drains in order.
    async fn fail(self, failure: &TaskFailure) -> DrainReport {
        let reason = failure.to_string();
        self.set_readiness(Err(reason.clone()));
        self.drain(reason).await
    }

    fn refusal(
        &self,
        states: &[watch::Receiver<NodeState>],
        consume: &watch::Receiver<SessionState>,
    ) -> Option<(String, BrokerError)> {
        if let SessionState::Refused(error) = &*consume.borrow() {
            return Some(("the connection".to_owned(), error.clone()));
        }
        let snapshot = self.snapshot.borrow();
        states
            .iter()
            .zip(&snapshot.nodes)
            .find_map(|(state, node)| match &*state.borrow() {
                NodeState::Refused(error) => {
                    Some((format!("queue {:?}", node.queue), error.clone()))
                }
                _ => None,
            })
    }

    /// The worker runs from the first time that every node consumes. It is ready while it runs and they all consume.
    fn ready(&self, states: &[watch::Receiver<NodeState>]) {
        let consuming =
            |state: &&watch::Receiver<NodeState>| *state.borrow() == NodeState::Consuming;
        let (consumers, nodes) = (states.iter().filter(consuming).count(), states.len());
        if *self.phase.borrow() == Phase::Starting && consumers == nodes {
            advance(&self.phase, Event::Ready);
            info!("worker running");
        }
        let phase = *self.phase.borrow();
        self.set_readiness(readiness(phase, consumers, nodes));
    }

    pub(super) fn set_readiness(&self, readiness: Result<(), String>) {
        self.readiness.send_if_modified(|current| {
            let changed = *current != readiness;
            *current = readiness;
            changed
        });
    }

    /// Carries a request out. A drain is for the caller to begin, for the reason that this returns.
    fn obey(&mut self, request: Option<Request>) -> Option<String> {
        let Some(mut request) = request else {
            return Some("its owner is gone".to_owned());
        };
        let (answer, drain) = match &mut request.command {
            WorkerCommand::Drain { reason } => (Ok(()), Some(std::mem::take(reason))),
            WorkerCommand::Abort => (Ok(()), Some("abort".to_owned())),
            WorkerCommand::Pause { reason } => (self.pause(reason.take()), None),
            WorkerCommand::Resume => (self.resume(), None),
        };
        request.answer(answer);
        drain
    }

    fn pause(&mut self, reason: Option<String>) -> Result<(), Refusal> {
        let phase = *self.phase.borrow();
        if phase == Phase::Paused {
            return Ok(());
        }
        if phase == Phase::Running {
            // Before anybody can see that it is paused: then no slot starts another delivery.
            self.command(node::Command::Pause);
        }
        if !advance(&self.phase, Event::Pause) {
            let rule = "only a running worker can be paused";
            return Err(Refusal { phase, rule });
        }
        info!(reason, "worker paused");
        self.explain(reason);
        Ok(())
    }

    fn resume(&mut self) -> Result<(), Refusal> {
        let phase = *self.phase.borrow();
        if phase == Phase::Running {
            return Ok(());
        }
        if !advance(&self.phase, Event::Resume) {
            let rule = "only a paused worker can be resumed";
            return Err(Refusal { phase, rule });
        }
        self.command(node::Command::Run);
        info!("worker resumed");
        self.explain(None);
        Ok(())
    }

    /// Why the worker is in its phase; it is said together with the phase.
    fn explain(&self, reason: Option<String>) {
        self.snapshot.send_if_modified(|snapshot| {
            snapshot.reason = reason;
            false
        });
    }

    pub(super) fn command(&self, command: node::Command) {
        for node in &self.nodes {
            node.command(command);
        }
    }

    /// Brings what the status messages say up to date.
    fn describe(&self, states: &[watch::Receiver<NodeState>]) {
        let phase = *self.phase.borrow();
        self.snapshot.send_if_modified(|snapshot| {
            let before = snapshot.clone();
            snapshot.phase = phase;
            for (node, state) in snapshot.nodes.iter_mut().zip(states) {
                node.phase = match (&*state.borrow(), phase) {
                    (NodeState::Consuming, _) => Phase::Running,
                    (NodeState::Opening, Phase::Starting) | (NodeState::Refused(_), _) => {
                        Phase::Starting
                    }
                    // A node that has lost its connection keeps its phase: the two are separate things.
                    (NodeState::Opening, _) => node.phase,
                    (NodeState::Paused, _) => Phase::Paused,
                    (NodeState::Draining, _) => Phase::Draining,
                };
            }
            *snapshot != before
        });
    }
}

/// Whether a worker in `phase` takes new work when `consumers` of its `nodes` consume; the reason if it does not.
fn readiness(phase: Phase, consumers: usize, nodes: usize) -> Result<(), String> {
    match phase {
        Phase::Running if consumers == nodes => Ok(()),
        Phase::Running => Err(format!(
            "{consumers} of {nodes} nodes consume; the others reconnect"
        )),
        _ => Err(format!("the worker is {phase}")),
    }
}

/// Moves the phase; an event that cannot happen now is logged and changes nothing.
pub(super) fn advance(phase: &watch::Sender<Phase>, event: Event) -> bool {
    let next = phase.borrow().next(event);
    match next {
        Ok(next) => {
            phase.send_replace(next);
            true
        }
        Err(illegal) => {
            warn!(%illegal, "ignored");
            false
        }
    }
}

async fn any_changed(states: &mut [watch::Receiver<NodeState>]) {
    select_all(
        states
            .iter_mut()
            .map(|state| Box::pin(wait::changed(state))),
    )
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_running_worker_whose_nodes_all_consume_is_ready() {
        assert_eq!(readiness(Phase::Running, 2, 2), Ok(()));
        let why = "1 of 2 nodes consume; the others reconnect".to_owned();
        assert_eq!(readiness(Phase::Running, 1, 2), Err(why));
        for phase in [
            Phase::Starting,
            Phase::Paused,
            Phase::Draining,
            Phase::Stopped,
        ] {
            let why = format!("the worker is {phase}");
            assert_eq!(readiness(phase, 2, 2), Err(why));
        }
    }
}

//! The worker's own task: it owns the phase, and acts on commands and on what becomes of its nodes.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::control::Control;
use super::host::{Host, Hosted, Leaving, handler_of};
use super::plan::{Change, changes};
use super::readiness::readiness;
use super::release::release;
use super::{DrainReport, Node, Refusal, Request, WorkerCommand, WorkerError};
use crate::broker::{AmqpRuntime, BrokerError, Session, SessionState};
#[cfg(feature = "endpoints")]
use crate::lifecycle::WatchedTask;
use crate::lifecycle::{Event, Phase, TaskFailure};
use crate::metrics::Metrics;
use crate::node::{self, NodeDrain, NodeState};
use crate::status::{Snapshot, Status};
use crate::wait;

pub(super) struct Supervisor {
    /// Kept so that the thread lives as long as the worker.
    pub amqp: Arc<AmqpRuntime>,
    pub grace: Duration,
    pub phase: watch::Sender<Phase>,
    /// Why the worker takes no new work, if it takes none.
    pub readiness: watch::Sender<Result<(), String>>,
    pub snapshot: watch::Sender<Snapshot>,
    pub commands: mpsc::Receiver<Request>,
    pub host: Host,
    /// The nodes that the program or its configuration names.
    pub fixed: Vec<Node>,
    /// The nodes that come and go by themselves.
    pub source: Option<watch::Receiver<Vec<Node>>>,
    /// The nodes that are hosted, in the order of their creation.
    pub nodes: Vec<Hosted>,
    /// The nodes that drain by themselves.
    pub leaving: Vec<Leaving>,
    pub consume: Session,
    pub publish: Session,
    pub status: Option<Status>,
    pub control: Option<Control>,
    pub metrics: Metrics,
    #[cfg(feature = "endpoints")]
    pub _server: Option<WatchedTask<()>>,
}

/// The next event.
enum Happening {
    Failed(TaskFailure),
    Requested(Option<Request>),
    /// A source wants other nodes.
    Wanted,
    /// A node that drained by itself is gone, at this place.
    Left(usize, String, NodeDrain),
    /// A node or the connection is in another state.
    Changed,
}

impl Supervisor {
    /// Lives through the phases, until the drain is over.
    pub(super) async fn supervise(mut self) -> Result<DrainReport, WorkerError> {
        let mut consume = self.consume.state();
        self.follow();
        loop {
            if let Some((subject, cause)) = self.refusal(&consume) {
                error!(subject, error = %cause, "the broker refuses the worker");
                self.drain(format!("refused: {cause}")).await;
                return Err(WorkerError::Refused { subject, cause });
            }
            self.ready();
            self.describe();
            match self.next(&mut consume).await {
                Happening::Failed(failure) => return Ok(self.fail(&failure).await),
                Happening::Requested(request) => {
                    if let Some(reason) = self.obey(request) {
                        return Ok(self.drain(reason).await);
                    }
                }
                Happening::Wanted => self.follow(),
                Happening::Left(place, queue, drained) => self.left(place, &queue, &drained),
                Happening::Changed => {}
            }
        }
    }

    async fn next(&mut self, consume: &mut watch::Receiver<SessionState>) -> Happening {
        let tasks = self.amqp.tasks().clone();
        let states = self.nodes.iter_mut().map(|node| &mut node.state);
        let states = states.map(|state| Box::pin(wait::changed(state)));
        let states = some_of(states.collect());
        let leaving = self.leaving.iter_mut().map(|node| node.drained.as_mut());
        let leaving = some_of(leaving.collect());
        tokio::select! {
            biased;
            failure = tasks.failed() => Happening::Failed(failure),
            request = self.commands.recv() => Happening::Requested(request),
            Some(()) = wanted(self.source.as_mut()) => Happening::Wanted,
            Some(((queue, drained), place, _)) = leaving => Happening::Left(place, queue, drained),
            Some(_) = states => Happening::Changed,
            () = wait::changed(consume) => Happening::Changed,
        }
    }

    /// Hosts what is wanted: adds what is missing, and has what is not wanted drain by itself. A queue that is still
    /// being left is consumed again after that.
    fn follow(&mut self) {
        let mut wanted = self.fixed.clone();
        if let Some(source) = &mut self.source {
            wanted.extend(source.borrow_and_update().iter().cloned());
        }
        let present: Vec<&Node> = self.nodes.iter().map(|node| &node.wanted).collect();
        let changes = changes(&present, &wanted);
        for change in &changes {
            if let Change::Renew(place, with) = change {
                self.nodes[*place].renew(wanted[*with].clone(), &self.host);
            }
        }
        let removed = |place: &usize| changes.contains(&Change::Remove(*place));
        let deadline = Instant::now() + self.grace;
        let places: Vec<usize> = (0..self.nodes.len()).filter(removed).collect();
        for place in places.into_iter().rev() {
            let node = self.nodes.remove(place);
            info!(
                queue = node.info.queue,
                "the node drains: it is no longer wanted, or not as it is"
            );
            self.leaving.push(node.leave(deadline));
        }
        for change in changes {
            if let Change::Add(place) = change {
                self.add(wanted[place].clone());
            }
        }
    }

    fn add(&mut self, wanted: Node) {
        if self.leaving.iter().any(|node| node.queue == wanted.queue()) {
            return;
        }
        let queue = wanted.queue().to_owned();
        let valid = wanted.settings.validate().map_err(WorkerError::from);
        let handler = valid.and_then(|()| handler_of(&wanted));
        match handler.and_then(|handler| self.host.start(wanted, handler)) {
            Ok(hosted) => {
                if *self.phase.borrow() == Phase::Paused {
                    hosted.node.command(node::Command::Pause);
                }
                info!(queue, "hosting a node");
                self.nodes.push(hosted);
            }
            Err(error) => warn!(queue, %error, "a node cannot be hosted"),
        }
    }

    /// A node is gone: its handler is released, unless another node uses it, and its queue may be hosted again.
    fn left(&mut self, place: usize, queue: &str, drained: &NodeDrain) {
        let node = self.leaving.swap_remove(place);
        info!(
            queue,
            finished = drained.finished,
            handed_back = drained.handed_back,
            interrupted = drained.interrupted,
            unconfirmed = drained.unconfirmed,
            "the node is gone"
        );
        let others = self.nodes.iter().map(|other| &other.handler);
        let mut others = others.chain(self.leaving.iter().map(|other| &other.handler));
        if !others.any(|other| other.is_same(&node.handler)) {
            let limit = self.grace;
            let work = self.host.work.clone();
            self.host
                .work
                .spawn(async move { release(node.handler, limit, &work).await });
        }
        self.follow();
        if !self.nodes.iter().any(|node| node.info.queue == queue) {
            self.metrics.forget_node(queue);
        }
    }

    /// Nothing dies alone: when a task of the worker is gone, the rest drains in order.
    async fn fail(self, failure: &TaskFailure) -> DrainReport {
        let reason = failure.to_string();
        self.set_readiness(Err(reason.clone()));
        self.drain(reason).await
    }

    /// Why the worker cannot begin, if nothing that it waits for can help: the broker refuses the connection, or every
    /// node. A worker whose nodes come and go waits for others.
    fn refusal(&self, consume: &watch::Receiver<SessionState>) -> Option<(String, BrokerError)> {
        if let SessionState::Refused(error) = &*consume.borrow() {
            return Some(("the connection".to_owned(), error.clone()));
        }
        if self.source.is_some() || *self.phase.borrow() != Phase::Starting {
            return None;
        }
        let mut refusals = self.nodes.iter().map(|node| match &*node.state.borrow() {
            NodeState::Refused(error) if !error.is_taken() => {
                Some((format!("queue {:?}", node.info.queue), error.clone()))
            }
            _ => None,
        });
        let first = refusals.next()??;
        refusals.all(|refusal| refusal.is_some()).then_some(first)
    }

    /// The worker runs from the first time that every node consumes that can. It is ready while it runs and they all
    /// consume. A node whose queue is missing or refused does not count.
    fn ready(&self) {
        let count = |wanted: fn(&NodeState) -> bool| {
            let states = self.nodes.iter().map(|node| &node.state);
            states.filter(|state| wanted(&state.borrow())).count()
        };
        let consumers = count(|state| matches!(state, NodeState::Consuming(_)));
        let refused = count(|state| matches!(state, NodeState::Refused(_)));
        let able = self.nodes.len() - refused;
        if *self.phase.borrow() == Phase::Starting && consumers == able && consumers > 0 {
            advance(&self.phase, Event::Ready);
            info!(refused, "worker running");
        }
        let phase = *self.phase.borrow();
        self.set_readiness(readiness(phase, consumers, able));
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
            WorkerCommand::Host { nodes } => {
                self.fixed = std::mem::take(nodes);
                self.follow();
                (Ok(()), None)
            }
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
            node.node.command(command);
        }
    }

    /// Brings what the status messages say up to date.
    fn describe(&mut self) {
        let phase = *self.phase.borrow();
        for node in &mut self.nodes {
            if let NodeState::Consuming(Some(kind)) = &*node.state.borrow() {
                node.info.kind = Some(kind.as_str());
            }
            node.info.refusal = match &*node.state.borrow() {
                NodeState::Refused(error) => Some(error.to_string()),
                _ => None,
            };
            node.info.phase = match (&*node.state.borrow(), phase) {
                (NodeState::Consuming(_), _) => Phase::Running,
                (NodeState::Opening, Phase::Starting) | (NodeState::Refused(_), _) => {
                    Phase::Starting
                }
                // A node that has lost its connection keeps its phase: the two are separate things.
                (NodeState::Opening, _) => node.info.phase,
                (NodeState::Paused, _) => Phase::Paused,
                (NodeState::Draining, _) => Phase::Draining,
            };
        }
        let nodes = self.nodes.iter();
        let slots = self
            .host
            .pools
            .slots_in_all(nodes.clone().map(|node| &node.wanted));
        let nodes = nodes.map(|node| node.info.clone()).collect();
        self.snapshot.send_if_modified(|snapshot| {
            let before = snapshot.clone();
            snapshot.phase = phase;
            snapshot.slots = slots;
            snapshot.nodes = nodes;
            *snapshot != before
        });
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

/// Resolves when a source wants other nodes; `None`, which disables the branch, if there is no source or it is gone.
async fn wanted(source: Option<&mut watch::Receiver<Vec<Node>>>) -> Option<()> {
    source?.changed().await.ok()
}

/// The first of these futures to resolve, with its place; `None` if there are none.
async fn some_of<F: Future + Unpin>(futures: Vec<F>) -> Option<(F::Output, usize, Vec<F>)> {
    if futures.is_empty() {
        return None;
    }
    Some(select_all(futures).await)
}

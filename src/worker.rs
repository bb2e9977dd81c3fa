//! A worker: one process, its nodes, and the order in which it starts and stops.

mod builder;
mod control;
mod drain;
mod host;
mod plan;
mod readiness;
mod release;
mod report;
mod run;
mod signals;
mod start;
mod supervise;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use crate::status::wire::{DrainOutcome, DrainReport, DrainSteps};
pub use crate::status::{NodeRemark, Remarks};
pub use builder::{Node, NodeSource, WorkerBuilder};
#[doc(hidden)]
pub use run::{run, run_started};
#[doc(hidden)]
pub use signals::{SignalAction, Signals};

use crate::broker::{AmqpRuntime, BrokerError};
use crate::config::{ConfigErrors, Settings, UrlError};
use crate::handler::HandlerError;
use crate::lifecycle::{Phase, Tasks};

/// How many commands may wait for the worker; a sender waits beyond that.
const COMMANDS: usize = 16;

/// Where a worker begins: [`Worker::builder`], or [`Worker::from_settings`].
#[derive(Debug)]
pub enum Worker {}

/// Why a worker could not start, or ended before it was told to.
///
/// ```
/// use tidegate::worker::WorkerError;
/// use tidegate::{Node, Worker};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let error = Worker::builder("amqp://localhost")
///     .node(Node::new("orders"))
///     .start()
///     .await
///     .expect_err("the node has no handler");
/// assert!(matches!(error, WorkerError::NoHandler { queue } if queue == "orders"));
/// # }
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// A node has no handler: neither configuration nor the program names one.
    #[error("node {queue:?} has no handler: name one in its configuration, or register one")]
    NoHandler {
        /// The node's queue.
        queue: String,
    },
    /// A node names a pool that is not there.
    #[error("node {queue:?} names pool {pool:?}, which is not configured")]
    NoPool {
        /// The node's queue.
        queue: String,
        /// The pool.
        pool: String,
    },
    /// Settings break a rule.
    #[error(transparent)]
    Settings(#[from] ConfigErrors),
    /// There is no node, and no source of nodes.
    #[error("the worker has no node: there is nothing to work on")]
    NoNode,
    /// The broker's URL cannot be used.
    #[error("the broker's URL {0}")]
    Url(UrlError),
    /// The operating system refused to tell of signals.
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    /// A handler could not be made.
    #[error("the handler of node {queue:?}: {cause}")]
    Handler {
        /// The node's queue.
        queue: String,
        /// Why.
        cause: HandlerError,
    },
    /// The HTTP address could not be bound.
    #[error("worker.http: cannot listen on {address}: {cause}")]
    Http {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The operating system refused a thread.
    #[error("cannot start the AMQP thread: {0}")]
    Runtime(io::Error),
    /// The broker refused the worker for a reason that trying again will not change.
    #[error("{subject}: {cause}")]
    Refused {
        /// What was refused: the connection, or a queue.
        subject: String,
        /// The broker's answer.
        cause: BrokerError,
    },
    /// The worker's own task failed; the broker takes back what it held.
    #[error("the worker's task ended badly: {0}")]
    Task(String),
}

/// What a running worker can be told.
#[derive(Debug)]
enum WorkerCommand {
    Pause {
        reason: Option<String>,
    },
    Resume,
    Drain {
        reason: String,
    },
    Abort,
    /// Host these nodes, instead of those that were named before.
    Host {
        nodes: Vec<Node>,
    },
}

/// A command, and who wants to know what has become of it.
#[derive(Debug)]
struct Request {
    command: WorkerCommand,
    answer: Option<oneshot::Sender<Result<(), Refusal>>>,
}

/// A command that a worker cannot obey in its phase.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("phase = {phase}: {rule}")]
struct Refusal {
    phase: Phase,
    rule: &'static str,
}

impl Request {
    fn answer(self, answer: Result<(), Refusal>) {
        if let Some(sender) = self.answer {
            // The asker may have stopped waiting.
            let _ = sender.send(answer);
        }
    }
}

/// A worker that has started. Dropping it drains the worker, unobserved.
///
/// ```no_run
/// use tidegate::lifecycle::Phase;
/// use tidegate::{Node, Worker};
///
/// # async fn example(orders: Node) -> Result<(), Box<dyn std::error::Error>> {
/// let mut worker = Worker::builder("amqp://localhost").node(orders).start().await?;
/// let mut phase = worker.phase();
/// phase.wait_for(|phase| *phase == Phase::Running).await?;
/// println!("{} consumes", worker.id());
/// let report = worker.finished().await?;
/// println!("{} deliveries finished in the drain", report.finished);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RunningWorker {
    id: String,
    http: Option<SocketAddr>,
    publish: watch::Receiver<crate::broker::SessionState>,
    phase: watch::Receiver<Phase>,
    handle: WorkerHandle,
    task: JoinHandle<Result<DrainReport, WorkerError>>,
    /// Kept so that the thread outlives the task whose end is awaited.
    amqp: Arc<AmqpRuntime>,
}

/// Commands a running worker from anywhere. Cheap to clone.
///
/// ```no_run
/// # async fn example(worker: tidegate::RunningWorker) {
/// let handle = worker.handle();
/// tokio::spawn(async move {
///     handle.pause().await;
///     // Nothing runs now: for example, migrate a database.
///     handle.resume().await;
/// });
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct WorkerHandle(mpsc::Sender<Request>);

impl Worker {
    /// Puts a worker together in code. `url` is the broker's, as in `amqp://guest:guest@localhost:5672/%2f`.
    ///
    /// ```no_run
    /// use std::process::ExitCode;
    /// use tidegate::worker::WorkerError;
    /// use tidegate::{Json, Node, Worker};
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Order {
    ///     id: u64,
    /// }
    ///
    /// async fn ship(Json(order): Json<Order>) -> Result<(), std::io::Error> {
    ///     std::fs::write(format!("shipped/{}", order.id), "")
    /// }
    ///
    /// #[tokio::main]
    /// async fn main() -> Result<ExitCode, WorkerError> {
    ///     let orders = Node::new("orders").slots(8).handler(ship);
    ///     Worker::builder("amqp://localhost").node(orders).run().await
    /// }
    /// ```
    pub fn builder(url: &str) -> WorkerBuilder {
        WorkerBuilder::of_url(url)
    }

    /// Puts a worker together from settings, which [`config::load`](crate::config::load) reads from a file.
    pub fn from_settings(settings: Settings) -> WorkerBuilder {
        WorkerBuilder::of_settings(settings)
    }
}

impl RunningWorker {
    /// The worker's id: `<name>-<ULID>`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Where the HTTP server listens.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http
    }

    /// The watch over the worker's long-lived tasks.
    #[doc(hidden)]
    pub fn tasks(&self) -> &Tasks {
        self.amqp.tasks()
    }

    /// The state of the connection for publishing.
    #[doc(hidden)]
    pub fn publish_session(&self) -> watch::Receiver<crate::broker::SessionState> {
        self.publish.clone()
    }

    /// Observes the worker's phase.
    pub fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.clone()
    }

    /// Commands the worker from elsewhere.
    pub fn handle(&self) -> WorkerHandle {
        self.handle.clone()
    }

    /// Resolves when the worker has stopped, with the report of its drain. Cancel safe.
    ///
    /// # Errors
    /// If the worker ended without having been told to.
    pub async fn finished(&mut self) -> Result<DrainReport, WorkerError> {
        match (&mut self.task).await {
            Ok(finished) => finished,
            Err(error) => Err(WorkerError::Task(error.to_string())),
        }
    }
}

impl WorkerHandle {
    /// Stops consuming, lets finish what runs, hands back what has not started.
    pub async fn pause(&self) {
        self.send(WorkerCommand::Pause { reason: None }).await;
    }

    /// Consumes again.
    pub async fn resume(&self) {
        self.send(WorkerCommand::Resume).await;
    }

    /// Begins the drain. `reason` appears in status messages and in the report.
    pub async fn drain(&self, reason: impl Into<String>) {
        let reason = reason.into();
        self.send(WorkerCommand::Drain { reason }).await;
    }

    /// Ends a drain at once: what is in flight is handed back.
    pub async fn abort(&self) {
        self.send(WorkerCommand::Abort).await;
    }

    /// Hosts these nodes from now on, instead of those that the worker was built with or given here before. One whose
    /// settings and handler are the same goes on undisturbed; one that is missing is drained by itself.
    pub async fn host(&self, nodes: Vec<Node>) {
        self.send(WorkerCommand::Host { nodes }).await;
    }

    async fn send(&self, command: WorkerCommand) {
        let answer = None;
        if self.0.send(Request { command, answer }).await.is_err() {
            tracing::debug!("the worker has stopped; there is nobody to command");
        }
    }
}

//! The builder of a worker, for programs.

use std::collections::HashMap;
use std::future::ready;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::watch;

use super::run::{exit_code, run};
use super::signals::Signals;
use super::{RunningWorker, WorkerError, start};
use crate::config::{BrokerSettings, NodeSettings, QueueType, RetrySettings, Settings, Slots};
use crate::handler::{AnyHandler, IntoHandler};
use crate::metrics::MoreMetrics;
use crate::status::Remarks;

/// Puts a worker together: from a URL and nodes, or from settings that a file holds.
///
/// See [`Worker::builder`](super::Worker::builder).
///
/// ```
/// use std::time::Duration;
/// use tidegate::{Delivery, Node, Outcome, Worker};
///
/// async fn ship(_order: std::sync::Arc<Delivery>) -> Outcome {
///     Outcome::Done
/// }
///
/// let worker = Worker::builder("amqp://localhost")
///     .configure(|settings| settings.drain.grace = Duration::from_secs(60))
///     .node(Node::new("orders").handler(ship))
///     .node(Node::new("returns").slots(2).handler(ship));
/// # let _ = worker;
/// ```
#[derive(Debug)]
pub struct WorkerBuilder {
    settings: Result<Settings, WorkerError>,
    nodes: Vec<Node>,
    handlers: HashMap<String, AnyHandler>,
    source: Option<watch::Receiver<Vec<Node>>>,
    additions: Additions,
}

/// What a program adds to what its worker says of itself.
#[derive(Debug)]
pub(super) struct Additions {
    pub(super) remarks: watch::Receiver<Remarks>,
    pub(super) metrics: Option<MoreMetrics>,
    pub(super) listener: Option<std::net::TcpListener>,
}

/// Says which nodes a worker is to host now, whenever that changes: discovery, a configuration that is read again.
///
/// ```
/// use tidegate::{Node, Worker};
/// use tokio::sync::watch;
///
/// let (wanted, source) = watch::channel(vec![Node::new("orders")]);
/// let worker = Worker::builder("amqp://localhost").nodes_from(source);
/// wanted.send_modify(|nodes| nodes.push(Node::new("bills")));
/// # let _ = worker;
/// ```
pub trait NodeSource {
    /// The nodes that are wanted. After the sender is dropped, what was wanted last stays.
    fn wanted(self) -> watch::Receiver<Vec<Node>>;
}

impl NodeSource for watch::Receiver<Vec<Node>> {
    fn wanted(self) -> watch::Receiver<Vec<Node>> {
        self
    }
}

/// One queue with its handler, as a program states it. What is not stated has the defaults of [`NodeSettings`].
///
/// ```
/// use std::time::Duration;
/// use tidegate::config::RetrySettings;
/// use tidegate::{Json, Node};
///
/// async fn ship(Json(order): Json<u64>) {
///     println!("order {order}");
/// }
///
/// let seconds = Duration::from_secs;
/// let node = Node::new("orders")
///     .slots(4)
///     .timeout(seconds(30))
///     .retry(RetrySettings::new(3, seconds(1), seconds(60)))
///     .handler(ship);
/// assert_eq!(node.queue(), "orders");
/// ```
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) settings: NodeSettings,
    pub(super) handler: Option<AnyHandler>,
    has_prefetch: bool,
}

impl Node {
    /// A node that consumes `queue`: a quorum queue, declared if it is missing, 8 slots, 16 messages ahead.
    pub fn new(queue: impl Into<String>) -> Self {
        Self {
            settings: NodeSettings::new(queue),
            handler: None,
            has_prefetch: false,
        }
    }

    /// A node with all settings as a file has them. Their handler is used unless [`Node::handler`] names another.
    pub fn from_settings(settings: NodeSettings) -> Self {
        Self {
            settings,
            handler: None,
            has_prefetch: true,
        }
    }

    /// The queue that it consumes.
    pub fn queue(&self) -> &str {
        &self.settings.queue
    }

    /// Whether `other` has the same settings and the same handler: the very one, not one that was made alike.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.has_handler_of(other) && self.settings == other.settings
    }

    /// Whether a node that was made of this can become `wanted`.
    pub(super) fn may_become(&self, wanted: &Self) -> bool {
        self.has_handler_of(wanted) && self.settings.may_become(&wanted.settings)
    }

    fn has_handler_of(&self, other: &Self) -> bool {
        match (&self.handler, &other.handler) {
            (Some(ours), Some(theirs)) => ours.is_same(theirs),
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        }
    }

    /// The number of deliveries that run at once; at least 1.
    #[must_use]
    pub fn slots(mut self, slots: usize) -> Self {
        self.settings.slots = Slots::Own(slots);
        if !self.has_prefetch {
            self.settings.prefetch = crate::config::default_prefetch(slots);
        }
        self
    }

    /// The number of deliveries that the broker sends ahead, 1 to 65,535; twice the slots by default.
    #[must_use]
    pub fn prefetch(mut self, prefetch: u16) -> Self {
        self.settings.prefetch = prefetch;
        self.has_prefetch = true;
        self
    }

    /// The time after which a delivery that still runs is cancelled and retried; 5 minutes by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// The number of runs of a message and the delays between them; by default 5 runs, after 1 s to 5 min.
    #[must_use]
    pub fn retry(mut self, retry: RetrySettings) -> Self {
        self.settings.retry = retry;
        self
    }

    /// Declares a classic queue if the queue is missing, instead of a quorum queue.
    #[must_use]
    pub fn classic(mut self) -> Self {
        self.settings.kind = QueueType::Classic;
        self
    }

    /// The handler of the deliveries: a function or a [`Handler`](crate::Handler).
    #[must_use]
    pub fn handler<A>(mut self, handler: impl IntoHandler<A>) -> Self {
        self.handler = Some(AnyHandler::new("rust", handler.into_handler()));
        self
    }

    /// A handler that several nodes share, or that state messages call something else than
    /// `rust`.
    #[must_use]
    pub fn any_handler(mut self, handler: AnyHandler) -> Self {
        self.handler = Some(handler);
        self
    }

    /// Changes any other setting.
    ///
    /// ```
    /// # use tidegate::Node;
    /// let node = Node::new("orders").configure(|settings| settings.declare = false);
    /// # let _ = node;
    /// ```
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut NodeSettings)) -> Self {
        change(&mut self.settings);
        self
    }
}

impl WorkerBuilder {
    pub(super) fn of_url(url: &str) -> Self {
        let broker = BrokerSettings::from_url(url);
        Self::new(broker.map(Settings::new).map_err(WorkerError::Url))
    }

    pub(super) fn of_settings(settings: Settings) -> Self {
        Self::new(Ok(settings))
    }

    fn new(settings: Result<Settings, WorkerError>) -> Self {
        Self {
            settings,
            nodes: Vec::new(),
            handlers: HashMap::new(),
            source: None,
            additions: Additions {
                remarks: watch::Sender::default().subscribe(),
                metrics: None,
                listener: None,
            },
        }
    }

    /// Adds a node.
    #[must_use]
    pub fn node(mut self, node: Node) -> Self {
        self.nodes.push(node);
        self
    }

    /// Lets nodes come and go while the worker runs: it hosts what `source` wants at each moment, beside the nodes that
    /// are fixed. A node that is not wanted any more is drained by itself. Once the worker drains, nothing is added
    /// or removed.
    #[must_use]
    pub fn nodes_from(mut self, source: impl NodeSource) -> Self {
        self.source = Some(source.wanted());
        self
    }

    /// Adds remarks to state messages and to the text of `/readyz`.
    #[must_use]
    pub fn remarks(mut self, remarks: watch::Receiver<Remarks>) -> Self {
        self.additions.remarks = remarks;
        self
    }

    /// Serves the endpoints on `listener`, which is bound already, instead of binding the address in the settings. A
    /// program that has served it before the worker started leaves no gap in which nobody answers.
    #[must_use]
    pub fn listener(mut self, listener: std::net::TcpListener) -> Self {
        self.additions.listener = Some(listener);
        self
    }

    /// Serves metrics of the program after the worker's own, under `/metrics`. `encode` is called for each request and
    /// returns the text format of `OpenMetrics`; no name may begin as the worker's own do.
    #[must_use]
    pub fn more_metrics(mut self, encode: impl Fn() -> String + Send + Sync + 'static) -> Self {
        self.additions.metrics = Some(MoreMetrics::new(encode));
        self
    }

    /// Registers the handler of a node that the settings hold, in place of one that they name.
    #[must_use]
    pub fn handler<A>(mut self, queue: impl Into<String>, handler: impl IntoHandler<A>) -> Self {
        let handler = AnyHandler::new("rust", handler.into_handler());
        self.handlers.insert(queue.into(), handler);
        self
    }

    /// Changes any setting: the name, `drain.grace`, the address of the endpoints.
    #[must_use]
    pub fn configure(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        if let Ok(settings) = &mut self.settings {
            change(settings);
        }
        self
    }

    /// Starts the worker and returns, for a program that does other things beside it. Handlers run on the runtime that
    /// this is called on; everything that speaks to the broker runs on a thread of its own. The program decides when
    /// the worker drains: see [`RunningWorker::handle`].
    ///
    /// # Errors
    /// When something is wrong that does not need the broker to know. What the broker refuses is told by
    /// [`RunningWorker::finished`].
    pub async fn start(self) -> Result<RunningWorker, WorkerError> {
        let mut settings = self.settings?;
        let mut fixed = self.nodes;
        for node in settings.nodes.drain(..) {
            fixed.push(Node::from_settings(node));
        }
        for node in &mut fixed {
            if let Some(handler) = self.handlers.get(node.queue()) {
                node.handler = Some(handler.clone());
            }
        }
        start::start(settings, fixed, self.source, self.additions).await
    }

    /// Runs the worker until a signal or a command has drained it, and returns the code to exit with: 0 if nothing was
    /// interrupted, 3 if the deadline interrupted something, 4 if a second signal aborted the drain, 1 if a task of the
    /// worker failed.
    ///
    /// SIGTERM, SIGINT, SIGHUP and SIGQUIT drain; another of them aborts the drain. SIGUSR1, SIGUSR2 and SIGALRM do
    /// nothing.
    ///
    /// # Errors
    /// As [`WorkerBuilder::start`], and when the broker refuses the worker.
    pub async fn run(self) -> Result<ExitCode, WorkerError> {
        // Before anything else, so that a signal during the start is not lost.
        let signals = Signals::listen().map_err(WorkerError::Signals)?;
        let report = run(self, signals, || ready(None)).await?;
        Ok(ExitCode::from(exit_code(report.outcome)))
    }
}

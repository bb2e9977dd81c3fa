//! How a program puts a worker together.

use std::collections::HashMap;
use std::process::ExitCode;
use std::time::Duration;

use super::signals::{SignalAction, Signals};
use super::{DrainReport, RunningWorker, WorkerError, start};
use crate::config::{BrokerSettings, NodeSettings, QueueType, RetrySettings, Settings, Slots};
use crate::handler::{AnyHandler, IntoHandler};
use crate::status::wire::DrainOutcome;

/// Puts a worker together: from a URL and nodes, or from settings that a file holds.
///
/// See [`Worker::builder`](super::Worker::builder).
#[derive(Debug)]
pub struct WorkerBuilder {
    settings: Result<Settings, WorkerError>,
    handlers: HashMap<String, AnyHandler>,
}

/// One queue with its handler, as a program states it. What is not stated has the defaults of [`NodeSettings`].
#[derive(Debug)]
pub struct Node {
    settings: NodeSettings,
    prefetch: Option<u16>,
    handler: Option<AnyHandler>,
}

impl Node {
    /// A node that consumes `queue`: a quorum queue, declared if it is missing, 8 slots, 16 messages ahead.
    pub fn new(queue: impl Into<String>) -> Self {
        Self {
            settings: NodeSettings::new(queue),
            prefetch: None,
            handler: None,
        }
    }

    /// How many deliveries run at once; at least 1.
    #[must_use]
    pub fn slots(mut self, slots: usize) -> Self {
        self.settings.slots = Slots::Own(slots);
        self
    }

    /// How many deliveries the broker sends ahead, 1 to 65,535; twice the slots by default.
    #[must_use]
    pub fn prefetch(mut self, prefetch: u16) -> Self {
        self.prefetch = Some(prefetch);
        self
    }

    /// How long one delivery may run before it is cancelled and retried; 5 minutes by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How often and when a message is run again; by default 5 runs, after 1 s to 5 min.
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

    /// What works on the deliveries: a function or a [`Handler`](crate::Handler).
    #[must_use]
    pub fn handler<A>(mut self, handler: impl IntoHandler<A>) -> Self {
        self.handler = Some(AnyHandler::new("rust", handler.into_handler()));
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
        Self {
            settings: broker.map(Settings::new).map_err(WorkerError::Url),
            handlers: HashMap::new(),
        }
    }

    pub(super) fn of_settings(settings: Settings) -> Self {
        Self {
            settings: Ok(settings),
            handlers: HashMap::new(),
        }
    }

    /// Adds a node.
    #[must_use]
    pub fn node(mut self, node: Node) -> Self {
        let mut settings = node.settings;
        if let Some(prefetch) = node.prefetch {
            settings.prefetch = prefetch;
        } else if let Slots::Own(slots) = settings.slots {
            settings.prefetch = crate::config::default_prefetch(slots);
        }
        if let Some(handler) = node.handler {
            self.handlers.insert(settings.queue.clone(), handler);
        }
        self.configure(|all| all.nodes.push(settings))
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
        start::start(self.settings?, self.handlers).await
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
        let report = run(self, signals).await?;
        Ok(ExitCode::from(exit_code(report.outcome)))
    }
}

/// As [`WorkerBuilder::run`], with signals that have been listened for since earlier.
///
/// # Errors
/// As [`WorkerBuilder::run`].
pub async fn run(builder: WorkerBuilder, mut signals: Signals) -> Result<DrainReport, WorkerError> {
    let mut worker = builder.start().await?;
    let handle = worker.handle();
    loop {
        tokio::select! {
            biased;
            finished = worker.finished() => return finished,
            action = signals.next() => match action {
                SignalAction::Drain(name) => handle.drain(name).await,
                SignalAction::Abort => handle.abort().await,
                SignalAction::Ignore => {}
            },
        }
    }
}

/// What a worker whose drain ended so exits with.
fn exit_code(outcome: DrainOutcome) -> u8 {
    match outcome {
        DrainOutcome::Clean | DrainOutcome::Unconfirmed => 0,
        DrainOutcome::Failed => 1,
        DrainOutcome::Interrupted => 3,
        DrainOutcome::Aborted => 4,
    }
}

//! Sends status messages: a state when something has changed, beats in between, and the drain report.

mod figures;
mod outbox;
mod states;
mod task;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tracing::debug;

use super::Remarks;
use super::wire::DrainReport;
use crate::broker::{AmqpRuntime, BrokerError, SessionState};
use crate::config::{HeartbeatSettings, StatusSettings};
use crate::lifecycle::{Phase, WatchedTask};
use crate::metrics::{Metrics, NodeMetrics};

/// Requests that may wait for the publisher. It takes each one at once.
const REQUESTS: usize = 16;

/// What the worker is now.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Snapshot {
    /// Where the worker is in its life.
    pub phase: Phase,
    /// Why, if there is a reason.
    pub reason: Option<String>,
    /// The drain's deadline.
    pub deadline: Option<Instant>,
    /// The slots of all nodes together; those that nodes share count once.
    pub slots: usize,
    /// The nodes.
    pub nodes: Vec<NodeInfo>,
}

/// One node in a [`Snapshot`].
#[derive(Debug, Clone)]
pub(crate) struct NodeInfo {
    /// The queue's name.
    pub queue: String,
    /// The queue's type, if the worker declares it.
    pub kind: Option<&'static str>,
    /// The handler's kind.
    pub handler: &'static str,
    /// How many deliveries may run at once.
    pub slots: usize,
    /// How many deliveries the broker sends ahead.
    pub prefetch: u16,
    /// The delays of its retries, in milliseconds.
    pub retry_ms: Vec<u64>,
    /// Where the node is in its life.
    pub phase: Phase,
    /// Why the broker refuses its queue, if it does. It must contain no secret.
    pub refusal: Option<String>,
    /// The node's counters; beats carry them.
    pub figures: NodeMetrics,
}

/// Figures change all the time: they make no difference between snapshots.
impl PartialEq for NodeInfo {
    fn eq(&self, other: &Self) -> bool {
        fn said(node: &NodeInfo) -> impl PartialEq + '_ {
            (
                node.kind,
                node.handler,
                node.slots,
                node.prefetch,
                &node.retry_ms,
                node.phase,
                &node.refusal,
            )
        }
        self.queue == other.queue && said(self) == said(other)
    }
}

/// The parts of the publisher.
#[derive(Debug)]
pub(crate) struct StatusParts {
    /// The worker's id.
    pub worker: String,
    /// The worker's name.
    pub name: String,
    /// The host's name.
    pub host: String,
    /// Where status messages go.
    pub settings: StatusSettings,
    /// The intervals of beats.
    pub heartbeat: HeartbeatSettings,
    /// The connection that publishes.
    pub session: watch::Receiver<SessionState>,
    /// What the worker is now.
    pub snapshot: watch::Receiver<Snapshot>,
    /// What the program adds.
    pub remarks: watch::Receiver<Remarks>,
    /// What is counted.
    pub metrics: Metrics,
}

/// The status publisher.
#[derive(Debug)]
pub(crate) struct Status {
    handle: StatusHandle,
    task: WatchedTask<()>,
}

/// Asks the publisher for more than it publishes by itself. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct StatusHandle(mpsc::Sender<Request>);

#[derive(Debug)]
enum Request {
    /// Publish a state and a full beat, though nothing has changed.
    Renew,
    /// Beat at this interval, for so long.
    Cadence {
        by: String,
        interval: Duration,
        lasting: Duration,
    },
    /// Publish the drain report. If there is no connection, wait for one for so long.
    Report(
        Box<DrainReport>,
        Duration,
        oneshot::Sender<Result<(), BrokerError>>,
    ),
    /// Close the channel, within so long.
    Close(Duration, oneshot::Sender<()>),
}

impl Status {
    /// Starts the publisher on `runtime`.
    pub(crate) fn start(parts: StatusParts, runtime: &AmqpRuntime) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let task = task::Task::new(parts, receiver);
        Self {
            handle: StatusHandle(requests),
            task: runtime.spawn("status publisher", task.run()),
        }
    }

    /// A handle for others that ask the publisher for something.
    pub(crate) fn handle(&self) -> StatusHandle {
        self.handle.clone()
    }

    /// Publishes the drain report and awaits its confirm, for at most `limit`. If there is no connection, it waits
    /// for one first, for at most `patience`. Nothing else is published after it.
    ///
    /// # Errors
    /// If the broker did not confirm it in time.
    pub(crate) async fn report(
        &self,
        report: DrainReport,
        patience: Duration,
        limit: Duration,
    ) -> Result<(), BrokerError> {
        let (reply, answer) = oneshot::channel();
        let gone = || BrokerError::Lost {
            what: "publishing the drain report",
            cause: "the status publisher has ended".to_owned(),
        };
        let asked = async {
            let request = Request::Report(Box::new(report), patience, reply);
            self.handle.0.send(request).await.map_err(|_ended| gone())?;
            answer.await.map_err(|_dropped| gone())?
        };
        let limit = patience + limit;
        let what = "publishing the drain report";
        let timed_out = |_elapsed| BrokerError::TimedOut { what, limit };
        timeout(limit, asked).await.map_err(timed_out)?
    }

    /// Closes the status channel, for at most `limit`.
    pub(crate) async fn close(self, limit: Duration) {
        self.task.expect_end();
        let (reply, answer) = oneshot::channel();
        let closed = async {
            let request = Request::Close(limit, reply);
            if self.handle.0.send(request).await.is_ok() {
                // An error says that the publisher has ended: then its channel is closed too.
                let _ = answer.await;
            }
        };
        if timeout(limit, closed).await.is_err() {
            debug!("the status channel did not close in time");
        }
        self.task.abort();
    }
}

impl StatusHandle {
    /// Asks for a state now, and a full beat after it unless the worker drains. Returns whether the publisher will
    /// do so; it will not while too many requests wait.
    pub(crate) fn renew(&self) -> bool {
        self.0.try_send(Request::Renew).is_ok()
    }

    /// Has `by` request a beat every `interval`, for `lasting`. Returns as [`renew`](Self::renew) does.
    pub(crate) fn cadence(&self, by: String, interval: Duration, lasting: Duration) -> bool {
        let request = Request::Cadence {
            by,
            interval,
            lasting,
        };
        self.0.try_send(request).is_ok()
    }
}

//! Sends status messages: the newest state whenever it changes, beats between, and the drain report.

mod figures;
mod outbox;
mod task;

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::wire::DrainReport;
use crate::broker::{BrokerError, SessionState};
use crate::config::{HeartbeatSettings, StatusSettings};
use crate::lifecycle::Phase;
use crate::metrics::{Metrics, NodeMetrics};

/// How many requests may wait for the publisher, which takes each at once.
const REQUESTS: usize = 16;

/// What the state message says beside the worker's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Where the worker is in its life.
    pub phase: Phase,
    /// Why, where there is a reason.
    pub reason: Option<String>,
    /// The drain's deadline.
    pub deadline: Option<Instant>,
    /// The nodes.
    pub nodes: Vec<NodeInfo>,
}

/// One node in a [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeInfo {
    /// The queue's name.
    pub queue: String,
    /// The queue's type, where the worker declares it.
    pub kind: Option<&'static str>,
    /// The handler's kind.
    pub handler: &'static str,
    /// How many deliveries may run at once.
    pub slots: usize,
    /// How many deliveries the broker sends ahead.
    pub prefetch: u16,
    /// Where the node is in its life.
    pub phase: Phase,
}

/// What the publisher is made of.
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
    /// How often to beat.
    pub heartbeat: HeartbeatSettings,
    /// The connection that publishes.
    pub session: watch::Receiver<SessionState>,
    /// What to say.
    pub snapshot: watch::Receiver<Snapshot>,
    /// What the nodes count, each with its queue's name.
    pub nodes: Vec<(String, NodeMetrics)>,
    /// The slots of all nodes together; those that nodes share count once.
    pub slots: usize,
    /// What is counted.
    pub metrics: Metrics,
}

/// The status publisher.
#[derive(Debug)]
pub(crate) struct Status {
    voice: Voice,
    task: AbortOnDropHandle<()>,
}

/// Asks the publisher for more than it says by itself. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Voice(mpsc::Sender<Request>);

#[derive(Debug)]
enum Request {
    /// Say everything, though nothing has changed.
    Renew,
    /// Beat no faster than this, for so long.
    Cadence(Duration, Duration),
    /// Report, waiting for so long for a connection that is not there.
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
    pub(crate) fn start(parts: StatusParts, runtime: &Handle) -> Self {
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let task = task::Task::new(parts, receiver);
        Self {
            voice: Voice(requests),
            task: AbortOnDropHandle::new(runtime.spawn(task.run())),
        }
    }

    /// Asks the publisher from elsewhere.
    pub(crate) fn voice(&self) -> Voice {
        self.voice.clone()
    }

    /// Publishes the drain report and awaits its confirm, for at most `limit`. A connection that is not there
    /// is waited for before that, for at most `patience`. Nothing else is published after it.
    ///
    /// # Errors
    /// Where the broker did not confirm it in time.
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
            self.voice.0.send(request).await.map_err(|_ended| gone())?;
            answer.await.map_err(|_dropped| gone())?
        };
        let limit = patience + limit;
        let what = "publishing the drain report";
        let timed_out = |_elapsed| BrokerError::TimedOut { what, limit };
        timeout(limit, asked).await.map_err(timed_out)?
    }

    /// Closes the status channel, for at most `limit`.
    pub(crate) async fn close(self, limit: Duration) {
        let (reply, answer) = oneshot::channel();
        let closed = async {
            let request = Request::Close(limit, reply);
            if self.voice.0.send(request).await.is_ok() {
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

impl Voice {
    /// Has the whole state said now, and after it a full beat, unless the worker drains. Whether that was
    /// asked for; it is not where too much else is being asked for.
    pub(crate) fn renew(&self) -> bool {
        self.0.try_send(Request::Renew).is_ok()
    }

    /// Has beats come no faster than `interval`, for `lasting`. Whether that was asked for, as above.
    pub(crate) fn cadence(&self, interval: Duration, lasting: Duration) -> bool {
        self.0.try_send(Request::Cadence(interval, lasting)).is_ok()
    }
}

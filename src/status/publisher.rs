//! Sends status messages: the newest state whenever it changes, and the drain report.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::wire::{
    APP_ID, Drain, DrainReport, Head, Kind, State, StateNode, VERSION, millis, rfc3339,
};
use crate::broker::{
    Backoff, BrokerError, Link, Message, Publisher, SessionState, declare_topic_exchange,
};
use crate::config::{HeartbeatSettings, StatusSettings};
use crate::delivery::Properties;
use crate::lifecycle::{CLOSING_LIMIT, Phase};
use crate::metrics::Metrics;
use crate::wait;

/// How long the broker may take to confirm a status message.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);

/// What the state message says beside the worker's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
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
pub struct NodeInfo {
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
pub struct StatusParts {
    /// The worker's id.
    pub worker: String,
    /// The worker's name.
    pub name: String,
    /// The host's name.
    pub host: String,
    /// Where status messages go.
    pub settings: StatusSettings,
    /// The promise of the next message.
    pub heartbeat: HeartbeatSettings,
    /// The connection that publishes.
    pub session: watch::Receiver<SessionState>,
    /// What to say.
    pub snapshot: watch::Receiver<Snapshot>,
    /// What is counted.
    pub metrics: Metrics,
}

/// The status publisher.
#[derive(Debug)]
pub struct Status {
    requests: mpsc::Sender<Request>,
    task: AbortOnDropHandle<()>,
}

#[derive(Debug)]
enum Request {
    Report(Box<DrainReport>, oneshot::Sender<Result<(), BrokerError>>),
    Close(Duration, oneshot::Sender<()>),
}

impl Status {
    /// Starts the publisher on `runtime`.
    pub fn start(parts: StatusParts, runtime: &Handle) -> Self {
        let (requests, receiver) = mpsc::channel(1);
        let task = Task {
            started_at: rfc3339(Timestamp::now()),
            parts,
            requests: receiver,
            seq: 0,
            channel: None,
            backoff: Backoff::default(),
            retry_at: None,
        };
        Self {
            requests,
            task: AbortOnDropHandle::new(runtime.spawn(task.run())),
        }
    }

    /// Publishes the drain report and awaits its confirm, for at most `limit`. Nothing else is published
    /// after it.
    ///
    /// # Errors
    /// Where the broker did not confirm it in time.
    pub async fn report(&self, report: DrainReport, limit: Duration) -> Result<(), BrokerError> {
        let (reply, answer) = oneshot::channel();
        let gone = || BrokerError::Lost {
            what: "publishing the drain report",
            cause: "the status publisher has ended".to_owned(),
        };
        let asked = async {
            let request = Request::Report(Box::new(report), reply);
            self.requests.send(request).await.map_err(|_full| gone())?;
            answer.await.map_err(|_dropped| gone())?
        };
        let what = "publishing the drain report";
        let timed_out = |_elapsed| BrokerError::TimedOut { what, limit };
        timeout(limit, asked).await.map_err(timed_out)?
    }

    /// Closes the status channel, for at most `limit`.
    pub async fn close(self, limit: Duration) {
        let (reply, answer) = oneshot::channel();
        let closed = async {
            if self
                .requests
                .send(Request::Close(limit, reply))
                .await
                .is_ok()
            {
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

struct Task {
    parts: StatusParts,
    started_at: String,
    requests: mpsc::Receiver<Request>,
    seq: u64,
    /// The channel, and the link's generation that it is on.
    channel: Option<(u64, Publisher)>,
    backoff: Backoff,
    retry_at: Option<Instant>,
}

impl Task {
    async fn run(mut self) {
        let mut said: Option<Snapshot> = None;
        let mut renew_at = None;
        loop {
            // The newest is said; what it replaced is not.
            let snapshot = self.parts.snapshot.borrow_and_update().clone();
            let renew = renew_at.is_some_and(|at| at <= Instant::now());
            let due = renew || said.as_ref() != Some(&snapshot);
            let may_try = self.retry_at.is_none_or(|at| at <= Instant::now());
            if due
                && may_try
                && let Some(link) = self.link()
            {
                match self.say(&link, &snapshot).await {
                    Ok(()) => {
                        renew_at = self.renewal(snapshot.phase);
                        said = Some(snapshot);
                        self.backoff.reset();
                        self.retry_at = None;
                    }
                    Err(error) => self.failed(Kind::State, &error),
                }
                continue;
            }
            let wake = if due { self.retry_at } else { renew_at };
            tokio::select! {
                biased;
                Some(request) = self.requests.recv() => match request {
                    Request::Report(report, reply) => {
                        let reported = self.report(*report).await;
                        // The asker may have stopped waiting.
                        let _ = reply.send(reported);
                        return self.wait_for_close().await;
                    }
                    Request::Close(limit, reply) => return self.close(limit, reply).await,
                },
                changed = self.parts.snapshot.changed() => if changed.is_err() {
                    return;
                },
                () = wait::changed(&mut self.parts.session), if due => {}
                () = wait::reached(wake) => {}
            }
        }
    }

    /// When the lease is to be renewed: after a drain has begun nothing does, its own covers the silence.
    fn renewal(&self, phase: Phase) -> Option<Instant> {
        match phase {
            Phase::Starting | Phase::Running | Phase::Paused => {
                Some(Instant::now() + self.parts.heartbeat.idle)
            }
            Phase::Draining | Phase::Stopped => None,
        }
    }

    fn lease(&self, snapshot: &Snapshot) -> Duration {
        match snapshot.deadline {
            Some(deadline) => {
                // It reaches past the deadline and what follows it, so that the silence of a drain is not
                // taken for death.
                let margin = CLOSING_LIMIT + CONFIRM_LIMIT;
                deadline.saturating_duration_since(Instant::now()) + margin
            }
            None => self.parts.heartbeat.idle * 3,
        }
    }

    fn link(&self) -> Option<Link> {
        self.parts.session.borrow().link().cloned()
    }

    fn failed(&mut self, kind: Kind, error: &BrokerError) {
        self.channel = None;
        self.parts.metrics.status_message(kind.as_str(), false);
        if self.backoff.attempts() == 0 {
            warn!(kind = kind.as_str(), %error, "a status message could not be sent; work goes on");
        }
        self.retry_at = Some(Instant::now() + self.backoff.next(rand::random()));
    }

    async fn say(&mut self, link: &Link, snapshot: &Snapshot) -> Result<(), BrokerError> {
        let state = State {
            head: self.head(self.lease(snapshot)),
            phase: snapshot.phase,
            deadline_ms: snapshot
                .deadline
                .map(|deadline| millis(deadline.saturating_duration_since(Instant::now()))),
            host: self.parts.host.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at.clone(),
            reason: snapshot.reason.clone(),
            nodes: snapshot.nodes.iter().map(state_node).collect(),
        };
        self.publish(link, Kind::State, &state).await
    }

    async fn report(&mut self, report: DrainReport) -> Result<(), BrokerError> {
        let link = self.link().ok_or_else(|| BrokerError::Lost {
            what: "publishing the drain report",
            cause: "there is no connection".to_owned(),
        })?;
        let drain = Drain {
            head: self.head(Duration::ZERO),
            report,
        };
        let reported = self.publish(&link, Kind::Drain, &drain).await;
        if reported.is_err() {
            self.parts
                .metrics
                .status_message(Kind::Drain.as_str(), false);
        }
        reported
    }

    fn head(&mut self, lease: Duration) -> Head {
        self.seq += 1;
        Head {
            v: VERSION,
            worker: self.parts.worker.clone(),
            name: self.parts.name.clone(),
            seq: self.seq,
            at: rfc3339(Timestamp::now()),
            lease_ms: millis(lease),
        }
    }

    async fn publish<T: Serialize>(
        &mut self,
        link: &Link,
        kind: Kind,
        body: &T,
    ) -> Result<(), BrokerError> {
        let body = serde_json::to_vec(body).expect("status messages are plain data");
        let message = Message {
            exchange: self.parts.settings.exchange.clone(),
            routing_key: format!("{}.{}", kind.as_str(), self.parts.worker),
            mandatory: false,
            properties: Properties {
                content_type: Some("application/json".to_owned()),
                delivery_mode: Some(2),
                kind: Some(kind.message_type().to_owned()),
                app_id: Some(APP_ID.to_owned()),
                ..Properties::default()
            },
            body: body.into(),
        };
        let confirmed = async {
            let publisher = self.channel(link).await?;
            publisher.publish(&message).await?.accepted().await
        };
        let what = "publishing a status message";
        let limit = CONFIRM_LIMIT;
        timeout(limit, confirmed)
            .await
            .map_err(|_elapsed| BrokerError::TimedOut { what, limit })??;
        self.parts.metrics.status_message(kind.as_str(), true);
        Ok(())
    }

    async fn channel(&mut self, link: &Link) -> Result<Publisher, BrokerError> {
        if let Some((generation, publisher)) = &self.channel
            && *generation == link.generation()
            && publisher.is_open()
        {
            return Ok(publisher.clone());
        }
        declare_topic_exchange(link, &self.parts.settings.exchange).await?;
        let publisher = Publisher::open(link).await?;
        self.channel = Some((link.generation(), publisher.clone()));
        Ok(publisher)
    }

    async fn wait_for_close(mut self) {
        while let Some(request) = self.requests.recv().await {
            if let Request::Close(limit, reply) = request {
                return self.close(limit, reply).await;
            }
        }
    }

    async fn close(self, limit: Duration, reply: oneshot::Sender<()>) {
        if let Some((_, publisher)) = &self.channel
            && let Err(error) = publisher.close(limit).await
        {
            debug!(%error, "the status channel did not close in order");
        }
        // The asker may have stopped waiting.
        let _ = reply.send(());
    }
}

fn state_node(node: &NodeInfo) -> StateNode {
    StateNode {
        queue: node.queue.clone(),
        kind: node.kind.map(str::to_owned),
        handler: node.handler.to_owned(),
        slots: node.slots as u64,
        prefetch: node.prefetch,
        phase: node.phase,
    }
}

//! Keeps one link to the broker alive: connects, notices its loss, connects again.

mod isolation;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backoff::Attempt;
use super::link::connect_to;
use super::{AmqpRuntime, Backoff, BrokerError, Link};
use crate::config::BrokerSettings;
use crate::lifecycle::WatchedTask;
use crate::metrics::Metrics;

pub(crate) use isolation::Isolation;

/// The purpose of a connection that consumes. Only tasks of the AMQP runtime may use it: its thread borrows the runtime.
pub(crate) const CONSUME: &str = "consume";

/// A connection with a purpose (`consume`, `publish`), replaced whenever it is lost.
#[derive(Debug)]
pub struct Session {
    purpose: &'static str,
    state: watch::Receiver<SessionState>,
    stop: CancellationToken,
    hurry: Arc<Notify>,
    task: WatchedTask<()>,
}

/// The state of a session.
#[derive(Debug, Clone)]
pub enum SessionState<L = Link> {
    /// Connecting for the first time.
    Connecting,
    /// There is a link.
    Connected(L),
    /// The link was lost; another is being made.
    Reconnecting,
    /// The first connection was refused in a way that trying again will not change.
    Refused(BrokerError),
}

impl<L> SessionState<L> {
    /// The link, if there is one.
    pub fn link(&self) -> Option<&L> {
        match self {
            Self::Connected(link) => Some(link),
            Self::Connecting | Self::Reconnecting | Self::Refused(_) => None,
        }
    }
}

impl Session {
    /// Starts connecting. `worker` is the id shown as connection name beside `purpose`.
    pub fn start(
        settings: Arc<BrokerSettings>,
        worker: &str,
        purpose: &'static str,
        runtime: &Arc<AmqpRuntime>,
        metrics: Metrics,
    ) -> Self {
        let (sender, state) = watch::channel(SessionState::Connecting);
        let stop = CancellationToken::new();
        let hurry = Arc::new(Notify::new());
        let keeper = Keeper {
            settings,
            name: format!("tidegate {worker} {purpose}"),
            purpose,
            runtime: Arc::downgrade(runtime),
            metrics,
            state: sender,
            hurry: Arc::clone(&hurry),
        };
        let stopped = stop.clone();
        let task = runtime.spawn(format!("session {purpose}"), async move {
            stopped.run_until_cancelled(keeper.keep()).await;
        });
        Self {
            purpose,
            state,
            stop,
            hurry,
            task,
        }
    }

    /// Observes the session's state.
    pub fn state(&self) -> watch::Receiver<SessionState> {
        self.state.clone()
    }

    /// Has the next attempt to connect, if one is being waited for, made at once.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Stops connecting and closes the link there is, awaiting close-ok for at most `limit`.
    ///
    /// # Errors
    /// If the link did not close cleanly.
    pub async fn close(self, limit: Duration) -> Result<(), BrokerError> {
        self.task.expect_end();
        self.stop.cancel();
        // The task ends at its next await; an error says that it has ended already.
        let _ = self.task.join().await;
        let link = self.state.borrow().link().cloned();
        if let Some(link) = link {
            return link.close(limit).await;
        }
        info!(purpose = self.purpose, "there is no connection to close");
        Ok(())
    }
}

/// Addresses that are remembered because they accept connections and do not answer.
const SILENT_LIMIT: usize = 16;

struct Keeper {
    settings: Arc<BrokerSettings>,
    name: String,
    purpose: &'static str,
    runtime: std::sync::Weak<AmqpRuntime>,
    metrics: Metrics,
    state: watch::Sender<SessionState>,
    hurry: Arc<Notify>,
}

impl Keeper {
    async fn keep(self) {
        let mut backoff = Backoff::default();
        let mut connected_before = false;
        let mut silent = Vec::new();
        // Workers begin at different hosts, so that a cluster shares the load.
        let mut turn: usize = rand::random_range(0..self.settings.hosts());
        while let Some(runtime) = self.runtime.upgrade() {
            let settings = self.settings.at_host(turn);
            let borrower = (self.purpose == CONSUME).then(|| runtime.borrower());
            let connected =
                connect_to(&settings, &self.name, &runtime, borrower, &mut silent).await;
            drop(runtime);
            silent.truncate(SILENT_LIMIT);
            let attempt = match connected {
                Ok(link) => {
                    silent.clear();
                    if connected_before {
                        self.metrics.reconnected(self.purpose);
                    }
                    connected_before = true;
                    let lasted = self.hold(&link, &settings, &backoff).await;
                    if link.was_closed_by_broker() {
                        Attempt::ClosedAfter(lasted)
                    } else {
                        Attempt::CutAfter(lasted)
                    }
                }
                Err(error) if error.is_refusal() && !connected_before => {
                    warn!(purpose = self.purpose, %error, "the broker refuses the connection");
                    self.state.send_replace(SessionState::Refused(error));
                    // The owner sees the refusal and closes the session.
                    return std::future::pending().await;
                }
                Err(error) => {
                    warn!(
                        purpose = self.purpose,
                        host = settings.address(),
                        attempt = backoff.attempts() + 1,
                        %error,
                        "cannot connect to the broker; trying again"
                    );
                    if error.code().is_some() {
                        Attempt::Refused
                    } else {
                        Attempt::Unanswered
                    }
                }
            };
            turn += 1;
            let wait = backoff.after(attempt, rand::random());
            // A drain that hurries does not wait for another attempt after this.
            let _ = timeout(wait, self.hurry.notified()).await;
        }
    }

    /// Makes `link` known until it is lost; how long it lasted.
    async fn hold(&self, link: &Link, settings: &BrokerSettings, backoff: &Backoff) -> Duration {
        let since = Instant::now();
        info!(
            purpose = self.purpose,
            host = settings.host,
            port = settings.port,
            vhost = settings.vhost,
            generation = link.generation(),
            "connected to the broker"
        );
        self.state
            .send_replace(SessionState::Connected(link.clone()));
        let cause = link.lost().await;
        self.state.send_replace(SessionState::Reconnecting);
        warn!(
            purpose = self.purpose,
            lasted = ?since.elapsed(),
            losses_in_a_row = backoff.attempts() + 1,
            %cause,
            "the connection to the broker is lost"
        );
        since.elapsed()
    }
}

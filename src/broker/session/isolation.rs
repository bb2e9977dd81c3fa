//! A connection of its own for each node, once the shared one is closed again and again.
//!
//! The broker closes a whole connection when it cannot deliver one message on it (541, for what an AMQP 1.0 client
//! sent). On the shared connection that message would disturb every node. Apart, it disturbs its own node alone.

use std::convert::Infallible;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::{CONSUME, Session, SessionState};
use crate::broker::AmqpRuntime;
use crate::config::BrokerSettings;
use crate::metrics::Metrics;
use crate::wait;

/// After so many closures in a row by the broker, each soon after the connection was made, nodes part.
const CLOSURES: usize = 3;
/// A closure after this time counts as the first of a row.
const SOON: Duration = Duration::from_secs(30);

/// Makes a connection of its own for a node that keeps losing the shared one.
#[derive(Debug, Clone)]
pub(crate) struct Isolation {
    shared: watch::Receiver<SessionState>,
    settings: Arc<BrokerSettings>,
    worker: String,
    runtime: Weak<AmqpRuntime>,
    metrics: Metrics,
}

impl Isolation {
    /// Nodes share `session`, and connect by `settings` when they part from it.
    pub(crate) fn new(
        session: &Session,
        settings: Arc<BrokerSettings>,
        worker: &str,
        runtime: &Arc<AmqpRuntime>,
        metrics: Metrics,
    ) -> Self {
        Self {
            shared: session.state(),
            settings,
            worker: worker.to_owned(),
            runtime: Arc::downgrade(runtime),
            metrics,
        }
    }

    /// The session that the node of `queue` sees, and what keeps it up to date: run it beside the node.
    pub(crate) fn session_of(
        self,
        queue: &str,
    ) -> (
        watch::Receiver<SessionState>,
        impl Future<Output = Infallible> + Send + use<>,
    ) {
        let (sender, session) = watch::channel(self.shared.borrow().clone());
        let queue = queue.to_owned();
        (session, self.relay(queue, sender))
    }

    async fn relay(mut self, queue: String, session: watch::Sender<SessionState>) -> Infallible {
        loop {
            self.until_parted(&session).await;
            let Some(runtime) = self.runtime.upgrade() else {
                // The worker's thread ends, and this with it.
                std::future::pending::<()>().await;
                continue;
            };
            warn!(
                queue,
                "the broker closed the shared connection {CLOSURES} times in a row; this node gets one of its own. If one message \
                 is the cause, a policy with a delivery limit sets it aside"
            );
            let name = format!("{} {queue}", self.worker);
            let settings = Arc::clone(&self.settings);
            let own = Session::start(settings, &name, CONSUME, &runtime, self.metrics.clone());
            drop(runtime);
            let mut state = own.state();
            loop {
                let now = state.borrow_and_update().clone();
                if let SessionState::Refused(error) = &now {
                    warn!(queue, %error, "the node goes back to the shared connection");
                    break;
                }
                session.send_replace(now);
                wait::changed(&mut state).await;
            }
        }
    }

    /// Passes the shared session on until it is time to part from it.
    async fn until_parted(&mut self, session: &watch::Sender<SessionState>) {
        let mut closures = 0;
        while closures < CLOSURES {
            let since = Instant::now();
            let state = self.shared.borrow_and_update().clone();
            session.send_replace(state.clone());
            wait::changed(&mut self.shared).await;
            let closed = state
                .link()
                .is_some_and(super::super::link::Link::was_closed_by_broker);
            if closed && since.elapsed() < SOON {
                closures += 1;
            } else if state.link().is_some() {
                closures = 0;
            }
        }
    }
}

//! The worker's HTTP server: liveness, readiness, metrics.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::lifecycle::Phase;
use crate::metrics::Metrics;
use crate::node::NodeState;
use crate::server::{self, ServerLimits};

/// Probes and scrapes are few and short.
const LIMITS: ServerLimits = ServerLimits {
    connections: 128,
    head: Duration::from_secs(10),
    write: Duration::from_secs(10),
    stop: Duration::ZERO,
};

/// What the endpoints look at.
#[derive(Debug, Clone)]
pub(crate) struct Health {
    /// The worker's phase.
    pub phase: watch::Receiver<Phase>,
    /// The state of each node.
    pub nodes: Vec<watch::Receiver<NodeState>>,
    /// What is counted.
    pub metrics: Metrics,
}

impl Health {
    /// Whether the worker takes new work: it is running, and every node consumes. Else why not.
    fn readiness(&self) -> Result<(), String> {
        let phase = *self.phase.borrow();
        if phase != Phase::Running {
            return Err(format!("the worker is {phase}"));
        }
        let consuming = |node: &&watch::Receiver<NodeState>| *node.borrow() == NodeState::Consuming;
        let consumers = self.nodes.iter().filter(consuming).count();
        if consumers == self.nodes.len() {
            return Ok(());
        }
        let nodes = self.nodes.len();
        Err(format!(
            "{consumers} of {nodes} nodes consume; the others reconnect"
        ))
    }
}

/// Serves on `listener` until the handle is dropped.
///
/// It is to run on `amqp`, the thread that everything else of the worker runs on but handlers: an answer shows
/// that this thread lives, and handlers that block theirs neither hide that nor look like its death.
pub(crate) fn serve(listener: TcpListener, health: Health, amqp: &Handle) -> AbortOnDropHandle<()> {
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    AbortOnDropHandle::new(amqp.spawn(async move {
        server::serve(listener, router, LIMITS, CancellationToken::new()).await;
    }))
}

async fn readyz(State(health): State<Health>) -> (StatusCode, String) {
    match health.readiness() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn metrics(State(health): State<Health>) -> impl IntoResponse {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(header::CONTENT_TYPE, content_type)],
        health.metrics.encode(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readiness(phase: Phase, nodes: &[NodeState]) -> Result<(), String> {
        let health = Health {
            phase: watch::channel(phase).1,
            nodes: nodes
                .iter()
                .map(|node| watch::channel(node.clone()).1)
                .collect(),
            metrics: Metrics::new(),
        };
        health.readiness()
    }

    #[test]
    fn only_a_running_worker_whose_nodes_all_consume_is_ready() {
        let consuming = NodeState::Consuming;
        assert_eq!(
            readiness(Phase::Running, std::slice::from_ref(&consuming)),
            Ok(())
        );
        let reconnecting = [consuming.clone(), NodeState::Opening];
        let why = "1 of 2 nodes consume; the others reconnect".to_owned();
        assert_eq!(readiness(Phase::Running, &reconnecting), Err(why));
        for phase in [
            Phase::Starting,
            Phase::Paused,
            Phase::Draining,
            Phase::Stopped,
        ] {
            let why = format!("the worker is {phase}");
            assert_eq!(readiness(phase, std::slice::from_ref(&consuming)), Err(why));
        }
    }
}

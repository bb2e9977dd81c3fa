//! The worker's HTTP server: liveness, readiness, metrics.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::broker::AmqpRuntime;
use crate::lifecycle::{Tasks, WatchedTask};
use crate::metrics::{Metrics, MoreMetrics, exposition};
use crate::server::{self, ServerLimits};
use crate::status::Remarks;

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
    /// Whether the worker takes new work: it is running, and every node consumes. Else why not.
    pub readiness: watch::Receiver<Result<(), String>>,
    /// The worker's long-lived tasks: when one has failed, the worker is not live.
    pub tasks: Tasks,
    /// What is counted.
    pub metrics: Metrics,
    /// What the program counts.
    pub more: Option<MoreMetrics>,
    /// What the program says of the worker as a whole follows in the text of `/readyz`.
    pub remarks: watch::Receiver<Remarks>,
}

/// Serves on `listener` until the handle is dropped.
///
/// It is to run on `amqp`, the thread that everything else of the worker runs on but handlers: an answer shows
/// that this thread lives, and handlers that block theirs neither hide that nor look like its death.
pub(crate) fn serve(listener: TcpListener, health: Health, amqp: &AmqpRuntime) -> WatchedTask<()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health);
    amqp.spawn("http server", async move {
        server::serve(listener, router, LIMITS, CancellationToken::new()).await;
    })
}

async fn livez(State(health): State<Health>) -> (StatusCode, String) {
    match health.tasks.failure() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(failure) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n")),
    }
}

async fn readyz(State(health): State<Health>) -> (StatusCode, String) {
    let remark = health.remarks.borrow().worker.clone();
    let remark = remark.map_or_else(String::new, |remark| format!("{remark}\n"));
    match health.readiness.borrow().clone() {
        Ok(()) => (StatusCode::OK, format!("ready\n{remark}")),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n{remark}")),
    }
}

async fn metrics(State(health): State<Health>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).map(http::HeaderValue::as_bytes);
    let text = health.metrics.encode();
    let text = match &health.more {
        Some(more) => more.after(&text),
        None => text,
    };
    let (content_type, text) = exposition(text, accept);
    ([(header::CONTENT_TYPE, content_type)], text)
}

//! The HTTP endpoints that the OpenCTI worker has beside Tidegate's own.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tidegate::internal::server::{ServerLimits, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::engine::Engine;
use std::sync::Arc;

/// Probes and scrapes are few and short.
const LIMITS: ServerLimits = ServerLimits {
    connections: 128,
    head: Duration::from_secs(10),
    write: Duration::from_secs(10),
    stop: Duration::ZERO,
};

/// Serves the platform's metrics, and ours after them.
pub(crate) async fn serve_metrics(
    address: SocketAddr,
    engine: Arc<Engine>,
) -> std::io::Result<AbortOnDropHandle<()>> {
    let metrics = move || {
        let engine = Arc::clone(&engine);
        async move {
            let platform = engine.metrics.encode_platform();
            let both = platform.trim_end().trim_end_matches("# EOF").to_owned();
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (
                [(header::CONTENT_TYPE, kind)],
                both + &engine.metrics.encode_own(),
            )
        }
    };
    let router = Router::new()
        .route("/", get(metrics.clone()))
        .route("/metrics", get(metrics));
    start(address, router).await
}

/// Serves liveness, and that the worker is not ready: until the platform has said which queues there are.
pub(crate) async fn serve_waiting(
    address: SocketAddr,
    engine: Arc<Engine>,
) -> std::io::Result<AbortOnDropHandle<()>> {
    let ready = move || {
        let why = engine.gate.describe();
        let why =
            why.unwrap_or_else(|| "the platform was not asked yet which queues there are".into());
        async move { (StatusCode::SERVICE_UNAVAILABLE, why + "\n") }
    };
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready));
    start(address, router).await
}

async fn start(address: SocketAddr, router: Router) -> std::io::Result<AbortOnDropHandle<()>> {
    let listener = TcpListener::bind(address).await?;
    let serving = serve(listener, router, LIMITS, CancellationToken::new());
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        serving.await;
    })))
}

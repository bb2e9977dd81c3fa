//! The HTTP endpoints that the OpenCTI worker has beside Tidegate's own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::routing::get;
use tidegate::internal::metrics::exposition;
use tidegate::internal::server::{ServerLimits, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;

use crate::engine::Engine;

/// Probes and scrapes are few and short.
const LIMITS: ServerLimits = ServerLimits {
    connections: 128,
    head: Duration::from_secs(10),
    write: Duration::from_secs(10),
    stop: Duration::ZERO,
};

/// Serves the platform's metrics, and ours after them.
pub(crate) fn serve_metrics(
    listener: std::net::TcpListener,
    engine: Arc<Engine>,
) -> std::io::Result<AbortOnDropHandle<()>> {
    let address = listener.local_addr()?;
    info!(%address, "the platform's metrics are served");
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
    start(listener, router)
}

/// Serves liveness, and that the worker is not ready: until the platform has said which queues there are.
pub(crate) fn serve_waiting(
    listener: std::net::TcpListener,
    engine: Arc<Engine>,
) -> std::io::Result<AbortOnDropHandle<()>> {
    let counted = engine.metrics.clone();
    let ready = move || {
        let why = engine.gate.describe();
        let why = why.unwrap_or_else(|| "the platform has named no queue to consume yet".into());
        async move { (StatusCode::SERVICE_UNAVAILABLE, why + "\n") }
    };
    let metrics = async move |headers: HeaderMap| {
        let accept = headers.get(header::ACCEPT).map(HeaderValue::as_bytes);
        let (kind, text) = exposition(counted.encode_own(), accept);
        ([(header::CONTENT_TYPE, kind)], text)
    };
    let router = Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics));
    start(listener, router)
}

/// Listens on `address`. The listener can be shared: what one server accepts, another does not.
pub(crate) fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn start(
    listener: std::net::TcpListener,
    router: Router,
) -> std::io::Result<AbortOnDropHandle<()>> {
    let listener = TcpListener::from_std(listener)?;
    let serving = serve(listener, router, LIMITS, CancellationToken::new());
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        serving.await;
    })))
}

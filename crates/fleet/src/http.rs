//! The page and the API, over HTTP.
//!
//! Everything is bounded: connections, clients of events, bodies, the time a request takes. Commands need a token;
//! reads need one where it is configured. The page's policy lets it load nothing but its own files.

mod auth;
mod caller;
mod command;
mod compression;
mod error;
mod events;
mod hosts;
mod letters;
mod query;
mod queues;
mod read;
mod rollouts;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::dead::DeadLetters;
use super::hub::Hub;
use super::openapi;
use super::page::asset;
use super::queues::QueueWatcher;
use super::rollout::RolloutBoard;
use super::shared::Shared;
use super::speaker::Speaker;
use super::viewers::Viewers;
use auth::Tokens;
use error::ApiError;
use hosts::Hosts;
use tidegate::internal::server::{self, ServerLimits};
use tidegate::lifecycle::Tasks;

/// Clients of events at a time.
const EVENT_CLIENTS: usize = 256;
/// How long a request may take, but for events.
const REQUEST_LIMIT: Duration = Duration::from_secs(20);
/// What bounds the server. Streams of events say something every 15 s, so that a client that reads is never cut off.
const LIMITS: ServerLimits = ServerLimits {
    connections: 1_024,
    head: Duration::from_secs(20),
    write: Duration::from_secs(30),
    stop: Duration::from_secs(1),
};
/// What the page may do: load its own files, and talk to its own API.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What the endpoints need. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    shared: Arc<Shared>,
    hub: Arc<Hub>,
    speaker: Arc<Speaker>,
    viewers: Arc<Viewers>,
    queues: Arc<QueueWatcher>,
    letters: Option<DeadLetters>,
    rollouts: Arc<RolloutBoard>,
    tokens: Arc<Tokens>,
    hosts: Arc<Hosts>,
    clients: Arc<Semaphore>,
    tasks: Tasks,
    stop: CancellationToken,
}

/// What the endpoints show and command.
#[derive(Debug)]
pub(super) struct ApiParts {
    pub shared: Arc<Shared>,
    pub hub: Arc<Hub>,
    pub speaker: Arc<Speaker>,
    pub viewers: Arc<Viewers>,
    pub queues: Arc<QueueWatcher>,
    pub letters: Option<DeadLetters>,
    pub rollouts: Arc<RolloutBoard>,
}

impl Api {
    /// The endpoints of these parts.
    pub(super) fn new(
        parts: ApiParts,
        settings: &tidegate::config::FleetSettings,
        tasks: Tasks,
        stop: CancellationToken,
    ) -> Self {
        Self {
            shared: parts.shared,
            hub: parts.hub,
            speaker: parts.speaker,
            viewers: parts.viewers,
            queues: parts.queues,
            letters: parts.letters,
            rollouts: parts.rollouts,
            tokens: Arc::new(Tokens::of(settings)),
            hosts: Arc::new(Hosts::new(&settings.hosts)),
            clients: Arc::new(Semaphore::new(EVENT_CLIENTS)),
            tasks,
            stop,
        }
    }
}

/// Serves on `listener` until told to stop, and then for at most a second.
pub(super) async fn serve(listener: TcpListener, api: Api) {
    let stop = api.stop.clone();
    server::serve(listener, router(api), LIMITS, stop).await;
}

/// The routes that the description of the API is about.
pub(super) fn described() -> ApiRouter<Api> {
    all_reads().merge(all_commands())
}

fn all_reads() -> ApiRouter<Api> {
    reads().merge(queues::reads()).merge(rollouts::reads())
}

fn all_commands() -> ApiRouter<Api> {
    commands()
        .merge(rollouts::commands())
        .merge(letters::routes())
}

fn reads() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/api/v1/summary",
            get_with(read::summary, |o| openapi::read(o, "The fleet in figures")),
        )
        .api_route(
            "/api/v1/workers",
            get_with(read::workers, |o| {
                openapi::read(o, "Workers, in the order of their ids")
            }),
        )
        .api_route(
            "/api/v1/workers/{id}",
            get_with(read::worker, |o| {
                openapi::read(o, "A worker and its history")
            }),
        )
        .api_route(
            "/api/v1/drains",
            get_with(read::drains, |o| openapi::read(o, "Drains, newest first")),
        )
        .api_route("/api/v1/events", get_with(events::events, openapi::events))
        .api_route("/api/v1/watch", post_with(watch::watch, openapi::watch))
}

fn commands() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/api/v1/workers/{id}/drain",
            post_with(command::drain, |o| {
                openapi::command(o, "Drain the worker; it exits")
            }),
        )
        .api_route(
            "/api/v1/workers/{id}/pause",
            post_with(command::pause, |o| {
                openapi::command(o, "Let the worker consume nothing until it is resumed")
            }),
        )
        .api_route(
            "/api/v1/workers/{id}/resume",
            post_with(command::resume, |o| {
                openapi::command(o, "Let the worker consume again")
            }),
        )
}

fn router(api: Api) -> Router {
    let reads = Router::from(all_reads())
        .route("/metrics", get(read::metrics))
        .layer(from_fn_with_state(api.clone(), auth::may_read));
    let all = Router::from(all_commands())
        .merge(reads)
        .route("/api/v1/openapi.json", get(read::openapi))
        .fallback(page)
        .layer(from_fn_with_state(api.clone(), hosts::check))
        // Probes come by whatever name the platform uses, and tell nothing.
        .route("/livez", get(livez))
        .route("/readyz", get(readyz));
    all.method_not_allowed_fallback(async || ApiError::method())
        .layer(from_fn(bounded))
        .layer(compression::layer())
        .layer(from_fn(secured))
        .with_state(api)
}

/// The program lives while all of its tasks do.
async fn livez(State(api): State<Api>) -> (StatusCode, String) {
    match api.tasks.failure() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(failure) => (StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n")),
    }
}

/// Ready is who hears the fleet, and has read the log to its end.
async fn readyz(State(api): State<Api>) -> (StatusCode, &'static str) {
    let broker = api.shared.broker();
    match (broker.caught_up, broker.connected) {
        (true, true) => (StatusCode::OK, "ready\n"),
        (false, _) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the log of states is not read to its end yet\n",
        ),
        (true, false) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no connection to the broker\n",
        ),
    }
}

/// The page's files, at the root and under `/assets/`.
async fn page(request: Request) -> Response {
    if request.method() != axum::http::Method::GET && request.method() != axum::http::Method::HEAD {
        return ApiError::method().into_response();
    }
    let Some(asset) = named(request.uri()).and_then(asset) else {
        return ApiError::not_found("there is nothing here").into_response();
    };
    let tag = asset.tag();
    let known = request.headers().get(header::IF_NONE_MATCH);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        // Another program may serve another page at the same place.
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (header::ETAG, tag.clone()),
    ];
    // A proxy that compresses makes the tag a weak one.
    let matches = |known: &HeaderValue| {
        let known = known.as_bytes();
        known.strip_prefix(b"W/").unwrap_or(known) == tag.as_bytes()
    };
    if known.is_some_and(matches) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, asset.body).into_response()
}

fn named(uri: &Uri) -> Option<&str> {
    let name = uri.path().strip_prefix('/')?;
    let name = name.strip_prefix("assets/").unwrap_or(name);
    Some(if name.is_empty() { "index.html" } else { name })
}

/// Ends a request that takes too long to answer. A stream of events has begun when its head is there.
async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_elapsed) => ApiError::slow().into_response(),
    }
}

/// Headers of every response.
async fn secured(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        (
            "permissions-policy",
            "camera=(), geolocation=(), microphone=()",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

//! The reads.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::Api;
use super::error::ApiError;
use super::query::{DrainsParameters, Path, Query, WorkerPath, WorkersParameters};
use crate::api::{Drains, Summary, WorkerDetail, Workers};
use crate::openapi;
use tidegate::internal::metrics::exposition;

pub(super) async fn summary(State(api): State<Api>) -> Json<Summary> {
    Json(api.hub.summary())
}

pub(super) async fn workers(
    State(api): State<Api>,
    Query(asked): Query<WorkersParameters>,
) -> Json<Workers> {
    let now = api.shared.now();
    Json(api.shared.fleet().workers(&asked.into(), now))
}

pub(super) async fn worker(
    State(api): State<Api>,
    Path(WorkerPath { id }): Path<WorkerPath>,
) -> Result<Json<WorkerDetail>, ApiError> {
    let now = api.shared.now();
    let detail = api.shared.fleet().detail(&id, now);
    detail.map(Json).ok_or_else(|| unknown_worker(&id))
}

pub(super) async fn drains(
    State(api): State<Api>,
    Query(asked): Query<DrainsParameters>,
) -> Json<Drains> {
    Json(api.shared.fleet().drains(asked.limit.0, asked.before()))
}

pub(super) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> impl IntoResponse {
    let now = api.shared.now();
    let broker = api.shared.broker();
    let (overview, dropped) = {
        let mut fleet = api.shared.fleet();
        (fleet.overview(now), fleet.dropped())
    };
    let text = api.shared.metrics.encode(&overview, broker, dropped);
    let accept = headers.get(header::ACCEPT).map(http::HeaderValue::as_bytes);
    let (content_type, text) = exposition(text, accept);
    ([(header::CONTENT_TYPE, content_type)], text)
}

pub(super) async fn openapi() -> Response {
    let json = [(header::CONTENT_TYPE, "application/json")];
    (json, openapi::text()).into_response()
}

pub(super) fn unknown_worker(id: &str) -> ApiError {
    let id: String = id.chars().take(200).collect();
    ApiError::not_found(format!("worker {id:?} is not known"))
}

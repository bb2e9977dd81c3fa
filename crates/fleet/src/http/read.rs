//! The reads.

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Api;
use super::error::ApiError;
use super::query;
use crate::api::{Summary, WorkerDetail};
use crate::openapi;

pub(super) async fn summary(State(api): State<Api>) -> Json<Summary> {
    Json(api.hub.summary())
}

pub(super) async fn workers(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let query = query::workers(query.as_deref())?;
    let now = api.shared.now();
    let workers = api.shared.fleet().workers(&query, now);
    Ok(json(&workers))
}

pub(super) async fn worker(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<WorkerDetail>, ApiError> {
    let now = api.shared.now();
    let detail = api.shared.fleet().detail(&id, now);
    detail.map(Json).ok_or_else(|| unknown_worker(&id))
}

pub(super) async fn drains(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let (limit, before) = query::drains(query.as_deref())?;
    let before = before.as_ref().map(|(at, id)| (*at, id.as_str()));
    let drains = api.shared.fleet().drains(limit, before);
    Ok(json(&drains))
}

pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let now = api.shared.now();
    let broker = api.shared.broker();
    let (overview, dropped) = {
        let mut fleet = api.shared.fleet();
        (fleet.overview(now), fleet.dropped())
    };
    let text = api.shared.metrics.encode(&overview, broker, dropped);
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], text)
}

pub(super) async fn openapi() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        openapi::text(),
    )
}

pub(super) fn unknown_worker(id: &str) -> ApiError {
    let id: String = id.chars().take(200).collect();
    ApiError::not_found(format!("worker {id:?} is not known"))
}

/// Written at once, outside of the fleet's lock.
fn json(value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("what is said is plain data");
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

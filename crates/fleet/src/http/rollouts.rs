//! Commands to a number of workers.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::info;

use super::Api;
use super::caller::Caller;
use super::error::ApiError;
use super::query::Path;
use crate::api::{ErrorBody, Rollout, RolloutRequest, Rollouts};
use crate::openapi;
use crate::rollout::RolloutError;

/// Bytes of a body: the ids of ten thousand workers.
const BODY_LIMIT: usize = 4 << 20;

/// A rollout's id, as a part of a path.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct RolloutPath {
    /// The rollout's id
    id: String,
}

pub(super) fn reads() -> ApiRouter<Api> {
    ApiRouter::new().api_route(
        "/api/v1/rollouts",
        get_with(list, |o| openapi::read(o, "Rollouts, newest first")),
    )
}

pub(super) fn commands() -> ApiRouter<Api> {
    type Error = Json<ErrorBody>;
    ApiRouter::new()
        .api_route(
            "/api/v1/rollouts",
            post_with(start, |o| {
                o.summary("Give one command to several workers, a limited number at a time")
                    .description(
                        "The rollout ends early if a worker does not carry out the command, is lost, or is not replaced in 15 \
                         minutes. This program carries it out. If the program ends, the rollout ends too.",
                    )
                    .security_requirement("command")
                    .input::<Json<RolloutRequest>>()
                    .response_with::<202, Json<Rollout>, _>(|r| r.description("The rollout has begun"))
                    .response_with::<400, Error, _>(|r| r.description("The request is invalid"))
                    .response_with::<401, Error, _>(|r| r.description("The token is missing"))
                    .response_with::<403, Error, _>(|r| {
                        r.description("The token is wrong, or commands are off")
                    })
                    .response_with::<409, Error, _>(|r| r.description("Another rollout is in progress"))
            }),
        )
        .api_route(
            "/api/v1/rollouts/{id}/stop",
            post_with(stop, |o| {
                o.summary("Stop a rollout. Workers that already have the command still carry it out")
                    .security_requirement("command")
                    .response_with::<200, Json<Rollout>, _>(|r| r.description("The rollout is stopping"))
                    .response_with::<404, Error, _>(|r| r.description("The rollout does not exist"))
            }),
        )
}

async fn list(State(api): State<Api>) -> Json<Rollouts> {
    Json(api.rollouts.list())
}

async fn start(
    State(api): State<Api>,
    headers: HeaderMap,
    caller: Caller,
    body: Body,
) -> Result<(StatusCode, Json<Rollout>), ApiError> {
    api.tokens.may_command(&headers)?;
    let body = axum::body::to_bytes(body, BODY_LIMIT).await;
    let body = body.map_err(|_too_large_or_broken| ApiError::too_large(BODY_LIMIT))?;
    let request: RolloutRequest = serde_json::from_slice(&body).map_err(|error| {
        let form = r#"{"command": "drain", "workers": [ID, …], "max_at_once": NUMBER}"#;
        ApiError::bad_request(format!("the body is not {form}: {error}"))
    })?;
    let by = caller.to_string();
    let rollout = api
        .rollouts
        .start(request, &by)
        .map_err(|error| match error {
            RolloutError::Request(text) => ApiError::bad_request(text),
            RolloutError::UnderWay(_) => ApiError::conflict(error.to_string()),
        })?;
    info!(
        rollout = rollout.id,
        command = rollout.command.as_str(),
        workers = rollout.total,
        max_at_once = rollout.max_at_once,
        wait_replaced = rollout.wait_replaced,
        by,
        "rollout begun over http"
    );
    Ok((StatusCode::ACCEPTED, Json(rollout)))
}

async fn stop(
    State(api): State<Api>,
    headers: HeaderMap,
    caller: Caller,
    path: Result<Path<RolloutPath>, ApiError>,
) -> Result<Json<Rollout>, ApiError> {
    api.tokens.may_command(&headers)?;
    let Path(RolloutPath { id }) = path?;
    let stopped = api.rollouts.stop(&id);
    let rollout = stopped.ok_or_else(|| ApiError::not_found("there is no such rollout"))?;
    info!(
        rollout = rollout.id,
        by = caller.to_string(),
        "rollout stopped over http"
    );
    Ok(Json(rollout))
}

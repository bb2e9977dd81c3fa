//! Commands to workers.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tracing::info;

use super::Api;
use super::error::ApiError;
use super::query::{Path, WorkerPath};
use super::read::unknown_worker;
use crate::api::{CommandAnswer, CommandRequest, WorkerState};
use crate::speaker::CommandError;
use tidegate::internal::status::control::Command;

/// Bytes of a command's body.
const BODY_LIMIT: usize = 16 << 10;
/// Bytes of a reason.
const REASON_LIMIT: usize = 500;

/// `POST /api/v1/workers/ID/drain`
pub(super) async fn drain(
    State(api): State<Api>,
    headers: HeaderMap,
    path: Result<Path<WorkerPath>, ApiError>,
    body: Body,
) -> Response {
    let command = |reason| Command::Drain { reason };
    answered(&api, &headers, path, "drain", command, body).await
}

/// `POST /api/v1/workers/ID/pause`
pub(super) async fn pause(
    State(api): State<Api>,
    headers: HeaderMap,
    path: Result<Path<WorkerPath>, ApiError>,
    body: Body,
) -> Response {
    let command = |reason| Command::Pause { reason };
    answered(&api, &headers, path, "pause", command, body).await
}

/// `POST /api/v1/workers/ID/resume`
pub(super) async fn resume(
    State(api): State<Api>,
    headers: HeaderMap,
    path: Result<Path<WorkerPath>, ApiError>,
    body: Body,
) -> Response {
    let command = |_reason| Command::Resume;
    answered(&api, &headers, path, "resume", command, body).await
}

/// Gives the command and tells its answer. The token is checked before anything else is looked at.
async fn answered(
    api: &Api,
    headers: &HeaderMap,
    path: Result<Path<WorkerPath>, ApiError>,
    word: &'static str,
    command: impl FnOnce(Option<String>) -> Command,
    body: Body,
) -> Response {
    let answered = async {
        api.tokens.may_command(headers)?;
        let Path(WorkerPath { id }) = path?;
        let command = command(request(body).await?.reason);
        give(api, &id, word, &command).await
    };
    match answered.await {
        Ok(answer) => {
            let outcome = if answer.ok { "done" } else { "refused" };
            api.shared.metrics.commanded(outcome);
            info!(
                worker = answer.worker,
                command = word,
                outcome,
                "commanded over http"
            );
            let status = if answer.ok {
                StatusCode::OK
            } else {
                StatusCode::CONFLICT
            };
            (status, Json(answer)).into_response()
        }
        Err(error) => {
            api.shared.metrics.commanded(error.code());
            error.into_response()
        }
    }
}

async fn give(
    api: &Api,
    id: &str,
    word: &str,
    command: &Command,
) -> Result<CommandAnswer, ApiError> {
    let state = || api.shared.fleet().state_of(id);
    let said = match state() {
        None => return Err(unknown_worker(id)),
        Some(WorkerState::Stopped) => Err(CommandError::Gone),
        Some(_) => api.speaker.command(id, command).await,
    };
    // A control queue outlives its worker by a moment: what is said meanwhile nobody answers.
    let said = match said {
        Err(CommandError::NoAnswer) if state() == Some(WorkerState::Stopped) => {
            Err(CommandError::Gone)
        }
        said => said,
    };
    if said == Err(CommandError::Gone) {
        let now = api.shared.now();
        api.shared.fleet().queue_gone(id, now);
    }
    let reply = said.map_err(|error| ApiError::of_command(id, &error))?;
    Ok(CommandAnswer {
        worker: reply.worker,
        command: word.to_owned(),
        ok: reply.ok,
        phase: reply.phase,
        error: reply.error,
    })
}

/// The body; one that is empty says nothing.
async fn request(body: Body) -> Result<CommandRequest, ApiError> {
    let body = axum::body::to_bytes(body, BODY_LIMIT).await;
    let body = body.map_err(|_too_large_or_broken| ApiError::too_large(BODY_LIMIT))?;
    if body.trim_ascii().is_empty() {
        return Ok(CommandRequest::default());
    }
    let request: CommandRequest = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad_request(format!("the body is not {{\"reason\": TEXT}}: {error}"))
    })?;
    let bytes = request.reason.as_ref().map_or(0, String::len);
    if bytes > REASON_LIMIT {
        let rule = format!("at most {REASON_LIMIT} bytes, not {bytes}");
        return Err(ApiError::bad_request(format!("reason: {rule}")));
    }
    Ok(request)
}

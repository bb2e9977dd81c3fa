//! Commands to workers.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use tracing::info;

use super::Api;
use super::error::ApiError;
use super::read::unknown_worker;
use crate::api::{CommandAnswer, CommandRequest, WorkerState};
use crate::speaker::CommandError;
use tidegate::internal::status::control::Command;

/// Bytes of a command's body.
const BODY_LIMIT: usize = 16 << 10;
/// Bytes of a reason.
const REASON_LIMIT: usize = 500;

/// `POST /api/v1/workers/ID/COMMAND`. The token is looked at before anything else.
pub(super) async fn command(
    State(api): State<Api>,
    Path((id, word)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answered = match api.tokens.may_command(&headers) {
        Ok(()) => give(&api, &id, &word, body).await,
        Err(error) => Err(error),
    };
    match answered {
        Ok((status, answer)) => {
            let outcome = if answer.ok { "done" } else { "refused" };
            api.shared.metrics.commanded(outcome);
            info!(worker = id, command = word, outcome, "commanded over http");
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
    body: Body,
) -> Result<(StatusCode, CommandAnswer), ApiError> {
    let reason = request(body).await?.reason;
    let command = match word {
        "drain" => Command::Drain { reason },
        "pause" => Command::Pause { reason },
        "resume" => Command::Resume,
        _ => {
            let message = "the commands are drain, pause and resume";
            return Err(ApiError::not_found(message));
        }
    };
    let state = || api.shared.fleet().state_of(id);
    let said = match state() {
        None => return Err(unknown_worker(id)),
        Some(WorkerState::Stopped) => Err(CommandError::Gone),
        Some(_) => api.speaker.command(id, &command).await,
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
    let status = if reply.ok {
        StatusCode::OK
    } else {
        StatusCode::CONFLICT
    };
    let answer = CommandAnswer {
        worker: reply.worker,
        command: word.to_owned(),
        ok: reply.ok,
        phase: reply.phase,
        error: reply.error,
    };
    Ok((status, answer))
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

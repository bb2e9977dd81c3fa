//! Dead letters: behind `fleet.dead_letters` and the token for commands, reads as well, because they show what others
//! wrote and take each letter out of its queue for a moment.

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use aide::transform::TransformOperation;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use schemars::JsonSchema;
use serde::Deserialize;
use tracing::info;

use super::Api;
use super::caller::Caller;
use super::error::ApiError;
use super::query::{Limit, Path, Query};
use crate::api::{DeadLetter, DeadLetterList, DeadLetterRequest, ErrorBody, NewestDead};
use crate::dead::{DeadLetters, LettersCommand, LettersError, QueueReport};

/// Bytes of a body: a thousand letters.
const BODY_LIMIT: usize = 64 << 10;
/// Letters and reasons that one request names.
const LETTERS_LIMIT: usize = 1_000;
const REASONS_LIMIT: usize = 100;

/// A queue of the fleet.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct QueuePath {
    /// The queue's name
    queue: String,
}

/// A dead letter of a queue.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct LetterPath {
    /// The queue's name
    queue: String,
    /// The letter's identifier, from the list
    letter: String,
}

/// The parameters of the list of dead letters.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LettersParameters {
    /// Only letters with this reason
    #[serde(default)]
    #[schemars(with = "String")]
    reason: Option<String>,
    /// The maximum number of items
    #[serde(default)]
    limit: Limit<100, 1_000>,
}

pub(super) fn routes() -> ApiRouter<Api> {
    ApiRouter::new()
        .api_route(
            "/api/v1/queues/{queue}/dead",
            get_with(list, |o| {
                guarded(o, "Dead letters of a queue, counted by reason")
            }),
        )
        .api_route(
            "/api/v1/queues/{queue}/dead/{letter}",
            get_with(show, |o| {
                guarded(o, "A dead letter with properties, headers and body")
            }),
        )
        .api_route(
            "/api/v1/queues/{queue}/dead/replay",
            post_with(replay, |o| {
                guarded(o, "Send dead letters back to where they came from")
                    .input::<Json<DeadLetterRequest>>()
            }),
        )
        .api_route(
            "/api/v1/queues/{queue}/dead/drop",
            post_with(drop_letters, |o| {
                guarded(o, "Remove dead letters for good").input::<Json<DeadLetterRequest>>()
            }),
        )
}

fn guarded<'o>(operation: TransformOperation<'o>, summary: &str) -> TransformOperation<'o> {
    type Error = Json<ErrorBody>;
    operation
        .summary(summary)
        .description("A pass ends after ten seconds. Letters that it has not reached by then stay where they are.")
        .security_requirement("command")
        .response_with::<401, Error, _>(|r| r.description("The token is missing"))
        .response_with::<403, Error, _>(|r| {
            r.description("The token is wrong, or fleet.dead_letters is off")
        })
        .response_with::<404, Error, _>(|r| {
            r.description("No worker of the fleet consumes the queue, or the letter does not exist")
        })
        .response_with::<409, Error, _>(|r| r.description("Another pass is in progress"))
}

/// The dead letters, for a caller that may see those of `queue`.
fn allowed<'a>(
    api: &'a Api,
    headers: &HeaderMap,
    queue: &str,
) -> Result<&'a DeadLetters, ApiError> {
    let letters = api.letters.as_ref().ok_or_else(ApiError::letters_off)?;
    api.tokens.may_command(headers)?;
    let now = api.shared.now();
    if !api.shared.fleet().queue_work(now).contains_key(queue) {
        let queue: String = queue.chars().take(200).collect();
        return Err(ApiError::not_found(format!(
            "no worker of the fleet has told of queue {queue:?}"
        )));
    }
    Ok(letters)
}

async fn list(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(QueuePath { queue }): Path<QueuePath>,
    Query(asked): Query<LettersParameters>,
) -> Result<Json<DeadLetterList>, ApiError> {
    let letters = allowed(&api, &headers, &queue)?;
    let listed = letters
        .list(queue, asked.reason.clone(), asked.limit.0)
        .await?;
    let newest = listed
        .letters
        .iter()
        .max_by_key(|letter| letter.record.at.clone());
    if let Some(newest) = newest.filter(|_| asked.reason.is_none()) {
        let newest = NewestDead {
            reason: newest.record.reason.clone().unwrap_or_default(),
            at: newest.record.at.clone(),
            read_at: api.shared.now(),
        };
        api.queues.read_letter(&listed.queue, newest);
    }
    Ok(Json(listed))
}

async fn show(
    State(api): State<Api>,
    headers: HeaderMap,
    Path(LetterPath { queue, letter }): Path<LetterPath>,
) -> Result<Json<DeadLetter>, ApiError> {
    let letters = allowed(&api, &headers, &queue)?;
    let found = letters.show(queue, letter).await?;
    let gone = || ApiError::not_found("this dead letter is not there any more");
    found.map(Json).ok_or_else(gone)
}

async fn replay(
    state: State<Api>,
    headers: HeaderMap,
    caller: Caller,
    path: Path<QueuePath>,
    body: Body,
) -> Result<Json<QueueReport>, ApiError> {
    carry_out(LettersCommand::Replay, state, headers, caller, path, body).await
}

async fn drop_letters(
    state: State<Api>,
    headers: HeaderMap,
    caller: Caller,
    path: Path<QueuePath>,
    body: Body,
) -> Result<Json<QueueReport>, ApiError> {
    carry_out(LettersCommand::Drop, state, headers, caller, path, body).await
}

/// Carries out a command, and tells the log before and after.
async fn carry_out(
    command: LettersCommand,
    State(api): State<Api>,
    headers: HeaderMap,
    caller: Caller,
    Path(QueuePath { queue }): Path<QueuePath>,
    body: Body,
) -> Result<Json<QueueReport>, ApiError> {
    let letters = allowed(&api, &headers, &queue)?;
    let request = request(body).await?;
    let audited = begun(command.as_str(), &queue, &request, &caller);
    let report = letters.carry_out(command, queue, request).await;
    audited.ended(report)
}

/// What the log is told of a command on dead letters.
struct Audited {
    command: &'static str,
    queue: String,
    by: String,
}

/// The log's line before anything is done: it is there even if the program does not come to the end.
fn begun(
    command: &'static str,
    queue: &str,
    request: &DeadLetterRequest,
    caller: &Caller,
) -> Audited {
    let by = caller.to_string();
    info!(
        command,
        queue,
        letters = request.letters.len(),
        reasons = ?request.reasons,
        limit = request.limit,
        by,
        token = "fleet.token",
        "command on dead letters over http"
    );
    Audited {
        command,
        queue: queue.to_owned(),
        by,
    }
}

impl Audited {
    fn ended(
        self,
        report: Result<QueueReport, LettersError>,
    ) -> Result<Json<QueueReport>, ApiError> {
        let Self { command, queue, by } = self;
        match report {
            Ok(report) => {
                info!(
                    command,
                    queue,
                    replayed = report.replayed,
                    dropped = report.dropped,
                    failed = report.failed,
                    error = report.error,
                    by,
                    "dead letters dealt with over http"
                );
                Ok(Json(report))
            }
            Err(error) => {
                info!(command, queue, %error, by, "dead letters not dealt with over http");
                Err(error.into())
            }
        }
    }
}

/// The body. It says which letters, or how many at most: nothing is dropped by a request that forgot to.
async fn request(body: Body) -> Result<DeadLetterRequest, ApiError> {
    let body = axum::body::to_bytes(body, BODY_LIMIT).await;
    let body = body.map_err(|_too_large_or_broken| ApiError::too_large(BODY_LIMIT))?;
    let form = r#"{"letters": [TEXT, …], "reasons": [TEXT, …], "limit": NUMBER}"#;
    // A list could be read as a request without conditions.
    if !body.trim_ascii().starts_with(b"{") {
        return Err(ApiError::bad_request(format!("the body is not {form}")));
    }
    let request: DeadLetterRequest = serde_json::from_slice(&body)
        .map_err(|error| ApiError::bad_request(format!("the body is not {form}: {error}")))?;
    for (key, count, limit) in [
        ("letters", request.letters.len(), LETTERS_LIMIT),
        ("reasons", request.reasons.len(), REASONS_LIMIT),
    ] {
        if count > limit {
            return Err(ApiError::bad_request(format!(
                "{key}: at most {limit}, not {count}"
            )));
        }
    }
    if request == DeadLetterRequest::default() {
        let rule = "name at least one of letters, reasons and limit";
        return Err(ApiError::bad_request(rule));
    }
    if request.limit == Some(0) {
        return Err(ApiError::bad_request("limit: at least 1, not 0"));
    }
    Ok(request)
}

impl From<LettersError> for ApiError {
    fn from(error: LettersError) -> Self {
        match error {
            LettersError::Busy => Self::conflict(error.to_string()),
            LettersError::Missing(text) => Self::not_found(text),
            LettersError::Broker(text) => Self::unavailable(text),
        }
    }
}

//! Which workers a page shows: their figures are asked for while it does.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};

use super::Api;
use super::error::ApiError;
use crate::api::WatchRequest;
use crate::viewers::WATCHED_LIMIT;

/// Bytes of a body.
const BODY_LIMIT: usize = 64 << 10;

/// `POST /api/v1/watch`
pub(super) async fn watch(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    // Other sites' pages cannot send this type without asking the browser first.
    let kind = headers.get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/json")) {
        return Err(ApiError::bad_request(
            "content-type: must be application/json",
        ));
    }
    let body = axum::body::to_bytes(body, BODY_LIMIT).await;
    let body = body.map_err(|_too_large_or_broken| ApiError::too_large(BODY_LIMIT))?;
    let request: WatchRequest = serde_json::from_slice(&body).map_err(|error| {
        let form = r#"{"all": BOOLEAN, "workers": [ID, …]}"#;
        ApiError::bad_request(format!("the body is not {form}: {error}"))
    })?;
    let count = request.workers.len();
    if count > WATCHED_LIMIT {
        let rule = format!("at most {WATCHED_LIMIT} ids, not {count}");
        return Err(ApiError::bad_request(format!("workers: {rule}")));
    }
    let known: Vec<_> = {
        let fleet = api.shared.fleet();
        let workers = request.workers.into_iter();
        workers.filter(|id| fleet.state_of(id).is_some()).collect()
    };
    api.viewers.watch(request.all, known);
    Ok(StatusCode::NO_CONTENT)
}

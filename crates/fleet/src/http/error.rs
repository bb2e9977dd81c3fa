//! Answers to requests that cannot be served.

use aide::OperationOutput;
use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::api::{ErrorBody, ErrorWords};
use crate::speaker::CommandError;

/// An error of the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl ApiError {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(super) fn letters_off() -> Self {
        let message = "dead letters are off: set fleet.dead_letters = true, and a token";
        Self::new(StatusCode::FORBIDDEN, "dead_letters_off", message)
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "broker", message)
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "conflict", message)
    }

    pub(super) fn unauthorised() -> Self {
        let message = "a token is needed: Authorization: Bearer TOKEN";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorised", message)
    }

    pub(super) fn forbidden(message: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn commands_off() -> Self {
        let message =
            "commands are off: the fleet program has no token; set fleet.token or fleet.token_file";
        Self::new(StatusCode::FORBIDDEN, "commands_off", message)
    }

    pub(super) fn host(host: &str) -> Self {
        let host: String = host.chars().take(200).collect();
        let message = format!("host {host:?} is not among fleet.hosts");
        Self::new(StatusCode::MISDIRECTED_REQUEST, "host", message)
    }

    pub(super) fn method() -> Self {
        let message = "this method is not for this path";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
    }

    pub(super) fn slow() -> Self {
        let message = "the request took too long";
        Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", message)
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("a body has at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn too_many(limit: usize) -> Self {
        let message = format!("{limit} clients listen already");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many", message)
    }

    pub(super) fn slow_clients() -> Self {
        let message = "clients that read slowly hold too many events; try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many", message)
    }

    /// What became of a command to this worker.
    pub(super) fn of_command(worker: &str, error: &CommandError) -> Self {
        let message = match error {
            CommandError::NoAnswer => format!(
                "worker {worker:?}: {error}; the command reached its control queue, and it may still obey"
            ),
            error => format!("worker {worker:?}: {error}"),
        };
        let (status, code) = match error {
            CommandError::Gone => (StatusCode::NOT_FOUND, "gone"),
            CommandError::NoAnswer => (StatusCode::GATEWAY_TIMEOUT, "no_answer"),
            CommandError::Busy => (StatusCode::SERVICE_UNAVAILABLE, "busy"),
            CommandError::CannotSend(_) | CommandError::Broker(_) => {
                (StatusCode::SERVICE_UNAVAILABLE, "not_connected")
            }
        };
        Self::new(status, code, message)
    }

    /// The code, for the metrics.
    pub(super) fn code(&self) -> &'static str {
        self.code
    }
}

impl OperationOutput for ApiError {
    type Inner = ErrorBody;
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: ErrorWords {
                code: self.code.to_owned(),
                message: self.message,
            },
        };
        let mut response = (self.status, Json(body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, bearer);
        }
        response
    }
}

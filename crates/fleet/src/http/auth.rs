//! Access: tokens for reads and for commands.

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum_extra::headers::authorization::Bearer;
use axum_extra::headers::{Authorization, HeaderMapExt as _};
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use super::Api;
use super::error::ApiError;
use tidegate::config::FleetSettings;

/// The tokens there are.
#[derive(Debug)]
pub(super) struct Tokens {
    command: Option<SecretString>,
    read: Option<SecretString>,
}

impl Tokens {
    pub(super) fn of(settings: &FleetSettings) -> Self {
        Self {
            command: settings.token.clone(),
            read: settings.read_token.clone(),
        }
    }

    /// Whether the request may read: always without a read token, else with either token.
    pub(super) fn may_read(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.read.is_none() {
            return Ok(());
        }
        let given = bearer(headers)?;
        // Both are compared, so that the time says nothing of which it might be.
        if matches(self.read.as_ref(), &given) | matches(self.command.as_ref(), &given) {
            Ok(())
        } else {
            Err(ApiError::forbidden("the token is not the right one"))
        }
    }

    /// Whether the request may command.
    pub(super) fn may_command(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        if self.command.is_none() {
            return Err(ApiError::commands_off());
        }
        let given = bearer(headers)?;
        if matches(self.command.as_ref(), &given) {
            Ok(())
        } else if matches(self.read.as_ref(), &given) {
            Err(ApiError::forbidden("the token is for reading only"))
        } else {
            Err(ApiError::forbidden("the token is not the right one"))
        }
    }
}

/// Takes a time that depends on the lengths alone.
fn matches(token: Option<&SecretString>, given: &Authorization<Bearer>) -> bool {
    let given = given.token().trim().as_bytes();
    token.is_some_and(|token| token.expose_secret().as_bytes().ct_eq(given).into())
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750).
fn bearer(headers: &HeaderMap) -> Result<Authorization<Bearer>, ApiError> {
    let given = headers.typed_get::<Authorization<Bearer>>();
    given
        .filter(|given| !given.token().trim().is_empty())
        .ok_or_else(ApiError::unauthorised)
}

/// Lets a request through that may read.
pub(super) async fn may_read(State(api): State<Api>, request: Request, next: Next) -> Response {
    match api.tokens.may_read(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::header;

    use super::*;

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    fn tokens(command: Option<&str>, read: Option<&str>) -> Tokens {
        Tokens {
            command: command.map(Into::into),
            read: read.map(Into::into),
        }
    }

    fn code(result: Result<(), ApiError>) -> &'static str {
        result.map_or_else(|error| error.code(), |()| "ok")
    }

    #[test]
    fn commands_are_off_without_a_token_and_need_the_right_one() {
        let none = tokens(None, Some("read-only"));
        assert_eq!(code(none.may_command(&headers("Bearer x"))), "commands_off");
        let both = tokens(Some("commander"), Some("read-only"));
        let rows = [
            ("Bearer commander", "ok"),
            ("bearer  commander ", "ok"),
            ("Bearer read-only", "forbidden"),
            ("Bearer commande", "forbidden"),
            ("Bearer ", "unauthorised"),
            ("Basic commander", "unauthorised"),
            ("commander", "unauthorised"),
        ];
        for (header, expected) in rows {
            assert_eq!(
                code(both.may_command(&headers(header))),
                expected,
                "{header}"
            );
        }
        assert_eq!(code(both.may_command(&HeaderMap::new())), "unauthorised");
    }

    #[test]
    fn reads_are_open_unless_a_read_token_is_configured() {
        let open = tokens(Some("commander"), None);
        assert_eq!(code(open.may_read(&HeaderMap::new())), "ok");
        let closed = tokens(Some("commander"), Some("read-only"));
        assert_eq!(code(closed.may_read(&HeaderMap::new())), "unauthorised");
        assert_eq!(code(closed.may_read(&headers("Bearer other"))), "forbidden");
        assert_eq!(code(closed.may_read(&headers("Bearer read-only"))), "ok");
        assert_eq!(code(closed.may_read(&headers("Bearer commander"))), "ok");
    }
}

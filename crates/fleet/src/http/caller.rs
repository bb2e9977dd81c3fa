//! Who sends a request, as far as can be told: for the log.

use std::convert::Infallible;
use std::fmt;
use std::net::SocketAddr;

use aide::OperationInput;
use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;

/// Characters of a header that are kept.
const CLAIM_LIMIT: usize = 200;

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// The other end of the connection.
    address: String,
    /// What a proxy, or the caller itself, says of where the request comes from.
    forwarded: Option<String>,
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        match &self.forwarded {
            Some(claim) => write!(f, " (x-forwarded-for: {claim})"),
            None => Ok(()),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let address = parts.extensions.get::<ConnectInfo<SocketAddr>>();
        let claim = parts.headers.get("x-forwarded-for");
        let claim = claim.and_then(|claim| claim.to_str().ok());
        Ok(Self {
            address: address.map_or_else(
                || "an unknown address".to_owned(),
                |ConnectInfo(address)| address.ip().to_string(),
            ),
            forwarded: claim.map(|claim| claim.chars().take(CLAIM_LIMIT).collect()),
        })
    }
}

impl OperationInput for Caller {}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    #[tokio::test]
    async fn a_caller_is_its_address_and_what_it_claims() {
        let mut request = Request::new(());
        let address: SocketAddr = "192.0.2.7:4711".parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(address));
        let headers = request.headers_mut();
        headers.insert("x-forwarded-for", "198.51.100.1".parse().unwrap());
        let (mut parts, ()) = request.into_parts();
        let caller = Caller::from_request_parts(&mut parts, &()).await.unwrap();
        assert_eq!(
            caller.to_string(),
            "192.0.2.7 (x-forwarded-for: 198.51.100.1)"
        );
        parts.extensions.clear();
        parts.headers.clear();
        let caller = Caller::from_request_parts(&mut parts, &()).await.unwrap();
        assert_eq!(caller.to_string(), "an unknown address");
    }
}

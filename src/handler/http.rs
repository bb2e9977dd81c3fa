//! The `http` handler: POSTs each body to a URL; the response's status is the outcome.

mod client;
mod headers;
mod outcome;
mod tls;

use std::sync::Arc;
use std::time::SystemTime;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret as _;
use tokio::runtime::Handle;

pub use self::client::{Answer, ConnectError, HttpClient, PostError};
use super::outcome::chain;
use super::{Context, Handler, HandlerError, Outcome};
use crate::config::{HttpSettings, RESERVED_HEADERS};
use crate::delivery::Delivery;
use crate::own_runtime::OwnRuntime;
use crate::process::chain_has_shortage;

/// POSTs each body to a URL.
///
/// 2xx is done. 408, 425, 429, 5xx, and a request that got no response are retried, not before
/// `Retry-After` (at most 24 h) if the server asks for it. All else is dead, redirects too, with the status
/// and the beginning of the response's body as the error. Connections are kept and used again; no proxy is
/// used, whatever the environment says. Dropping the future abandons the request and closes its connection.
///
/// If the worker itself lacks what a connection needs (descriptors, memory, ports, a network), the delivery
/// waits in its slot, and nothing is counted.
pub struct HttpHandler {
    client: HttpClient,
    /// Requests and answers go over one thread: on several, a message costs a tenth more.
    runtime: OwnRuntime,
}

impl HttpHandler {
    /// A handler as `settings` describe it. Reads the file that `ca` names and, for `https`, the system's
    /// certificate authorities; opens no socket.
    ///
    /// # Errors
    /// The URL is not `http` or `https`; `ca` cannot be read; a header cannot be sent.
    pub fn new(settings: &HttpSettings) -> Result<Self, HandlerError> {
        let client = HttpClient::new(settings)?;
        Ok(Self {
            client,
            runtime: OwnRuntime::new("tidegate-http", || {}),
        })
    }
}

fn configured(settings: &HttpSettings) -> Result<HeaderMap, HandlerError> {
    let mut map = HeaderMap::new();
    for (name, value) in &settings.headers {
        let refused = |rule| HandlerError::Header {
            name: name.clone(),
            rule,
        };
        let key = HeaderName::try_from(name.as_str())
            .map_err(|_unspecific| refused("is not a header name"))?;
        if RESERVED_HEADERS.contains(&key.as_str()) {
            return Err(refused("is set by the client itself"));
        }
        let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_unspecific| {
            refused("its value has characters that a header cannot carry")
        })?;
        value.set_sensitive(true);
        if map.insert(key, value).is_some() {
            return Err(refused("is there twice, in upper and lower case"));
        }
    }
    Ok(map)
}

impl Handler for HttpHandler {
    fn runtime(&self) -> Option<Handle> {
        self.runtime.for_runs()
    }

    async fn handle(&self, delivery: Arc<Delivery>, context: Context) -> Outcome {
        let headers = || headers::headers(&delivery);
        let mut wait = context.shortage_wait();
        let answer = loop {
            match self.client.post(headers, &delivery.body).await {
                Err(PostError::Connect(error)) if chain_has_shortage(&error) => {
                    let error = chain(&error);
                    if wait.pause("a connection", &error).await.is_break() {
                        return Outcome::HandBack;
                    }
                }
                other => break other,
            }
        };
        wait.end();
        match answer {
            Ok(answer) => outcome::outcome(&answer, SystemTime::now()),
            Err(error) => Outcome::retry(chain(&error)),
        }
    }
}

impl std::fmt::Debug for HttpHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The query is left out: it may carry a token.
        let (scheme, host, path) = self.client.target();
        f.debug_struct("HttpHandler")
            .field("scheme", &scheme)
            .field("host", &host)
            .field("path", &path)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;

//! The `http` handler: POSTs each body to a URL; the response's status is the outcome.

mod headers;
mod outcome;
mod tls;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use reqwest::{Client, Method, Request, Response, redirect};
use secrecy::ExposeSecret as _;

use super::outcome::chain;
use super::{Context, Handler, HandlerError, Outcome};
use crate::config::HttpSettings;
use crate::delivery::Delivery;

/// How long connecting may take, TLS included; then the delivery is retried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an unused connection is kept. Servers and load balancers commonly close theirs after 60 s or
/// more; a request that meets the closing is retried.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// How much of a response's body the error quotes, in bytes.
const EXCERPT_LIMIT: usize = 1024;

/// How much of a response's body is read so that its connection can be used again, in bytes. Beyond this a
/// new connection is cheaper.
const DRAIN_LIMIT: usize = 64 * 1024;

/// How long a response's body may take once its status is known. The outcome never waits longer for words.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Headers that belong to the connection, or that follow from the body: the client sets them.
pub(crate) const RESERVED_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// POSTs each body to a URL.
///
/// 2xx is done. 408, 425, 429, 5xx, and a request that got no response are retried, not before
/// `Retry-After` (at most 24 h) where the server asks for it. All else is dead, redirects too, with the status
/// and the beginning of the response's body as the error. Connections are pooled; no proxy is used, whatever
/// the environment says. Dropping the future abandons the request and closes its connection.
pub struct HttpHandler {
    client: Client,
    /// The request without what depends on the delivery.
    template: Request,
}

impl HttpHandler {
    /// A handler as `settings` describe it. Reads the file that `ca` names and, for `https`, the system's
    /// certificate authorities; opens no socket.
    ///
    /// # Errors
    /// The URL is not `http` or `https`; `ca` cannot be read; a header cannot be sent.
    pub fn new(settings: &HttpSettings) -> Result<Self, HandlerError> {
        let (client, template) = client(settings)?;
        Ok(Self { client, template })
    }

    fn request(&self, delivery: &Delivery) -> Request {
        let mut request = self
            .template
            .try_clone()
            .expect("a request without a body can be cloned");
        let mut headers = headers::headers(delivery);
        // What is configured wins over what the message says.
        for (name, value) in request.headers() {
            headers.insert(name, value.clone());
        }
        // The client says nothing of an empty body, and some servers refuse a POST without a length (411).
        headers.insert(CONTENT_LENGTH, delivery.body.len().into());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(delivery.body.clone().into());
        request
    }
}

/// A client, and the POST that it is to repeat: with the URL and headers that are configured, and no body yet.
///
/// # Errors
/// As [`HttpHandler::new`].
pub fn client(settings: &HttpSettings) -> Result<(Client, Request), HandlerError> {
    let encrypted = match settings.url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err(HandlerError::Url("must begin with http:// or https://")),
    };
    let client = Client::builder()
        .tls_backend_preconfigured(tls::config(encrypted, settings.ca.as_deref())?)
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build()
        .map_err(HandlerError::Client)?;
    // The client turns a user in the URL into an `authorization` header here, so that no request and no
    // error has the URL with the password in it.
    let mut template = client
        .request(Method::POST, settings.url.clone())
        .build()
        .map_err(HandlerError::Client)?;
    template.headers_mut().insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))),
    );
    let configured = configured(settings)?;
    template.headers_mut().extend(configured);
    Ok((client, template))
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
    async fn handle(&self, delivery: Arc<Delivery>, _context: Context) -> Outcome {
        match self.client.execute(self.request(&delivery)).await {
            Ok(response) => conclude(response).await,
            Err(error) => Outcome::retry(chain(&error.without_url())),
        }
    }
}

impl std::fmt::Debug for HttpHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let url = self.template.url();
        // The query is left out: it may carry a token.
        f.debug_struct("HttpHandler")
            .field("scheme", &url.scheme())
            .field("host", &url.host_str())
            .field("path", &url.path())
            .finish_non_exhaustive()
    }
}

/// The response's outcome. The status decides; the body only adds words, so one that breaks off or takes too
/// long changes nothing.
async fn conclude(mut response: Response) -> Outcome {
    let status = response.status();
    let keep = if outcome::is_done(status) {
        0
    } else {
        EXCERPT_LIMIT
    };
    let mut excerpt = Vec::with_capacity(keep);
    let drained =
        tokio::time::timeout(DRAIN_TIMEOUT, read(&mut response, &mut excerpt, keep)).await;
    if !matches!(drained, Ok(Ok(()))) {
        tracing::trace!(%status, "a response's body did not arrive whole");
    }
    outcome::outcome(status, response.headers(), &excerpt, SystemTime::now())
}

/// Reads the body up to [`DRAIN_LIMIT`], and keeps the first `keep` bytes of it in `excerpt`.
async fn read(
    response: &mut Response,
    excerpt: &mut Vec<u8>,
    keep: usize,
) -> Result<(), reqwest::Error> {
    let mut read = 0;
    while read < DRAIN_LIMIT {
        let Some(chunk) = response.chunk().await? else {
            break;
        };
        read += chunk.len();
        let wanted = chunk.len().min(keep - excerpt.len());
        excerpt.extend_from_slice(&chunk[..wanted]);
    }
    Ok(())
}

#[cfg(test)]
mod tests;

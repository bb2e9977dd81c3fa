//! A small HTTP client for one server: POSTs over connections that are kept and used again.
//!
//! An HTTP/1.1 connection is driven by the task that uses it, not by one of its own: no message passes between
//! tasks, which is most of what a request to a near server costs.

mod connect;
mod http1;
mod pool;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, HeaderMap, HeaderValue, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;

pub use self::connect::ConnectError;
use self::connect::{Connected, Connector};
use self::http1::Http1;
use self::pool::Pool;
use crate::config::HttpSettings;
use crate::handler::HandlerError;

/// Bytes of a response's body that an error quotes.
pub(super) const EXCERPT_LIMIT: usize = 1024;

/// How much of a response's body is read so that its connection can be used again, in bytes. Beyond this a
/// new connection is cheaper.
pub(super) const DRAIN_LIMIT: usize = 64 * 1024;

/// How long a response's body may take once its status is known. The outcome never waits longer for words.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) type Body = Full<Bytes>;

/// A client of the one URL that is configured.
pub struct HttpClient {
    path: PathAndQuery,
    scheme: Scheme,
    authority: Authority,
    /// The authority as HTTP/1.1's `host`.
    host: HeaderValue,
    /// What each request has: `user-agent`, the user of the URL, and what is configured.
    headers: HeaderMap,
    connector: Connector,
    pool: Arc<Pool>,
}

/// The server's answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The beginning of the body, unless the status is 2xx.
    pub excerpt: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// Nothing was sent.
    #[error("cannot connect")]
    Connect(#[from] ConnectError),
    /// The request was sent, at least in part.
    #[error("no answer")]
    Exchange(#[from] hyper::Error),
}

impl HttpClient {
    /// A client as `settings` describe it. Reads the file that `ca` names and, for `https`, the system's
    /// certificate authorities; opens no socket.
    ///
    /// # Errors
    /// The URL is not `http` or `https`; `ca` cannot be read; a header cannot be sent.
    pub fn new(settings: &HttpSettings) -> Result<Self, HandlerError> {
        let uri: Uri = match settings.url.scheme() {
            "http" | "https" => without_user(settings.url.clone())
                .as_str()
                .parse()
                .map_err(|_unspecific| HandlerError::Url("has a character that HTTP refuses"))?,
            _ => return Err(HandlerError::Url("must begin with http:// or https://")),
        };
        let parts = uri.into_parts();
        let scheme = parts.scheme.expect("the URL has a scheme");
        let authority = parts.authority.ok_or(HandlerError::Url("names no host"))?;
        Ok(Self {
            path: parts.path_and_query.expect("such a URL has a path"),
            headers: headers(settings)?,
            connector: Connector::new(&scheme, &authority, settings.ca.as_deref())?,
            scheme,
            host: HeaderValue::from_maybe_shared(Bytes::from(authority.to_string()))
                .expect("an authority is visible ASCII"),
            authority,
            pool: Arc::default(),
        })
    }

    /// The scheme, host and path of the URL; its query may be a secret.
    pub(super) fn target(&self) -> (&str, &str, &str) {
        (
            self.scheme.as_str(),
            self.authority.host(),
            self.path.path(),
        )
    }

    /// POSTs `body` with what `headers` makes; what is configured wins over them. A request that fails on a connection used
    /// before, without a byte of an answer, is sent once more on a new one: the server closed it meanwhile.
    ///
    /// Dropping the future abandons the request and closes its connection.
    ///
    /// # Errors
    /// No answer came.
    pub async fn post(
        &self,
        headers: impl Fn() -> HeaderMap,
        body: &Bytes,
    ) -> Result<Answer, PostError> {
        if let Some(connection) = self.pool.take() {
            match self.exchange(connection, headers(), body).await {
                Err(failed) if failed.unanswered => {
                    tracing::debug!(error = %failed.error, "a kept connection was closed by the server; the request is sent once more");
                }
                ended => return ended.map_err(|failed| failed.error.into()),
            }
        }
        let connection = self.connector.connect().await?;
        self.exchange(connection, headers(), body)
            .await
            .map_err(|failed| failed.error.into())
    }

    async fn exchange(
        &self,
        connection: Connected,
        headers: HeaderMap,
        body: &Bytes,
    ) -> Result<Answer, Failed> {
        match connection {
            Connected::Http1(connection) => self.exchange_http1(connection, headers, body).await,
            Connected::Http2(mut sender) => {
                // Others may use the connection at the same time.
                self.pool.share(sender.clone());
                let request = self.request(self.uri(), headers, body);
                let response = sender.send_request(request).await.map_err(|error| Failed {
                    unanswered: error.is_canceled() || sender.is_closed(),
                    error,
                })?;
                Ok(conclude(response, read).await.0)
            }
        }
    }

    async fn exchange_http1(
        &self,
        mut connection: Box<Http1>,
        headers: HeaderMap,
        body: &Bytes,
    ) -> Result<Answer, Failed> {
        let mut request = self.request(self.path.clone().into(), headers, body);
        request.headers_mut().insert(HOST, self.host.clone());
        let response = match connection.send(request).await {
            Ok(response) => response,
            Err(error) => {
                return Err(Failed {
                    unanswered: !connection.has_answered(),
                    error,
                });
            }
        };
        let (answer, whole) = conclude(response, async |body, keep, excerpt| {
            connection.drive(read(body, keep, excerpt)).await?;
            connection.until_ready().await
        })
        .await;
        if whole {
            self.pool.put(connection);
        }
        Ok(answer)
    }

    fn uri(&self) -> Uri {
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(self.scheme.clone());
        parts.authority = Some(self.authority.clone());
        parts.path_and_query = Some(self.path.clone());
        Uri::from_parts(parts).expect("all three parts are there")
    }

    fn request(&self, uri: Uri, headers: HeaderMap, body: &Bytes) -> Request<Body> {
        let mut request = Request::new(Full::new(body.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let all = request.headers_mut();
        *all = headers;
        for (name, value) in &self.headers {
            all.insert(name, value.clone());
        }
        // The library says nothing of an empty body, and some servers refuse a POST without a length (411).
        all.insert(CONTENT_LENGTH, body.len().into());
        request
    }
}

/// A request without an answer.
struct Failed {
    error: hyper::Error,
    /// Not a byte of an answer came.
    unanswered: bool,
}

/// The answer, and whether its body was read whole. The status decides; the body only adds words, so one that
/// breaks off or takes too long changes nothing.
async fn conclude(
    response: Response<Incoming>,
    read: impl AsyncFnOnce(&mut Incoming, usize, &mut Vec<u8>) -> Result<(), hyper::Error>,
) -> (Answer, bool) {
    let (parts, mut body) = response.into_parts();
    let keep = if parts.status.is_success() {
        0
    } else {
        EXCERPT_LIMIT
    };
    let mut excerpt = Vec::new();
    let whole = tokio::time::timeout(DRAIN_TIMEOUT, read(&mut body, keep, &mut excerpt)).await;
    let whole = matches!(whole, Ok(Ok(())));
    if !whole {
        tracing::trace!(status = %parts.status, "a response's body did not arrive whole");
    }
    let answer = Answer {
        status: parts.status,
        headers: parts.headers,
        excerpt,
    };
    (answer, whole)
}

/// Reads the body up to [`DRAIN_LIMIT`], and keeps the first `keep` bytes of it in `excerpt`.
async fn read(body: &mut Incoming, keep: usize, excerpt: &mut Vec<u8>) -> Result<(), hyper::Error> {
    let mut read = 0;
    while read < DRAIN_LIMIT {
        let Some(frame) = body.frame().await else {
            break;
        };
        if let Ok(data) = frame?.into_data() {
            read += data.len();
            let wanted = data.len().min(keep - excerpt.len());
            excerpt.extend_from_slice(&data[..wanted]);
        }
    }
    Ok(())
}

fn without_user(mut url: url::Url) -> url::Url {
    // Only a URL without a host refuses these, and has no user either.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    url
}

/// What each request has. The user in the URL becomes a header here, so that no request and no error has the
/// URL with the password in it.
fn headers(settings: &HttpSettings) -> Result<HeaderMap, HandlerError> {
    let mut headers = HeaderMap::new();
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("tidegate/", env!("CARGO_PKG_VERSION"))),
    );
    let url = &settings.url;
    if !url.username().is_empty() || url.password().is_some() {
        headers.insert(AUTHORIZATION, basic(url));
    }
    headers.extend(super::configured(settings)?);
    Ok(headers)
}

fn basic(url: &url::Url) -> HeaderValue {
    use base64::Engine as _;
    let mut user: Vec<u8> = percent_encoding::percent_decode_str(url.username()).collect();
    user.push(b':');
    user.extend(percent_encoding::percent_decode_str(
        url.password().unwrap_or(""),
    ));
    let encoded = base64::engine::general_purpose::STANDARD.encode(user);
    let mut value =
        HeaderValue::from_str(&format!("Basic {encoded}")).expect("base64 makes a header value");
    value.set_sensitive(true);
    value
}

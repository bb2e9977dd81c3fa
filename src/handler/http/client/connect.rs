//! New connections to the server.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use http::uri::{Authority, Scheme};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::Service as _;

use super::super::tls;
use super::Body;
use super::http1::Http1;
use super::stream::Bytes;
use crate::handler::HandlerError;

/// The time limit for connecting, TLS included; then the delivery is retried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The name of HTTP/2 in TLS (RFC 9113, 3.2).
const H2: &[u8] = b"h2";

/// An open connection.
pub(super) enum Connected {
    /// For one request at a time.
    Http1(Box<Http1>),
    /// For many.
    Http2(SendRequest<Body>),
}

/// Opens connections: to one address after the other where the name has several.
pub(super) struct Connector {
    uri: Uri,
    tcp: HttpConnector,
    /// For `https`.
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Why there is no connection. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No address took the connection.
    #[error("no connection")]
    Tcp(#[source] Box<dyn Error + Send + Sync>),
    /// TLS failed.
    #[error("TLS failed")]
    Tls(#[source] std::io::Error),
    /// HTTP could not begin.
    #[error("HTTP failed")]
    Http(#[source] hyper::Error),
    /// It took too long.
    #[error("no connection within {} s", CONNECT_TIMEOUT.as_secs())]
    TimedOut,
}

impl Connector {
    /// Connects to `authority`, for `https` with the authorities of the system and of the file `ca`.
    pub(super) fn new(
        scheme: &Scheme,
        authority: &Authority,
        ca: Option<&Path>,
    ) -> Result<Self, HandlerError> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let tls = if *scheme == Scheme::HTTPS {
            let host = authority.host().trim_matches(['[', ']']).to_owned();
            let name = ServerName::try_from(host)
                .map_err(|_invalid| HandlerError::Url("its host cannot have a certificate"))?;
            Some((TlsConnector::from(Arc::new(tls::config(ca)?)), name))
        } else {
            None
        };
        let mut parts = http::uri::Parts::default();
        parts.scheme = Some(scheme.clone());
        parts.authority = Some(authority.clone());
        parts.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
        Ok(Self {
            uri: Uri::from_parts(parts).expect("all three parts are there"),
            tcp,
            tls,
        })
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Connected, ConnectError> {
        tokio::time::timeout(CONNECT_TIMEOUT, self.open())
            .await
            .map_err(|_elapsed| ConnectError::TimedOut)?
    }

    async fn open(&self) -> Result<Connected, ConnectError> {
        let tcp = self.tcp.clone().call(self.uri.clone()).await;
        let stream: TcpStream = tcp
            .map_err(|error| ConnectError::Tcp(error.into()))?
            .into_inner();
        let Some((tls, name)) = &self.tls else {
            return http1(Box::new(stream)).await;
        };
        let stream = tls
            .connect(name.clone(), stream)
            .await
            .map_err(ConnectError::Tls)?;
        if stream.get_ref().1.alpn_protocol() != Some(H2) {
            return http1(Box::new(stream)).await;
        }
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(ConnectError::Http)?;
        // It ends with its last sender; what is wrong with it, each request is told.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection has ended");
            }
        });
        Ok(Connected::Http2(sender))
    }
}

async fn http1(bytes: Box<dyn Bytes>) -> Result<Connected, ConnectError> {
    let connection = Http1::new(bytes).await.map_err(ConnectError::Http)?;
    Ok(Connected::Http1(Box::new(connection)))
}

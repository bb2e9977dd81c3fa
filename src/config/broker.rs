//! How to reach the broker, and what its URL may say.

use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use thiserror::Error;
use url::{Host, Url};

/// `[broker]`
#[derive(Debug, Clone)]
pub struct BrokerSettings {
    /// Whether the connection is encrypted (`amqps`).
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// TCP port; 5672, or 5671 with TLS, where the URL names none.
    pub port: u16,
    /// Virtual host.
    pub vhost: String,
    /// User name.
    pub username: String,
    /// Password; never shown.
    pub password: SecretString,
    /// PEM file of the authorities that may sign the broker's certificate, beside the system's.
    pub ca: Option<PathBuf>,
    /// PEM files of the client's certificate chain and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How long one attempt to connect may take.
    pub connect_timeout: Duration,
    /// AMQP heartbeat asked for; a dead peer is noticed after about 2.5 times this.
    pub heartbeat: Duration,
}

/// Why a text is no URL of a broker. It never holds a part of the text, in which a password may be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum UrlError {
    /// It is no URL at all.
    #[error("is not a URL such as amqp://user:password@host:5672/vhost: {0}")]
    Syntax(#[from] url::ParseError),
    /// Another scheme.
    #[error("must begin with amqp:// or amqps://")]
    Scheme,
    /// There is no host.
    #[error("must name a host")]
    Host,
    /// Port 0.
    #[error("the port must be from 1 to 65535")]
    Port,
    /// Query parameters.
    #[error(
        "must have no query; say it by the keys connect_timeout, heartbeat, ca, cert and key (a \"?\" in a name or password is %3F)"
    )]
    Query,
    /// A fragment.
    #[error("must have no fragment (a \"#\" in a name or password is %23)")]
    Fragment,
    /// More than one path segment.
    #[error("must name one virtual host after the host (a \"/\" in its name is %2f)")]
    Path,
    /// Percent escapes that are not UTF-8.
    #[error("what it escapes with % must be UTF-8 without NUL")]
    Escapes,
    /// Longer than AMQP can say.
    #[error("the virtual host's name must have at most 255 bytes")]
    TooLong,
}

impl BrokerSettings {
    /// The broker at an AMQP URL (<https://www.rabbitmq.com/docs/uri-spec>), with defaults for the rest. Without
    /// user and password it is `guest`, without a path, or with `/` alone, the virtual host is `/`.
    ///
    /// # Errors
    /// [`UrlError`] says which part is wrong; it holds nothing of the URL.
    pub fn from_url(url: &str) -> Result<Self, UrlError> {
        let url = Url::parse(url)?;
        let tls = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(UrlError::Scheme),
        };
        if url.query().is_some() {
            return Err(UrlError::Query);
        }
        if url.fragment().is_some() {
            return Err(UrlError::Fragment);
        }
        let host = match url.host() {
            Some(Host::Ipv6(address)) => address.to_string(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Domain(name)) => decoded(name)?,
            None => return Err(UrlError::Host),
        };
        if host.is_empty() {
            return Err(UrlError::Host);
        }
        if url.port() == Some(0) {
            return Err(UrlError::Port);
        }
        let anonymous = url.username().is_empty() && url.password().is_none();
        let (username, password) = if anonymous {
            ("guest".into(), "guest".into())
        } else {
            (
                decoded(url.username())?,
                decoded(url.password().unwrap_or_default())?,
            )
        };
        Ok(Self {
            tls,
            host,
            port: url.port().unwrap_or(if tls { 5671 } else { 5672 }),
            vhost: vhost(url.path())?,
            username,
            password: password.into(),
            ca: None,
            identity: None,
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(20),
        })
    }
}

fn vhost(path: &str) -> Result<String, UrlError> {
    let name = path.strip_prefix('/').unwrap_or(path);
    if name.is_empty() {
        return Ok("/".into());
    }
    if name.contains('/') {
        return Err(UrlError::Path);
    }
    let name = decoded(name)?;
    if name.len() > 255 {
        return Err(UrlError::TooLong);
    }
    Ok(name)
}

/// SASL PLAIN parts user and password with NUL, so neither may hold one.
fn decoded(escaped: &str) -> Result<String, UrlError> {
    match percent_decode_str(escaped).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        Ok(_) | Err(_) => Err(UrlError::Escapes),
    }
}

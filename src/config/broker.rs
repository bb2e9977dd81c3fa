//! The settings of the broker's connection, and its URL.

use std::path::{Path, PathBuf};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use thiserror::Error;
use url::{Host, Url};

use super::file;

/// `[broker]`
///
/// ```
/// use tidegate::config::BrokerSettings;
///
/// let broker = BrokerSettings::from_url("amqps://orders:secret@rabbit-1/shop")?;
/// assert_eq!(broker.address(), "rabbit-1:5671");
/// assert_eq!(broker.vhost, "shop");
/// # Ok::<(), tidegate::config::UrlError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct BrokerSettings {
    /// Whether the connection is encrypted (`amqps`).
    pub tls: bool,
    /// Host name or address.
    pub host: String,
    /// TCP port; 5672, or 5671 with TLS, if the URL names none.
    pub port: u16,
    /// Other hosts of the same cluster, with their ports. They are tried in turn if one does not answer.
    pub other_hosts: Vec<(String, u16)>,
    /// Virtual host.
    pub vhost: String,
    /// User name.
    pub username: String,
    /// Password; never shown.
    pub password: SecretString,
    /// The file that the URL was read from. User, password, host and port are read again at each attempt to connect.
    pub url_file: Option<PathBuf>,
    /// The file that the password was read from. It is read again at each attempt to connect.
    pub password_file: Option<PathBuf>,
    /// PEM file of the authorities that may sign the broker's certificate, beside the system's.
    pub ca: Option<PathBuf>,
    /// Whether the broker's certificate and its host name are verified. No file can turn that off; a program can, if
    /// what it replaces does not verify them.
    pub verify: bool,
    /// PEM files of the client's certificate chain and its private key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The time limit of one attempt to connect.
    pub connect_timeout: Duration,
    /// AMQP heartbeat asked for; a dead peer is noticed after about 2.5 times this.
    pub heartbeat: Duration,
}

/// Why a text is no URL of a broker. It never holds a part of the text, in which a password may be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
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
            other_hosts: Vec::new(),
            vhost: vhost(url.path())?,
            username,
            password: password.into(),
            url_file: None,
            password_file: None,
            ca: None,
            verify: true,
            identity: None,
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(20),
        })
    }

    /// Host and port, as errors and log lines show them.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The number of hosts to try.
    pub(crate) fn hosts(&self) -> usize {
        1 + self.other_hosts.len()
    }

    /// These settings with the host of a turn in first place; turns go round.
    pub(crate) fn at_host(&self, turn: usize) -> Self {
        let mut settings = self.clone();
        if let Some(other) = (turn % self.hosts()).checked_sub(1) {
            (settings.host, settings.port) = self.other_hosts[other].clone();
        }
        settings
    }

    /// These settings with what their files say now: the password, or all of a URL but its virtual host. One of the
    /// other hosts stays as it is. Blocks on the files.
    ///
    /// # Errors
    /// The file that cannot be used, and why. It holds nothing of its text.
    pub(crate) fn refreshed(mut self) -> Result<Self, SecretFileError> {
        if let Some(path) = self.url_file.clone() {
            let unusable = |cause| SecretFileError {
                path: path.clone(),
                cause,
            };
            let url = secret(&path).map_err(unusable)?;
            let read = Self::from_url(&url);
            let read = read.map_err(|error| unusable(format!("the URL in the file {error}")))?;
            let named_there = !self
                .other_hosts
                .iter()
                .any(|(host, port)| *host == self.host && *port == self.port);
            if named_there {
                (self.host, self.port) = (read.host, read.port);
            }
            (self.username, self.password) = (read.username, read.password);
        }
        if let Some(path) = self.password_file.clone() {
            let password = secret(&path).map_err(|cause| SecretFileError { path, cause })?;
            self.password = password.into();
        }
        Ok(self)
    }
}

/// A file of a secret that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {cause}", path.display())]
pub(crate) struct SecretFileError {
    /// The file.
    pub path: PathBuf,
    /// The fault, in words.
    pub cause: String,
}

/// The text of the file at `path`, without the newline that editors put at its end; on failure, the cause in words.
pub(super) fn secret(path: &Path) -> Result<String, String> {
    let text = file::text(path).map_err(|cause| format!("cannot be read: {cause}"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err("the file is empty".into());
    }
    if text.contains('\0') {
        return Err("the file must not contain NUL".into());
    }
    Ok(text.to_owned())
}

/// `host`, `host:port` or `[address]:port`; without a port it is `port`.
pub(super) fn host_and_port(text: &str, port: u16) -> Result<(String, u16), UrlError> {
    if text.contains(['/', '@', '?', '#']) {
        return Err(UrlError::Host);
    }
    let settings = BrokerSettings::from_url(&format!("amqp://{text}"))?;
    let named = Url::parse(&format!("amqp://{text}"))?.port();
    Ok((settings.host, named.unwrap_or(port)))
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

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn files_are_read_again_at_each_attempt() {
        let directory = tempfile::tempdir().expect("a directory");
        let url = directory.path().join("url");
        let write = |text: &str| std::fs::write(&url, text).expect("it is written");
        write("amqp://one:1@first:1000/v");
        let mut settings = BrokerSettings::from_url("amqp://one:1@first:1000/v").expect("a URL");
        settings.url_file = Some(url.clone());
        settings.other_hosts = vec![("second".into(), 2000)];
        write("amqp://two:2@moved:3000/other\n");
        let now = settings.at_host(0).refreshed().expect("it is read");
        assert_eq!(
            (now.username.as_str(), now.address().as_str()),
            ("two", "moved:3000")
        );
        assert_eq!(now.password.expose_secret(), "2");
        assert_eq!(now.vhost, "v", "a worker stays in its virtual host");
        let other = settings.at_host(1).refreshed().expect("it is read");
        assert_eq!(
            (other.username.as_str(), other.address().as_str()),
            ("two", "second:2000")
        );

        settings.password_file = Some(directory.path().join("missing"));
        let error = settings.refreshed().expect_err("there is no such file");
        assert!(
            error.to_string().contains("missing: cannot be read"),
            "{error}"
        );
    }

    #[test]
    fn hosts_have_the_port_of_the_url_unless_they_name_one() {
        for (text, expected) in [
            ("b", ("b", 5671)),
            ("b:1", ("b", 1)),
            ("10.0.0.1", ("10.0.0.1", 5671)),
            ("[::1]:7", ("::1", 7)),
        ] {
            let (host, port) = host_and_port(text, 5671).expect(text);
            assert_eq!((host.as_str(), port), expected);
        }
        for text in ["", "amqp://b", "b/v", "u@b", "b:0", "b:x"] {
            assert!(host_and_port(text, 5672).is_err(), "{text:?}");
        }
    }
}

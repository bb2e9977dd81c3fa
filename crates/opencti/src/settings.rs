//! What the OpenCTI worker is told: by the platform's variables, the platform's `config.yml`, or `[opencti]`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use tidegate::config::LogLevel;
use url::Url;

use crate::discovery::Selection;
use crate::schedule::MissingReferenceDelays;

mod error;
mod mq;
mod reader;
mod source;
#[cfg(test)]
mod tests;

pub use error::{SettingError, SettingErrors};
pub use source::Sources;

use reader::Reader;

/// The settings of the OpenCTI worker, valid as a whole.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The platform's URL, perhaps with a base path.
    pub url: Url,
    /// The token.
    pub token: Token,
    /// How the platform's certificate is verified.
    pub verify: Verify,
    /// Headers for each request to the platform.
    pub custom_headers: CustomHeaders,
    /// How long one request to the platform may take.
    pub requests_timeout: Duration,
    /// Authorities in addition to the system's, inline or as a path.
    pub ca_certificates: Option<Pem>,
    /// Authorities in the place of the system's (`REQUESTS_CA_BUNDLE`).
    pub ca_bundle: Option<PathBuf>,
    /// Proxies for requests to the platform.
    pub proxies: Proxies,
    /// Imports at once of ordinary connectors.
    pub execution_pool: usize,
    /// Imports at once of connectors in the group `REALTIME`.
    pub realtime_pool: usize,
    /// Listen callbacks at once.
    pub listen_pool: usize,
    /// How listen callbacks are called.
    pub callback: CallbackSettings,
    /// An object with so many references is rejected; 0 means that there is no limit.
    pub objects_max_refs: u64,
    /// The delays while a reference is missing.
    pub missing_reference: MissingReferenceDelays,
    /// How the broker's TLS is set up.
    pub broker_tls: BrokerTls,
    /// Where the platform's metrics are served.
    pub telemetry: Option<SocketAddr>,
    /// The level of the log in Python's words, if it is set.
    pub log_level: Option<String>,
    /// Whether log lines are JSON.
    pub json_logging: bool,
    /// Which connectors are served.
    pub selection: Selection,
    /// Messages that the broker sends ahead for each queue.
    pub prefetch: u16,
    /// The largest body.
    pub max_body: u64,
    /// How long a message may wait in place.
    pub hold_max: Duration,
    /// How often the platform is asked for its queues.
    pub discovery_interval: Duration,
    /// The Python children.
    pub python: PythonSettings,
}

/// Where the token comes from.
#[derive(Debug, Clone)]
pub enum Token {
    /// It is given.
    Inline(SecretString),
    /// It is read from a file, again whenever the platform refuses it.
    File(PathBuf),
}

/// How a server's certificate is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verify {
    /// Not at all.
    No,
    /// Against the system's authorities.
    System,
    /// Against the authorities in a file.
    Ca(PathBuf),
}

/// PEM text, or the file that has it.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// The text itself.
    Inline(String),
    /// A file.
    File(PathBuf),
}

/// Headers for each request: `name:value;name:value`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CustomHeaders(pub Vec<(String, String)>);

/// Proxies by the scheme of the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http`.
    pub http: Option<String>,
    /// For `https`.
    pub https: Option<String>,
    /// Hosts that are reached without one, separated by commas.
    pub except: Option<String>,
}

/// How listen callbacks are called.
#[derive(Debug, Clone)]
pub struct CallbackSettings {
    /// Whether their certificates are verified.
    pub verify: bool,
    /// Their proxies.
    pub proxies: Proxies,
}

/// How the broker's TLS is set up (`MQ_USE_SSL_*`).
#[derive(Debug, Clone, Default)]
pub struct BrokerTls {
    /// Authorities.
    pub ca: Option<Pem>,
    /// The client's certificate.
    pub cert: Option<Pem>,
    /// The client's key, without its passphrase.
    pub key: Option<Pem>,
    /// Whether a certificate that cannot be verified is refused.
    pub reject_unauthorized: bool,
}

/// The Python children.
#[derive(Debug, Clone)]
pub struct PythonSettings {
    /// The interpreter.
    pub program: PathBuf,
    /// Whether children are forked from one process that has imported pycti.
    pub fork: bool,
    /// Whether a pycti of another version than the platform's ends the worker.
    pub require_version: bool,
    /// A child is replaced after so many requests.
    pub max_requests: u64,
    /// A child is replaced when it holds so many bytes.
    pub max_memory: u64,
    /// An import that takes longer is ended; long rule operations are not.
    pub item_timeout: Duration,
}

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// All that is wrong, each with the key, its value and the rule.
    pub fn read(sources: &Sources<'_>) -> Result<Self, SettingErrors> {
        let mut read = Reader::new(sources);
        let url = read.url("OPENCTI_URL");
        let token = token(&mut read);
        let telemetry = telemetry(&mut read);
        let initial = "OPENCTI_MISSING_REF_RETRY_INITIAL_DELAY";
        let settings = Self {
            url: url.unwrap_or_else(|| Url::parse("http://reported.invalid").expect("a URL")),
            token: token.unwrap_or_else(|| Token::Inline(SecretString::default())),
            verify: verify(&mut read).unwrap_or(Verify::No),
            custom_headers: read.custom_headers("OPENCTI_CUSTOM_HEADERS"),
            requests_timeout: read.seconds("OPENCTI_REQUESTS_TIMEOUT", 300),
            ca_certificates: mq::certificates(&mut read, "HTTPS_CA_CERTIFICATES"),
            ca_bundle: ca_bundle(&mut read),
            proxies: Proxies {
                http: read.proxy("HTTP_PROXY"),
                https: read.proxy("HTTPS_PROXY"),
                except: read.text("NO_PROXY"),
            },
            execution_pool: read.pool("OPENCTI_EXECUTION_POOL_SIZE", 2),
            realtime_pool: read.pool("OPENCTI_REALTIME_EXECUTION_POOL_SIZE", 3),
            listen_pool: read.pool("WORKER_LISTEN_POOL_SIZE", 5),
            callback: CallbackSettings {
                verify: read.flag("WORKER_LISTEN_API_SSL_VERIFY", false),
                proxies: Proxies {
                    http: read.proxy("WORKER_LISTEN_API_HTTP_PROXY"),
                    https: read.proxy("WORKER_LISTEN_API_HTTPS_PROXY"),
                    except: None,
                },
            },
            objects_max_refs: read.whole("WORKER_OBJECTS_MAX_REFS", 0, (0, u64::MAX)),
            missing_reference: MissingReferenceDelays {
                exponential: read.flag("OPENCTI_MISSING_REF_RETRY_EXPONENTIAL", false),
                initial: read.float(initial, 0.5, 0.0),
                factor: read.float("OPENCTI_MISSING_REF_RETRY_FACTOR", 2.0, 1.0),
            },
            broker_tls: mq::broker_tls(&mut read),
            telemetry,
            log_level: read.word("WORKER_LOG_LEVEL", &reader::LOG_LEVELS),
            json_logging: read.flag("OPENCTI_JSON_LOGGING", true),
            selection: Selection {
                only: read.list("only"),
                except: read.list("except"),
            },
            prefetch: u16::try_from(read.whole("prefetch", 1, (1, 65_535))).unwrap_or(1),
            max_body: read.size("max_body", 512 << 20),
            hold_max: read.duration("hold_max", Duration::from_mins(25)),
            discovery_interval: read.duration("discovery_interval", Duration::from_mins(1)),
            python: python(&mut read),
        };
        read.finish().map(|()| settings)
    }

    /// The level of the log in our words, if it is set.
    pub fn log_level(&self) -> Option<LogLevel> {
        self.log_level.as_deref().map(|level| match level {
            "debug" => LogLevel::Debug,
            "warn" | "warning" => LogLevel::Warn,
            "error" | "critical" => LogLevel::Error,
            _ => LogLevel::Info,
        })
    }
}

fn verify(read: &mut Reader<'_>) -> Option<Verify> {
    let key = "OPENCTI_SSL_VERIFY";
    let verify = read.verify(key)?;
    if let Verify::Ca(path) = &verify {
        mq::with_certificates(read, key, Pem::File(path.clone()))?;
    }
    Some(verify)
}

fn ca_bundle(read: &mut Reader<'_>) -> Option<PathBuf> {
    let key = "REQUESTS_CA_BUNDLE";
    let path = read.file(key)?;
    mq::with_certificates(read, key, Pem::File(path.clone()))?;
    Some(path)
}

fn token(read: &mut Reader<'_>) -> Option<Token> {
    let inline = read.text("OPENCTI_TOKEN");
    let file = read.file("token_file");
    match (inline, file) {
        (Some(_), Some(_)) => {
            read.refuse(
                "token_file",
                None,
                "cannot be set together with OPENCTI_TOKEN",
            );
            None
        }
        (Some(token), None) if token == "ChangeMe" => {
            let rule = "must be the token of the platform's user, not the example's ChangeMe";
            read.refuse("OPENCTI_TOKEN", None, rule);
            None
        }
        (Some(token), None) if !is_token(&token) => {
            let rule = "must be visible ASCII characters without spaces";
            read.refuse("OPENCTI_TOKEN", None, rule);
            None
        }
        (Some(token), None) => Some(Token::Inline(token.into())),
        (None, Some(file)) => Some(Token::File(file)),
        // A file that cannot be read is told already.
        (None, None) if read.has("token_file") => None,
        (None, None) => {
            let rule = "must be set: the token of the platform's user (or [opencti] token_file)";
            read.refuse("OPENCTI_TOKEN", None, rule);
            None
        }
    }
}

/// Whether a request can carry the token.
pub(crate) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn telemetry(read: &mut Reader<'_>) -> Option<SocketAddr> {
    let enabled = read.flag("WORKER_TELEMETRY_ENABLED", false);
    let port = read.whole("WORKER_PROMETHEUS_TELEMETRY_PORT", 14_270, (0, 65_535));
    let host = "WORKER_PROMETHEUS_TELEMETRY_HOST";
    let address = read.parsed(host, "an IP address", |text| match text {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        text => text.parse().ok(),
    });
    let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    enabled.then(|| SocketAddr::new(address, u16::try_from(port).unwrap_or(14_270)))
}

fn python(read: &mut Reader<'_>) -> PythonSettings {
    PythonSettings {
        program: read
            .text("python")
            .unwrap_or_else(|| "python3".into())
            .into(),
        fork: read.flag("fork", true),
        require_version: read.word("pycti", &["warn", "require"]).as_deref() == Some("require"),
        max_requests: read.whole("child_max_requests", 10_000, (1, u64::MAX)),
        max_memory: read.size("child_max_memory", 512 << 20),
        item_timeout: read.duration("item_timeout", Duration::from_mins(15)),
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("inline"),
            Self::File(path) => path.fmt(f),
        }
    }
}

impl fmt::Debug for CustomHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values may be secrets.
        f.debug_set()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

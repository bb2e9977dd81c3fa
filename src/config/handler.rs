//! The settings of the handlers that configuration names.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

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

/// `handler = { <kind> = { … } }`
///
/// ```
/// use tidegate::config::{ExecSettings, HandlerSettings};
/// use tidegate::handler;
///
/// let settings = HandlerSettings::Exec(ExecSettings::new(["./ship", "--fast"]));
/// let handler = handler::from_settings(&settings)?;
/// assert_eq!(handler.kind(), "exec");
/// # Ok::<(), tidegate::handler::HandlerError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum HandlerSettings {
    /// POST to a URL.
    Http(HttpSettings),
    /// Run a command.
    Exec(ExecSettings),
    /// Run deliveries in children that stay.
    Pool(ChildPoolSettings),
    /// Print and be done.
    Log(LogSettings),
}

impl HandlerSettings {
    /// The kind's word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
            Self::Pool(_) => "pool",
            Self::Log(_) => "log",
        }
    }
}

/// `handler = { http = { … } }`; its `Debug` shows no more of the URL than scheme, host and port.
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpSettings {
    /// Where to POST.
    pub url: url::Url,
    /// Headers to send with each request; values may be secrets and are never shown.
    pub headers: BTreeMap<String, SecretString>,
    /// PEM file of the authorities that may sign the server's certificate, beside the system's.
    pub ca: Option<PathBuf>,
}

impl HttpSettings {
    /// Requests to `url` without further headers.
    pub fn new(url: url::Url) -> Self {
        Self {
            url,
            headers: BTreeMap::new(),
            ca: None,
        }
    }
}

impl PartialEq for HttpSettings {
    fn eq(&self, other: &Self) -> bool {
        let plain = |settings: &Self| (settings.url.clone(), settings.ca.clone());
        plain(self) == plain(other) && are_same(&self.headers, &other.headers)
    }
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // User, password, path and query may all be, or hold, a token.
        f.debug_struct("HttpSettings")
            .field("scheme", &self.url.scheme())
            .field("host", &self.url.host_str())
            .field("port", &self.url.port_or_known_default())
            .field("headers", &self.headers)
            .field("ca", &self.ca)
            .finish_non_exhaustive()
    }
}

/// `handler = { exec = { … } }`; its `Debug` shows the program without its arguments.
#[derive(Clone)]
#[non_exhaustive]
pub struct ExecSettings {
    /// The program and its arguments; no shell in between.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: Option<PathBuf>,
    /// Variables beside the worker's own environment; values may be secrets and are never shown.
    pub env: BTreeMap<String, SecretString>,
}

impl ExecSettings {
    /// A program and its arguments, in the worker's directory and with its environment.
    ///
    /// ```
    /// use tidegate::config::ExecSettings;
    ///
    /// let command = ExecSettings::new(["python3", "orders.py"]);
    /// assert_eq!(command.command.len(), 2);
    /// ```
    pub fn new<W: Into<String>>(command: impl IntoIterator<Item = W>) -> Self {
        Self {
            command: command.into_iter().map(Into::into).collect(),
            directory: None,
            env: BTreeMap::new(),
        }
    }
}

impl PartialEq for ExecSettings {
    fn eq(&self, other: &Self) -> bool {
        let plain = |settings: &Self| (settings.command.clone(), settings.directory.clone());
        plain(self) == plain(other) && are_same(&self.env, &other.env)
    }
}

impl fmt::Debug for ExecSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecSettings")
            .field("program", &self.command.first())
            .field("arguments", &self.command.len().saturating_sub(1))
            .field("directory", &self.directory)
            .field("env", &self.env)
            .finish()
    }
}

/// `handler = { pool = { … } }`
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ChildPoolSettings {
    /// The command of each child.
    pub command: ExecSettings,
    /// The number of children that may work at once; `None` is as many as the node has slots.
    pub size: Option<usize>,
    /// Whether `size` children are started with the worker instead of when they are first needed.
    pub warm: bool,
    /// The channel of requests and answers.
    pub channel: PoolChannel,
    /// After how many answers a child is replaced.
    pub max_deliveries: Option<u64>,
    /// Above how much resident memory, in bytes, a child is replaced after its answer.
    pub max_rss: Option<u64>,
}

impl ChildPoolSettings {
    /// As many children as the node has slots, started when they are needed, over stdin and stdout.
    pub fn new(command: ExecSettings) -> Self {
        Self {
            command,
            size: None,
            warm: false,
            channel: PoolChannel::default(),
            max_deliveries: None,
            max_rss: None,
        }
    }
}

/// The channel over which a child of a `pool` gets its requests and sends its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PoolChannel {
    /// stdin and stdout; the default.
    #[default]
    Stdio,
    /// Descriptors 3 and 4, so that what a program prints does not break the protocol.
    Fd,
}

/// `handler = { log = { … } }`
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct LogSettings {
    /// The output for each delivery.
    pub print: Print,
}

impl LogSettings {
    /// Prints so much of each delivery.
    pub const fn new(print: Print) -> Self {
        Self { print }
    }
}

/// The output of the `log` handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Print {
    /// Nothing.
    None,
    /// One line a delivery: queue, message id, size; the default.
    #[default]
    Line,
    /// The line and the body.
    Body,
}

/// Whether both hold the same secrets under the same names.
fn are_same(
    ours: &BTreeMap<String, SecretString>,
    theirs: &BTreeMap<String, SecretString>,
) -> bool {
    let exposed = |secrets: &BTreeMap<String, SecretString>| {
        let exposed = secrets.iter();
        let exposed =
            exposed.map(|(name, secret)| (name.clone(), secret.expose_secret().to_owned()));
        exposed.collect::<Vec<_>>()
    };
    exposed(ours) == exposed(theirs)
}

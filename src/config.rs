//! Configuration: what a file and the environment say, validated as a whole before any socket opens.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

/// Everything a worker is told, valid as a whole.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The broker and how to reach it.
    pub broker: BrokerSettings,
    /// This worker.
    pub worker: WorkerSettings,
    /// The drain.
    pub drain: DrainSettings,
    /// How often to say that the worker is alive.
    pub heartbeat: HeartbeatSettings,
    /// Where status messages go.
    pub status: StatusSettings,
    /// Named pools of slots (`[pool.<name>]`), shared by nodes.
    pub pools: BTreeMap<String, PoolSettings>,
    /// The nodes, in the order of the file; at least one.
    pub nodes: Vec<NodeSettings>,
}

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

/// `[worker]`
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// The worker's name; by default the host's.
    pub name: String,
    /// Address of the HTTP server; `None` where it is `off`.
    pub http: Option<std::net::SocketAddr>,
}

/// `[drain]`
#[derive(Debug, Clone)]
pub struct DrainSettings {
    /// From the beginning of a drain to its deadline.
    pub grace: Duration,
}

/// `[heartbeat]`
#[derive(Debug, Clone)]
pub struct HeartbeatSettings {
    /// Interval at full load.
    pub busy: Duration,
    /// Interval at no load.
    pub idle: Duration,
}

/// `[status]`
#[derive(Debug, Clone)]
pub struct StatusSettings {
    /// Whether status messages are sent at all.
    pub enabled: bool,
    /// Topic exchange that status messages go to.
    pub exchange: String,
    /// Topic exchange that commands come from.
    pub control: String,
}

/// `[pool.<name>]`
#[derive(Debug, Clone)]
pub struct PoolSettings {
    /// How many deliveries of all nodes in the pool run at once; at least 1.
    pub slots: usize,
}

/// `[[node]]`
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// The queue's name; at most 255 bytes.
    pub queue: String,
    /// Whether the queue and its bindings are declared; otherwise they are only checked.
    pub declare: bool,
    /// The type the queue is declared with.
    pub kind: QueueType,
    /// The queue's `x-max-length`, where declared with one.
    pub max_length: Option<u64>,
    /// Bindings to declare.
    pub bind: Vec<Binding>,
    /// Whether the queue has a single active consumer (`x-single-active-consumer`): strict order, so the
    /// drain lets no successor start before the last delivery is settled.
    pub single_active_consumer: bool,
    /// The slots its deliveries run in.
    pub slots: Slots,
    /// How many deliveries the broker sends ahead; 1 to 65535.
    pub prefetch: u16,
    /// How long one delivery may run before it is cancelled and retried.
    pub timeout: Duration,
    /// Largest body in bytes; a larger one is dead.
    pub max_body: u64,
    /// When and how often to try again.
    pub retry: RetrySettings,
    /// The handler that configuration names; `None` where the program registers its own.
    pub handler: Option<HandlerSettings>,
}

/// The type of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueType {
    /// Replicated by Raft; the default.
    Quorum,
    /// On one node of the broker.
    Classic,
}

impl QueueType {
    /// The value of `x-queue-type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::Classic => "classic",
        }
    }
}

/// One binding of a node's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// The exchange; it must exist.
    pub exchange: String,
    /// The binding key.
    pub key: String,
}

/// Where a node's deliveries run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slots {
    /// In slots of its own (`concurrency`); at least 1.
    Own(usize),
    /// In the named pool.
    Pool(String),
}

/// `retry = { … }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySettings {
    /// How many times a message is run at most; at least 1.
    pub max_attempts: u32,
    /// The first delay.
    pub min: Duration,
    /// The longest delay.
    pub max: Duration,
}

/// `handler = { <kind> = { … } }`
#[derive(Debug, Clone)]
pub enum HandlerSettings {
    /// POST to a URL.
    Http(HttpSettings),
    /// Run a command.
    Exec(ExecSettings),
    /// Print and be done.
    Log(LogSettings),
}

impl HandlerSettings {
    /// The kind's word.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Exec(_) => "exec",
            Self::Log(_) => "log",
        }
    }
}

/// `handler = { http = { … } }`
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Where to POST.
    pub url: url::Url,
    /// Headers to send with each request; values may be secrets and are never shown.
    pub headers: BTreeMap<String, SecretString>,
    /// PEM file of the authorities that may sign the server's certificate, beside the system's.
    pub ca: Option<PathBuf>,
}

/// `handler = { exec = { … } }`
#[derive(Debug, Clone)]
pub struct ExecSettings {
    /// The program and its arguments; no shell in between.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: Option<PathBuf>,
    /// Variables beside the worker's own environment; values may be secrets and are never shown.
    pub env: BTreeMap<String, SecretString>,
}

/// `handler = { log = { … } }`
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// What is printed of each delivery.
    pub print: Print,
}

/// How much the `log` handler prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Print {
    /// Nothing.
    None,
    /// One line a delivery: queue, message id, size.
    Line,
    /// The line and the body.
    Body,
}

/// Whether each node's handler must be named by configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandlersFrom {
    /// It must.
    Configuration,
    /// The program registers its own.
    Program,
}
/// TEMPORARY
#[derive(Debug)]
pub struct ConfigErrors;
impl std::fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("x")
    }
}
impl std::error::Error for ConfigErrors {}
/// TEMPORARY
pub fn load(
    _: &std::path::Path,
    _: impl IntoIterator<Item = (String, String)>,
    _: HandlersFrom,
) -> Result<Settings, ConfigErrors> {
    let queue = std::env::var("T_QUEUE").expect("q");
    Ok(Settings {
        broker: BrokerSettings {
            tls: false,
            host: "127.0.0.1".into(),
            port: std::env::var("T_PORT").expect("p").parse().expect("p"),
            vhost: "/".into(),
            username: "guest".into(),
            password: "guest".to_owned().into(),
            ca: None,
            identity: None,
            connect_timeout: Duration::from_secs(10),
            heartbeat: Duration::from_secs(20),
        },
        worker: WorkerSettings {
            name: "t".into(),
            http: Some("127.0.0.1:0".parse().expect("a")),
        },
        drain: DrainSettings {
            grace: Duration::from_secs(
                std::env::var("T_GRACE")
                    .unwrap_or("25".into())
                    .parse()
                    .expect("g"),
            ),
        },
        heartbeat: HeartbeatSettings {
            busy: Duration::from_secs(10),
            idle: Duration::from_secs(60),
        },
        status: StatusSettings {
            enabled: true,
            exchange: "tidegate.status".into(),
            control: "tidegate.control".into(),
        },
        pools: BTreeMap::new(),
        nodes: vec![NodeSettings {
            queue,
            declare: true,
            kind: QueueType::Quorum,
            max_length: None,
            bind: vec![],
            single_active_consumer: false,
            slots: Slots::Own(8),
            prefetch: 16,
            timeout: Duration::from_secs(300),
            max_body: 1 << 24,
            retry: RetrySettings {
                max_attempts: 5,
                min: Duration::from_secs(1),
                max: Duration::from_secs(300),
            },
            handler: Some(HandlerSettings::Exec(ExecSettings {
                command: vec![
                    "sleep".into(),
                    std::env::var("T_SLEEP").unwrap_or("0.5".into()),
                ],
                directory: None,
                env: BTreeMap::new(),
            })),
        }],
    })
}

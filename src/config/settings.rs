//! The settings of a worker and of the fleet program as a whole, and their defaults.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::broker::BrokerSettings;
use super::fleet::FleetSettings;
use super::node::NodeSettings;
use super::rules::{WORKER_NAME_LIMIT, is_in_worker_name};

/// Everything a worker or the fleet program is told. Settings from a file keep every rule; for those made in code,
/// [`Settings::validate`] says what is wrong.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Settings {
    /// The broker and how to reach it.
    pub broker: BrokerSettings,
    /// This worker.
    pub worker: WorkerSettings,
    /// The drain.
    pub drain: DrainSettings,
    /// The intervals of beats.
    pub heartbeat: HeartbeatSettings,
    /// Where status messages go.
    pub status: StatusSettings,
    /// What the programs log.
    pub log: LogLevelSettings,
    /// Named pools of slots (`[pool.<name>]`), shared by nodes.
    pub pools: BTreeMap<String, PoolSettings>,
    /// The nodes, in the order of the file; at least one for a worker.
    pub nodes: Vec<NodeSettings>,
    /// The fleet program.
    pub fleet: FleetSettings,
}

impl Settings {
    /// Defaults for everything but the broker, and no node yet: push those to [`Settings::nodes`].
    pub fn new(broker: BrokerSettings) -> Self {
        Self {
            broker,
            worker: WorkerSettings::default(),
            drain: DrainSettings::default(),
            heartbeat: HeartbeatSettings::default(),
            status: StatusSettings::default(),
            log: LogLevelSettings::default(),
            pools: BTreeMap::new(),
            nodes: Vec::new(),
            fleet: FleetSettings::default(),
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogLevelSettings {
    /// What the program logs, if its command line does not say.
    pub level: LogLevel,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// What failed.
    Error,
    /// What may need somebody.
    Warn,
    /// What happens to the worker and its nodes; the default.
    #[default]
    Info,
    /// Every delivery.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// All levels, from the least to the most.
    pub const ALL: [Self; 6] = [
        Self::Off,
        Self::Error,
        Self::Warn,
        Self::Info,
        Self::Debug,
        Self::Trace,
    ];

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// `[worker]`
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WorkerSettings {
    /// The worker's name; by default the host's.
    pub name: String,
    /// Address of the HTTP server; `None` if it is `off`.
    pub http: Option<SocketAddr>,
}

/// `[drain]`
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DrainSettings {
    /// From the beginning of a drain to its deadline.
    pub grace: Duration,
}

/// `[heartbeat]`
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct HeartbeatSettings {
    /// Interval at full load.
    pub busy: Duration,
    /// Interval at no load.
    pub idle: Duration,
}

/// `[status]`
#[derive(Debug, Clone)]
#[non_exhaustive]
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
#[non_exhaustive]
pub struct PoolSettings {
    /// The number of deliveries of all nodes in the pool that run at once; at least 1.
    pub slots: usize,
    /// The pool whose slots are used when all of this one are taken.
    pub overflow: Option<String>,
}

impl PoolSettings {
    /// A pool by itself.
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            overflow: None,
        }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            name: host_name(),
            http: cfg!(feature = "endpoints")
                .then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 8079))),
        }
    }
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(25),
        }
    }
}

impl Default for HeartbeatSettings {
    fn default() -> Self {
        Self {
            busy: Duration::from_mins(5),
            idle: Duration::from_mins(10),
        }
    }
}

impl Default for StatusSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            exchange: "tidegate.status".into(),
            control: "tidegate.control".into(),
        }
    }
}

/// The host's name, with `-` for what a worker's name may not hold.
fn host_name() -> String {
    let host = gethostname::gethostname();
    let name: String = host
        .to_string_lossy()
        .chars()
        .map(|c| if is_in_worker_name(c) { c } else { '-' })
        .take(WORKER_NAME_LIMIT)
        .collect();
    if name.is_empty() {
        "worker".into()
    } else {
        name
    }
}

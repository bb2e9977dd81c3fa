//! The settings of a node, and their defaults.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::handler::HandlerSettings;

/// `[[node]]`
///
/// ```
/// use tidegate::Node;
/// use tidegate::config::{Binding, NodeSettings, QueueType};
///
/// let mut settings = NodeSettings::new("orders");
/// settings.kind = QueueType::Classic;
/// settings.bind = vec![Binding::new("shop", "order.*")];
/// assert!(settings.validate().is_ok());
/// let node = Node::from_settings(settings);
/// # let _ = node;
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct NodeSettings {
    /// The queue's name; at most 255 bytes.
    pub queue: String,
    /// Whether the queue and its bindings are declared if they are missing; otherwise they are only looked for.
    pub declare: bool,
    /// The type that a missing queue is declared with.
    pub kind: QueueType,
    /// The `x-max-length` that a missing queue is declared with.
    pub max_length: Option<u64>,
    /// Other arguments that a missing queue is declared with, such as `x-max-priority`.
    pub arguments: BTreeMap<String, Argument>,
    /// Bindings to declare.
    pub bind: Vec<Binding>,
    /// Whether the queue has a single active consumer (`x-single-active-consumer`): strict order, so the
    /// drain lets no successor start before the last delivery is settled.
    pub single_active_consumer: bool,
    /// Its consumer's priority (`x-priority`): the broker serves a higher one first. 0 is that of other consumers.
    pub priority: i32,
    /// The slots its deliveries run in.
    pub slots: Slots,
    /// The number of deliveries that the broker sends ahead; 1 to 65535.
    pub prefetch: u16,
    /// A delivery that runs for longer is cancelled and retried. Time on hold does not count.
    pub timeout: Duration,
    /// A delivery may be on hold until this long after its arrival; below the broker's `consumer_timeout`.
    pub hold_max: Duration,
    /// Largest body in bytes; a larger one is dead.
    pub max_body: u64,
    /// When and how often to try again.
    pub retry: RetrySettings,
    /// Whether the queue itself delays and counts retries (`x-delayed-retry-type` `failed`, RabbitMQ 4.3, quorum
    /// queues); a queue that is declared is declared so. It counts a lost channel as a run, too.
    pub delayed_retry: bool,
    /// The destination of dead letters.
    pub dead_letter: DeadLetterSettings,
    /// The handler that configuration names; `None` if the program registers its own.
    pub handler: Option<HandlerSettings>,
}

impl NodeSettings {
    /// Whether a node that runs can go over to these settings by itself: only its slots, its prefetch, or what
    /// concerns each delivery differs.
    pub(crate) fn may_become(&self, wanted: &Self) -> bool {
        let slots = match (&self.slots, &wanted.slots) {
            (Slots::Own(_), Slots::Own(_)) => wanted.slots.clone(),
            _ => self.slots.clone(),
        };
        let adjusted = Self {
            slots,
            prefetch: wanted.prefetch,
            timeout: wanted.timeout,
            hold_max: wanted.hold_max,
            max_body: wanted.max_body,
            retry: wanted.retry.clone(),
            ..self.clone()
        };
        adjusted == *wanted
    }
}

/// The type of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum QueueType {
    /// Replicated by Raft; the default.
    #[default]
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

/// The value of an argument of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Argument {
    /// A string.
    Text(String),
    /// A whole number.
    Number(i64),
    /// True or false.
    Flag(bool),
}

impl fmt::Display for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

/// One binding of a node's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Binding {
    /// The exchange; it must exist.
    pub exchange: String,
    /// The binding key.
    pub key: String,
}

impl Binding {
    /// Binds to the exchange with the key.
    pub fn new(exchange: impl Into<String>, key: impl Into<String>) -> Self {
        Self {
            exchange: exchange.into(),
            key: key.into(),
        }
    }
}

/// The slots that a node's deliveries run in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Slots {
    /// In slots of its own (`concurrency`); at least 1.
    Own(usize),
    /// In the named pool.
    Pool(String),
}

/// `dead_letter = { … }`
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetterSettings {
    /// The exchange; empty for the default exchange, and then the queue that the routing key names is declared
    /// where the node declares.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
}

impl DeadLetterSettings {
    /// Publishes dead letters to the exchange with the routing key.
    pub fn new(exchange: impl Into<String>, routing_key: impl Into<String>) -> Self {
        Self {
            exchange: exchange.into(),
            routing_key: routing_key.into(),
        }
    }

    /// The dead letters of a queue, where nothing else is said: the queue `<queue>.dead`.
    pub fn of(queue: &str) -> Self {
        Self {
            exchange: String::new(),
            routing_key: format!("{queue}.dead"),
        }
    }
}

/// `retry = { … }`
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetrySettings {
    /// A message is run this many times at most; at least 1.
    pub max_attempts: u32,
    /// The first delay.
    pub min: Duration,
    /// The longest delay.
    pub max: Duration,
}

/// The longest hold: five minutes below RabbitMQ's default `consumer_timeout` of 30 minutes.
const HOLD_MAX: Duration = Duration::from_mins(25);
/// Slots of a node that names neither `concurrency` nor `pool`.
const CONCURRENCY: u16 = 8;

impl NodeSettings {
    /// A node of the queue with all defaults: a quorum queue that is declared, 8 slots of its own, 16 messages
    /// ahead, and the handler that the program registers.
    pub fn new(queue: impl Into<String>) -> Self {
        let queue = queue.into();
        Self {
            dead_letter: DeadLetterSettings::of(&queue),
            queue,
            declare: true,
            kind: QueueType::default(),
            max_length: None,
            arguments: BTreeMap::new(),
            bind: Vec::new(),
            single_active_consumer: false,
            priority: 0,
            slots: Slots::Own(CONCURRENCY.into()),
            prefetch: default_prefetch(CONCURRENCY.into()),
            timeout: Duration::from_mins(5),
            hold_max: HOLD_MAX,
            max_body: 16 << 20,
            retry: RetrySettings::default(),
            delayed_retry: false,
            handler: None,
        }
    }
}

/// The prefetch of a node that names none: 2 for each slot, so that the next delivery is there when one ends.
pub(crate) fn default_prefetch(slots: usize) -> u16 {
    u16::try_from(slots.saturating_mul(2)).unwrap_or(u16::MAX)
}

impl RetrySettings {
    /// A message is run `max_attempts` times at most, after delays that grow from `min` to `max`.
    pub const fn new(max_attempts: u32, min: Duration, max: Duration) -> Self {
        Self {
            max_attempts,
            min,
            max,
        }
    }
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            min: Duration::from_secs(1),
            max: Duration::from_mins(5),
        }
    }
}

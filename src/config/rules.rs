//! The rules for settings. They hold for values from a file and for settings made in code alike: the reader and
//! [`Settings::validate`](super::Settings::validate) both ask here.

use std::fmt::Display;
use std::time::Duration;

use bytesize::ByteSize;

use super::error::Rule;
use super::node::{DeadLetterSettings, NodeSettings, QueueType};
use super::section::unknown;
use super::settings::StatusSettings;
use super::value::words;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const TENTH: Duration = Duration::from_millis(100);
const HUNDREDTH: Duration = Duration::from_millis(10);

/// The smallest and the largest value that a setting may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds<T> {
    min: T,
    max: T,
}

pub(super) const CONNECT_TIMEOUT: Bounds<Duration> = Bounds::of(TENTH, Duration::from_mins(5));
/// AMQP counts heartbeats in whole seconds; see [`broker_heartbeat`].
const BROKER_HEARTBEAT: Bounds<Duration> = Bounds::of(SECOND, Duration::from_mins(10));
pub(super) const GRACE: Bounds<Duration> = Bounds::of(SECOND, DAY);
pub(super) const HEARTBEAT: Bounds<Duration> = Bounds::of(SECOND, HOUR);
pub(super) const TIMEOUT: Bounds<Duration> = Bounds::of(HUNDREDTH, DAY);
pub(super) const HOLD: Bounds<Duration> = Bounds::of(HUNDREDTH, DAY);
pub(super) const RETRY_DELAY: Bounds<Duration> = Bounds::of(HUNDREDTH, DAY);
pub(super) const KEPT: Bounds<Duration> = Bounds::of(HOUR, Duration::from_hours(365 * 24));
pub(super) const FORWARD_WINDOW: Bounds<Duration> = Bounds::of(TENTH, HOUR);

const OTHER_HOSTS: usize = 32;
pub(super) const POOL_SLOTS: Bounds<usize> = Bounds::of(1, u16::MAX as usize);
pub(super) const CONCURRENCY: Bounds<usize> = Bounds::of(1, 10_000);
/// AMQP takes 0 for no limit.
pub(super) const PREFETCH: Bounds<u16> = Bounds::of(1, u16::MAX);
pub(super) const ATTEMPTS: Bounds<u32> = Bounds::of(1, 1_000);
pub(super) const PRIORITY: Bounds<i32> = Bounds::of(i32::MIN, i32::MAX);
/// The broker takes a signed number.
pub(super) const QUEUE_LENGTH: Bounds<u64> = Bounds::of(1, i64::MAX as u64);
pub(super) const CHILDREN: Bounds<usize> = Bounds::of(1, 10_000);
pub(super) const MAX_DELIVERIES: Bounds<u64> = Bounds::of(1, u64::MAX);
pub(super) const MAX_WORKERS: Bounds<usize> = Bounds::of(10, 1_000_000);
pub(super) const BEATS_PER_SECOND: Bounds<u32> = Bounds::of(1, 100_000);

pub(super) const BODY: Bounds<u64> = Bounds::of(1, 512 << 20);
pub(super) const MAX_RSS: Bounds<u64> = Bounds::of(1 << 20, 1 << 50);
pub(super) const LOG_BYTES: Bounds<u64> = Bounds::of(4 << 20, 1 << 40);

/// A name in AMQP has a length of one byte.
const NAME_BYTES: usize = 255;
pub(super) const NAME: Bounds<usize> = Bounds::of(1, NAME_BYTES);
pub(super) const NAME_OR_EMPTY: Bounds<usize> = Bounds::of(0, NAME_BYTES);
pub(super) const STATUS_EXCHANGE: Bounds<usize> = Bounds::of(1, 127);
/// Room is left for the name of the delay queue with the longest delay.
const QUEUE_NAME: Bounds<usize> = Bounds::of(1, NAME_BYTES - ".retry.86400000".len());
const _: () = assert!(
    RETRY_DELAY.max.as_millis() == 86_400_000,
    "QUEUE_NAME leaves room for the longest delay"
);
/// Characters of a token.
const TOKEN: Bounds<usize> = Bounds::of(8, 1_024);
/// Characters of a worker's name.
pub(super) const WORKER_NAME_LIMIT: usize = 100;

impl<T> Bounds<T> {
    const fn of(min: T, max: T) -> Self {
        Self { min, max }
    }
}

impl<T: PartialOrd + Display + Copy> Bounds<T> {
    /// For a number that counts.
    pub(super) fn number(self, value: T) -> Result<T, Rule> {
        if (self.min..=self.max).contains(&value) {
            Ok(value)
        } else {
            Err(self.number_rule())
        }
    }

    pub(super) fn number_rule(self) -> Rule {
        format!("must be a whole number from {} to {}", self.min, self.max)
    }
}

impl Bounds<Duration> {
    pub(super) fn duration(self, value: Duration) -> Result<Duration, Rule> {
        if (self.min..=self.max).contains(&value) {
            return Ok(value);
        }
        let (min, max) = (words(self.min), words(self.max));
        Err(format!("must be from {min} to {max}"))
    }
}

impl Bounds<u64> {
    /// For a number of bytes.
    pub(super) fn size(self, value: u64) -> Result<u64, Rule> {
        if (self.min..=self.max).contains(&value) {
            return Ok(value);
        }
        let (min, max) = (ByteSize::b(self.min), ByteSize::b(self.max));
        Err(format!("must be from {min} to {max}"))
    }
}

impl Bounds<usize> {
    /// For the length of a text in bytes.
    pub(super) fn text<S: AsRef<str>>(self, text: S) -> Result<S, Rule> {
        let length = text.as_ref().len();
        if (self.min..=self.max).contains(&length) {
            return Ok(text);
        }
        let (min, max) = (self.min, self.max);
        Err(format!("must have {min} to {max} bytes, and has {length}"))
    }
}

pub(super) fn broker_heartbeat(heartbeat: Duration) -> Result<Duration, Rule> {
    let heartbeat = BROKER_HEARTBEAT.duration(heartbeat)?;
    if heartbeat.subsec_nanos() == 0 {
        Ok(heartbeat)
    } else {
        Err("must be whole seconds".into())
    }
}

/// One host of the broker.
pub(super) fn broker_host(host: &str, port: u16) -> Result<(), Rule> {
    if host.is_empty() || host.contains('\0') {
        return Err("must name a host".into());
    }
    if port == 0 {
        return Err("the port must be from 1 to 65535".into());
    }
    Ok(())
}

/// Checks the number of the broker's other hosts.
pub(super) fn other_hosts(count: usize) -> Result<(), Rule> {
    if count > OTHER_HOSTS {
        return Err(format!("must be at most {OTHER_HOSTS} hosts"));
    }
    Ok(())
}

/// A setting that only an encrypted connection uses.
pub(super) fn needs_amqps(is_there: bool, tls: bool) -> Result<(), Rule> {
    if is_there && !tls {
        return Err("is for encrypted connections: the URL must begin with amqps://".into());
    }
    Ok(())
}

/// The worker's own endpoints.
pub(super) fn endpoints() -> Result<(), Rule> {
    if cfg!(feature = "endpoints") {
        return Ok(());
    }
    Err("needs the crate's feature `endpoints`".into())
}

/// A worker's name becomes one word of a routing key, and dots separate those.
pub(super) fn worker_name(name: String) -> Result<String, Rule> {
    if (1..=WORKER_NAME_LIMIT).contains(&name.len()) && name.chars().all(is_in_worker_name) {
        Ok(name)
    } else {
        Err(format!(
            "must be 1 to {WORKER_NAME_LIMIT} letters, digits, \"-\" or \"_\" (no dot: it is a word of routing keys)"
        ))
    }
}

pub(super) fn is_in_worker_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

pub(super) fn status_exchange(name: String) -> Result<String, Rule> {
    STATUS_EXCHANGE.text(name).and_then(not_reserved)
}

/// The name of a node's queue.
pub(super) fn queue(name: String, declare: bool) -> Result<String, Rule> {
    let name = QUEUE_NAME.text(name)?;
    if declare {
        not_reserved(name)
    } else {
        Ok(name)
    }
}

/// Refuses names that belong to the broker itself.
fn not_reserved(name: String) -> Result<String, Rule> {
    if name.starts_with("amq.") {
        Err("must not begin with \"amq.\", which RabbitMQ keeps for itself".into())
    } else {
        Ok(name)
    }
}

/// Two durations by their keys, of which the first must not be longer. Each key has words for the error.
pub(super) fn order(
    (short, shorter): (&str, Duration),
    (long, longer): (&str, Duration),
) -> Result<(), [Rule; 2]> {
    if shorter <= longer {
        return Ok(());
    }
    let (shorter, longer) = (words(shorter), words(longer));
    Err([
        format!("must not be longer than {long}, which is {longer}"),
        format!("must not be shorter than {short}, which is {shorter}"),
    ])
}

/// The two exchanges of `[status]`.
pub(super) fn exchanges_differ(status: &StatusSettings, other: &str) -> Result<(), Rule> {
    if status.exchange == status.control {
        return Err(format!("must differ from {other}"));
    }
    Ok(())
}

/// The pool whose slots are used when those of the pool `name` are all taken.
pub(super) fn overflow(name: &str, other: &str, known: &[&str]) -> Result<(), Rule> {
    if other == name {
        return Err("must name another pool".into());
    }
    pool(other, known)
}

pub(super) fn pool(name: &str, known: &[&str]) -> Result<(), Rule> {
    if known.contains(&name) {
        Ok(())
    } else {
        Err(unknown("pool", name, known))
    }
}

/// For the name of an argument that a queue is declared with.
pub(super) fn queue_argument(name: &str) -> Result<(), Rule> {
    let key = match name {
        "x-queue-type" => "type",
        "x-max-length" => "max_length",
        "x-single-active-consumer" => "single_active_consumer",
        _ if name.starts_with("x-delayed-retry-") => "delayed_retry",
        _ => return NAME.text(name).map(drop),
    };
    Err(format!("the node's key {key:?} says it"))
}

/// Whether the broker can delay the retries of this node.
pub(super) fn delayed_retry(node: &NodeSettings) -> Result<(), Rule> {
    if node.delayed_retry && node.declare && node.kind == QueueType::Classic {
        return Err("needs type = \"quorum\": classic queues delay nothing".into());
    }
    Ok(())
}

/// The routing key of dead letters, beside their exchange.
pub(super) fn dead_letter_key(dead_letter: &DeadLetterSettings) -> Result<(), Rule> {
    if dead_letter.exchange.is_empty() && dead_letter.routing_key.is_empty() {
        return Err("must name a queue: dead letters go to it by the default exchange".into());
    }
    Ok(())
}

/// Where the dead letters of `queue` go.
pub(super) fn dead_letter(dead_letter: &DeadLetterSettings, queue: &str) -> Result<(), Rule> {
    if dead_letter.exchange.is_empty() && dead_letter.routing_key == queue {
        return Err("dead_letter must not lead back to the node's own queue".into());
    }
    Ok(())
}

/// The program and each of its arguments.
pub(super) fn argument(argument: String, index: usize) -> Result<String, Rule> {
    if index == 0 && argument.is_empty() {
        return Err("must name a program".into());
    }
    without_nul(argument)
}

pub(super) fn variable(name: &str) -> Result<(), Rule> {
    if name.is_empty() || name.contains(['=', '\0']) {
        return Err("a variable's name must not be empty or contain \"=\" or NUL".into());
    }
    Ok(())
}

pub(super) fn without_nul(text: String) -> Result<String, Rule> {
    if text.contains('\0') {
        return Err("must not contain NUL".into());
    }
    Ok(text)
}

pub(super) fn warm(warm: bool, has_size: bool) -> Result<(), Rule> {
    if warm && !has_size {
        return Err("needs \"size\": how many children to start".into());
    }
    Ok(())
}

/// The scheme of a URL that requests go to.
pub(super) fn http_url(url: &url::Url) -> Result<(), Rule> {
    match url.scheme() {
        "http" | "https" => Ok(()),
        _ => Err("must begin with http:// or https://".into()),
    }
}

/// The name of a header that requests carry.
pub(super) fn header_name<'n>(
    name: &str,
    mut others: impl Iterator<Item = &'n String>,
) -> Result<(), Rule> {
    let lower = name.to_ascii_lowercase();
    if http::HeaderName::try_from(name).is_err() {
        Err("is not the name of an HTTP header".into())
    } else if lower.starts_with("tidegate-") {
        Err("names that begin with tidegate- are those of the worker itself".into())
    } else if super::RESERVED_HEADERS.contains(&lower.as_str()) {
        Err("the HTTP client sets this header itself".into())
    } else if others.any(|other| other.eq_ignore_ascii_case(name)) {
        Err("is there twice, in upper and lower case".into())
    } else {
        Ok(())
    }
}

/// A token is carried by a header, so it is printable ASCII without spaces. A short one can be guessed.
pub(super) fn token(token: String) -> Result<String, Rule> {
    let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
    if printable && (TOKEN.min..=TOKEN.max).contains(&token.len()) {
        return Ok(token);
    }
    let (min, max) = (TOKEN.min, TOKEN.max);
    Err(format!(
        "must be {min} to {max} printable ASCII characters without spaces"
    ))
}

/// A name by which the page may be addressed.
pub(super) fn host_name(name: String) -> Result<String, Rule> {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = (1..=253).contains(&name.len()) && name.bytes().all(is_part);
    if is_name || name == "*" {
        return Ok(name);
    }
    let rule =
        "must be a host name without a port, such as \"fleet.example.org\", or \"*\" for any";
    Err(rule.into())
}

pub(super) fn header_value(value: String) -> Result<String, Rule> {
    if http::HeaderValue::from_str(&value).is_err() {
        return Err("the value has characters that an HTTP header cannot carry".into());
    }
    Ok(value)
}

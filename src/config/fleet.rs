//! The settings of the fleet program.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use secrecy::SecretString;

use super::handler::HttpSettings;

/// `[fleet]`
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FleetSettings {
    /// Address of the page and the API.
    pub http: SocketAddr,
    /// Names by which the page and the API may be addressed, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// The bearer token that a command must carry; without a token there are no commands.
    pub token: Option<SecretString>,
    /// The bearer token that a read must carry, if any; `token` is accepted as well.
    pub read_token: Option<SecretString>,
    /// The virtual host of the broker's event exchange, if that is another than the fleet's.
    pub events_vhost: Option<String>,
    /// A worker that has ended is shown for this long.
    pub retention: Duration,
    /// Workers known at a time.
    pub max_workers: usize,
    /// The greatest age of messages in the log.
    pub log_max_age: Duration,
    /// The largest size of the log, in bytes.
    pub log_max_bytes: u64,
    /// Beats per second that the whole fleet is asked for, at most.
    pub beats_per_second: u32,
    /// Whether dead letters can be looked at, replayed and dropped with `token`.
    pub dead_letters: bool,
    /// Whom to tell what changes.
    pub forward: Option<ForwardSettings>,
}

/// `forward = { … }`
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ForwardSettings {
    /// Where to, and with what headers.
    pub http: HttpSettings,
    /// One request in so much time.
    pub window: Duration,
}

impl ForwardSettings {
    /// One request in 10 s.
    pub fn new(http: HttpSettings) -> Self {
        Self {
            http,
            window: Duration::from_secs(10),
        }
    }
}

impl Default for FleetSettings {
    fn default() -> Self {
        let week = Duration::from_hours(7 * 24);
        Self {
            http: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            hosts: Vec::new(),
            token: None,
            read_token: None,
            events_vhost: None,
            retention: week,
            max_workers: 20_000,
            log_max_age: week,
            log_max_bytes: 1 << 30,
            beats_per_second: 200,
            dead_letters: false,
            forward: None,
        }
    }
}

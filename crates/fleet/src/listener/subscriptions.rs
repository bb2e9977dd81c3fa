//! The subscriptions of one connection: the log, beats, replies.

use std::time::Duration;

use tracing::warn;
use ulid::Ulid;

use super::Role;
use super::progress::Progress;
use tidegate::config::Settings;
use tidegate::internal::broker::{
    BrokerError, Feed, FeedQueue, Link, Offset, Stream, ensure_stream, ensure_topic_exchange,
    find_exchange, queue_type,
};

/// The stream of states and drain reports.
pub(super) const LOG: &str = "tidegate.status.log";
/// What the log keeps.
const LOG_KEYS: [&str; 2] = ["state.#", "drain.#"];
const BEAT_KEYS: [&str; 1] = ["beat.#"];
const ALL_KEYS: [&str; 3] = ["beat.#", "state.#", "drain.#"];
/// Messages that the broker sends ahead.
const PREFETCH: u16 = 2_000;
/// Beats and replies that may wait, and their bytes; the oldest make room.
const WAITING: u32 = 50_000;
const WAITING_BYTES: u32 = 64 << 20;
/// The broker drops a beat that has waited longer: a newer one has come.
const BEAT_TTL: Duration = Duration::from_secs(60);
/// The broker drops a reply that has waited longer: nobody waits for it any more.
const REPLY_TTL: Duration = Duration::from_secs(10);

/// The subscriptions.
pub(super) struct Subscriptions {
    /// Nothing for a client on a broker without a log.
    pub log: Option<Feed>,
    pub beats: Feed,
    pub replies: Feed,
    pub replies_queue: String,
}

impl Subscriptions {
    /// Subscribes. The fleet program declares what is missing. A client declares nothing but its own queues; on a
    /// broker without a log it takes states together with beats.
    pub(super) async fn open(
        link: &Link,
        settings: &Settings,
        id: &str,
        role: Role,
        progress: &Progress,
    ) -> Result<Self, BrokerError> {
        let has_log = match role {
            Role::Program => {
                declare(link, settings, progress).await?;
                true
            }
            Role::Client => has_log(link, &settings.status.exchange).await?,
        };
        let keys: &[&str] = if has_log { &BEAT_KEYS } else { &ALL_KEYS };
        // Each connection has names of its own, because the queues of the one before may not be gone yet.
        let own = format!("tidegate.fleet.{id}.{}", Ulid::new());
        let replies_queue = format!("{own}.replies");
        let replies = FeedQueue {
            name: &replies_queue,
            max_length: WAITING,
            max_bytes: WAITING_BYTES,
            ttl: REPLY_TTL,
            binding: None,
        };
        let beats = FeedQueue {
            name: &format!("{own}.beats"),
            ttl: BEAT_TTL,
            binding: Some((&settings.status.exchange, keys)),
            ..replies.clone()
        };
        let from = progress.next_offset().map_or(Offset::First, Offset::At);
        Ok(Self {
            replies: Feed::exclusive(link, &replies, PREFETCH).await?,
            beats: Feed::exclusive(link, &beats, PREFETCH).await?,
            log: if has_log {
                Some(Feed::stream(link, LOG, from, PREFETCH).await?)
            } else {
                None
            },
            replies_queue,
        })
    }
}

async fn declare(link: &Link, settings: &Settings, progress: &Progress) -> Result<(), BrokerError> {
    let status = &settings.status;
    ensure_topic_exchange(link, &status.exchange).await?;
    ensure_topic_exchange(link, &status.control).await?;
    let stream = Stream {
        name: LOG,
        max_age: settings.fleet.log_max_age,
        max_bytes: settings.fleet.log_max_bytes,
        exchange: &status.exchange,
        keys: &LOG_KEYS,
    };
    let differs = ensure_stream(link, &stream).await?;
    if let (Some(differs), None) = (&differs, progress.next_offset()) {
        warn!(
            log = LOG,
            differs, "the log exists with other limits, and keeps them"
        );
    }
    Ok(())
}

/// Whether there is a log that the user may read. It is an error if there is no status exchange.
///
/// Looking at an exchange or a queue takes the permission to configure it (RabbitMQ 4.3), which a mere reader need not
/// have. So a refusal says nothing, and the log is tried for what it is needed for.
pub(crate) async fn has_log(link: &Link, exchange: &str) -> Result<bool, BrokerError> {
    match find_exchange(link, exchange).await {
        // Binding to it tells the rest.
        Err(error) if error.code() == Some(403) => {}
        other => other?,
    }
    match queue_type(link, LOG).await {
        Ok(_) | Err(BrokerError::Stream { .. }) => Ok(true),
        Err(error) if matches!(error.code(), Some(403 | 404)) => Ok(false),
        Err(error) => Err(error),
    }
}

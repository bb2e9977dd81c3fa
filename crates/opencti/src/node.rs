//! The settings of a discovered queue's node.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::config::{DeadLetterSettings, NodeSettings, PoolSettings, Slots};

use crate::dead_letter;
use crate::discovery::{Role, WantedNode};
use crate::settings::Settings;

/// The pool of ordinary connectors.
const EXECUTION_POOL: &str = "opencti";
/// The pool of connectors in the group `REALTIME`.
const REALTIME_POOL: &str = "opencti-realtime";
/// The pool of callbacks.
pub const LISTEN_POOL: &str = "opencti-listen";

/// How long one message may run, time on hold not counted: a long rule operation takes hours. What may hang has limits
/// of its own.
const TIMEOUT: Duration = Duration::from_hours(24);

/// The pools of slots. Imports of both kinds overflow into each other's.
pub fn pools(settings: &Settings) -> BTreeMap<String, PoolSettings> {
    let pool = |slots, overflow: Option<&str>| {
        let mut pool = PoolSettings::new(slots);
        pool.overflow = overflow.map(str::to_owned);
        pool
    };
    BTreeMap::from([
        (
            EXECUTION_POOL.to_owned(),
            pool(settings.execution_pool, Some(REALTIME_POOL)),
        ),
        (
            REALTIME_POOL.to_owned(),
            pool(settings.realtime_pool, Some(EXECUTION_POOL)),
        ),
        (LISTEN_POOL.to_owned(), pool(settings.listen_pool, None)),
    ])
}

/// The settings of the node that consumes `wanted`. The queue is the platform's: it is never declared.
pub fn node_settings(wanted: &WantedNode, settings: &Settings) -> NodeSettings {
    let pool = match wanted.role {
        Role::Listen { .. } => LISTEN_POOL,
        Role::Push { .. } if wanted.connector.realtime => REALTIME_POOL,
        Role::Push { .. } => EXECUTION_POOL,
    };
    let mut node = NodeSettings::new(wanted.queue.as_str());
    node.declare = false;
    node.slots = Slots::Pool(pool.to_owned());
    node.prefetch = settings.prefetch;
    node.timeout = TIMEOUT;
    node.max_body = settings.max_body;
    node.hold_max = settings.hold_max;
    // Failed runs wait in place; a message never goes to a delay queue.
    node.retry.max_attempts = 1;
    node.dead_letter = DeadLetterSettings::new("", dead_letter::QUEUE);
    node
}

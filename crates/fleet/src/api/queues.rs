//! Queues in JSON.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;

/// `GET /api/v1/queues`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Queues {
    /// When this was so.
    pub at: Moment,
    /// Why the broker is not asked for depths, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The queues, in the order of their names.
    pub queues: Vec<Queue>,
    /// Queues that are not shown, for want of room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

/// One queue that workers of the fleet work, or have worked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Queue {
    /// Its name.
    pub queue: Arc<str>,
    /// A name for people, if a worker gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    /// Its type, where a worker declares it.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Arc<str>>,
    /// Live workers on it.
    pub workers: u64,
    /// Their slots.
    pub slots: u64,
    /// Deliveries that run, by the workers' last beats. Those that a worker holds and has not started are neither here
    /// nor in `ready`.
    pub running: u64,
    /// Age of the oldest of those at its worker's last beat.
    pub oldest_ms: u64,
    /// How old the workers' figures are, at most; null without any.
    pub figures_age_ms: Option<u64>,
    /// Deliveries done per second, over the last two beats of each worker.
    pub done_per_second: f64,
    /// Messages that came per second over the last ten seconds, with those that came back from a retry; null until it
    /// has been looked at twice. Computed from the depth and from what ended, so it is not exact.
    pub in_per_second: Option<f64>,
    /// The share of the deliveries of the last five minutes that failed, from 0 to 1; null if none ended.
    pub failing: Option<f64>,
    /// Messages that wait to be delivered; null until the broker has been asked.
    pub ready: Option<Depth>,
    /// Its consumers, of whatever program; null until the broker has been asked.
    pub consumers: Option<u64>,
    /// Why its depth is not known: there is no such queue, or the broker refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Messages in its delay queues, which wait for their next run; null until the broker has been asked. A broker that
    /// delays retries itself counts them in `ready`.
    pub retrying: Option<Depth>,
    /// Its dead letters; null until the broker has been asked.
    pub dead: Option<Depth>,
    /// The newest dead letter that this program has read; absent if nobody has looked at them with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_dead: Option<NewestDead>,
    /// Why workers leave its messages where they are.
    pub held: Vec<Held>,
}

/// How many messages a queue has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Depth {
    /// So many.
    pub messages: u64,
    /// How long ago the broker said so.
    pub age_ms: u64,
}

/// Why messages wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// The reason.
    pub why: Arc<str>,
    /// Workers that say so.
    pub workers: u64,
}

/// A dead letter, as far as the list of queues tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewestDead {
    /// Its reason, such as `handler`.
    pub reason: String,
    /// When it died, if it says.
    pub at: Option<String>,
    /// When this program read it.
    pub read_at: Moment,
}

/// `GET /api/v1/graph`: the last hour. All lists have a value for each slot, oldest first; null where nothing is known.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Graph {
    /// When the first slot begins.
    pub from: Moment,
    /// The length of a slot.
    pub slot_ms: u64,
    /// Deliveries done per second.
    pub done_per_second: Vec<Option<f64>>,
    /// Deliveries that failed per second: retried, or dead.
    pub failed_per_second: Vec<Option<f64>>,
    /// The most deliveries that ran at a time.
    pub running: Vec<Option<u32>>,
    /// The most messages that were ready at a time. The broker is asked only while somebody looks at the queues.
    pub ready: Vec<Option<u32>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

//! Queues in JSON.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;

/// `GET /api/v1/queues`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Queues {
    /// The time of this answer.
    pub at: Moment,
    /// Why depths are unknown, if the program cannot ask the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The queues, ordered by name.
    pub queues: Vec<Queue>,
    /// The number of queues left out of this answer. It lists at most 2000.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

/// A queue that workers of the fleet consume or have consumed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Queue {
    /// The queue's name.
    pub queue: Arc<str>,
    /// A display name, if a worker gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    /// The queue's type, if a worker declares the queue.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Arc<str>>,
    /// Live workers on the queue.
    pub workers: u64,
    /// Slots of the live workers.
    pub slots: u64,
    /// The highest number of unacknowledged deliveries that the live workers may hold: the sum of their prefetch. Running
    /// deliveries are part of it. The broker does not report the actual number over AMQP.
    #[serde(default)]
    pub prefetch: u64,
    /// Deliveries that are running, according to the workers' last beats. Deliveries that a worker holds but has not
    /// started are counted neither here nor in `ready`.
    pub running: u64,
    /// Deliveries on hold, according to the workers' last beats: started, and waiting in their place without a slot.
    /// Absent if there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub on_hold: u64,
    /// The age of the oldest running delivery at its worker's last beat.
    pub oldest_ms: u64,
    /// The age of the oldest of the workers' figures. Null if there are none.
    pub figures_age_ms: Option<u64>,
    /// Deliveries done per second, over the last two beats of each worker.
    pub done_per_second: f64,
    /// Messages that arrived per second over the last ten seconds, including those that returned from a retry. An
    /// estimate from the depth and the deliveries that ended. Null until the depth is known twice.
    pub in_per_second: Option<f64>,
    /// The share of the deliveries of the last five minutes that failed, from 0 to 1. Null if none ended.
    pub failing: Option<f64>,
    /// Messages that wait to be delivered. Null until the broker has answered.
    pub ready: Option<Depth>,
    /// The queue's consumers, including those of other programs. Null until the broker has answered.
    pub consumers: Option<u64>,
    /// Why the depth is unknown: the queue does not exist, or the broker refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Messages in the delay queues, which wait for their next run. Null until the broker has answered. If the broker
    /// delays retries itself, they are counted in `ready`.
    pub retrying: Option<Depth>,
    /// The queue's dead letters. Null until the broker has answered.
    pub dead: Option<Depth>,
    /// The newest dead letter among those last read with this program. Absent until somebody reads the dead letters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest_dead: Option<NewestDead>,
    /// Why messages wait.
    pub held: Vec<Held>,
}

/// A number of messages, as the broker reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Depth {
    /// The number of messages.
    pub messages: u64,
    /// How long ago the broker reported it.
    pub age_ms: u64,
}

/// A reason why messages wait.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// The reason.
    pub why: Arc<str>,
    /// The number of workers with this reason.
    pub workers: u64,
}

/// The dead letter that the list of queues shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewestDead {
    /// The reason, such as `handler`.
    pub reason: String,
    /// When the message died, if the letter says so.
    pub at: Option<String>,
    /// When this program read the letter.
    pub read_at: Moment,
}

/// `GET /api/v1/graph`: the last hour. Each list has one value per slot, oldest first. A value is null if it is
/// unknown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Graph {
    /// The start of the first slot.
    pub from: Moment,
    /// The length of a slot.
    pub slot_ms: u64,
    /// Deliveries done per second.
    pub done_per_second: Vec<Option<f64>>,
    /// Deliveries retried or dead per second.
    pub failed_per_second: Vec<Option<f64>>,
    /// The highest number of running deliveries seen in each slot.
    pub running: Vec<Option<u32>>,
    /// The highest number of ready messages seen in each slot. The broker is asked only while somebody looks at the
    /// queues.
    pub ready: Vec<Option<u32>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

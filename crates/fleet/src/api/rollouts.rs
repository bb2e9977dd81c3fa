//! Commands to a number of workers, in JSON.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::rollout::WorkerOutcome;

/// `POST /api/v1/rollouts`: a command to a number of workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// The command.
    pub command: RolloutCommand,
    /// Ids of the workers, from 1 to 10000. They are commanded in this order.
    pub workers: Vec<Arc<str>>,
    /// Workers under way at a time, from 1 to 1000. A drain is under way until the worker has stopped.
    #[serde(default = "one")]
    pub max_at_once: u16,
    /// Whether a drain is under way until another worker of the same name runs.
    #[serde(default)]
    pub wait_replaced: bool,
    /// Why; it appears in the workers' states and reports. At most 500 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

fn one() -> u16 {
    1
}

/// A command that can be given to a number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutCommand {
    /// Drain, and end.
    Drain,
    /// Consume nothing until resumed.
    Pause,
    /// Consume again.
    Resume,
}

impl RolloutCommand {
    /// The command's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

/// `GET /api/v1/rollouts`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rollouts {
    /// The last ten of this program, newest first.
    pub rollouts: Vec<Rollout>,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rollout {
    /// Its id.
    pub id: String,
    /// The command.
    pub command: RolloutCommand,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The address that it was asked for from.
    pub by: String,
    /// Workers under way at a time.
    pub max_at_once: u16,
    /// Whether each drain waits for its replacement.
    pub wait_replaced: bool,
    /// When it began.
    pub started_at: Moment,
    /// When it ended; null while it is under way.
    pub ended_at: Option<Moment>,
    /// How it is, or how it ended.
    pub state: RolloutState,
    /// What ended it early, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// All workers.
    pub total: u64,
    /// Workers that did as told.
    pub done: u64,
    /// Workers under way.
    pub under_way: u64,
    /// The newest results, at most 100, newest first.
    pub results: Vec<RolloutResult>,
}

/// How a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// Under way.
    Running,
    /// Every worker did as told.
    Done,
    /// Somebody stopped it. Workers that were commanded obey all the same.
    Stopped,
    /// A worker did not do as told, and no other was begun.
    Failed,
}

/// What came of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutResult {
    /// The worker's id.
    pub worker: Arc<str>,
    /// Its name.
    pub name: Option<Arc<str>>,
    /// The result in a word.
    pub outcome: WorkerOutcome,
    /// The result in a sentence.
    pub text: String,
}

//! Commands to a number of workers, in JSON.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use crate::rollout::WorkerOutcome;

/// `POST /api/v1/rollouts`: one command to several workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutRequest {
    /// The command.
    pub command: RolloutCommand,
    /// Ids of the workers, from 1 to 10000. The command reaches them in this order.
    pub workers: Vec<Arc<str>>,
    /// The maximum number of workers in progress at a time, from 1 to 1000. A drain is in progress until the worker has
    /// stopped.
    #[serde(default = "one")]
    pub max_at_once: u16,
    /// Whether a drain stays in progress until another worker of the same name is running.
    #[serde(default)]
    pub wait_replaced: bool,
    /// The reason, shown in the workers' states and drain reports; at most 500 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

fn one() -> u16 {
    1
}

/// A command that a rollout can give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutCommand {
    /// Drain and exit.
    Drain,
    /// Stop consuming until resumed.
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
    /// The last ten rollouts of this program, newest first.
    pub rollouts: Vec<Rollout>,
}

/// One rollout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rollout {
    /// The rollout's id.
    pub id: String,
    /// The command.
    pub command: RolloutCommand,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The address of the client that started it.
    pub by: String,
    /// The maximum number of workers in progress at a time.
    pub max_at_once: u16,
    /// Whether a drain stays in progress until another worker of the same name is running.
    pub wait_replaced: bool,
    /// When the rollout began.
    pub started_at: Moment,
    /// When the rollout ended. Null while it is in progress.
    pub ended_at: Option<Moment>,
    /// The state of the rollout.
    pub state: RolloutState,
    /// Why the rollout ended early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The number of workers.
    pub total: u64,
    /// Workers that have carried out the command.
    pub done: u64,
    /// Workers in progress.
    pub under_way: u64,
    /// The latest results, newest first; at most 100.
    pub results: Vec<RolloutResult>,
}

/// The state of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// In progress.
    Running,
    /// Every worker carried out the command.
    Done,
    /// Stopped by a user. Workers that already had the command still carry it out.
    Stopped,
    /// A worker did not carry out the command. No other worker was given it.
    Failed,
}

/// The result for one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutResult {
    /// The worker's id.
    pub worker: Arc<str>,
    /// The worker's name.
    pub name: Option<Arc<str>>,
    /// The outcome.
    pub outcome: WorkerOutcome,
    /// The outcome as a sentence.
    pub text: String,
}

//! What the fleet program says over HTTP, as JSON. `docs/openapi.json` describes it.

mod letters;
mod overview;
mod queues;
mod rollouts;
mod worker;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use letters::{DeadLetter, DeadLetterList, DeadLetterRequest};
pub use overview::{Counts, Messages, Overview, Week};
pub use queues::{Depth, Graph, Held, NewestDead, Queue, Queues};
pub use rollouts::{
    Rollout, RolloutCommand, RolloutRequest, RolloutResult, RolloutState, Rollouts,
};
pub use worker::{
    Drain, Figures, HistoryEntry, HistoryKind, Lease, Node, Worker, WorkerDetail, WorkerState,
};

use super::clock::Moment;
use tidegate::lifecycle::Phase;

/// `GET /api/v1/workers`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Workers {
    /// The time of this answer.
    pub at: Moment,
    /// The workers, in the order of their ids.
    pub workers: Vec<Worker>,
    /// The value of `after` for the next page. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Arc<str>>,
}

/// `GET /api/v1/drains`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drains {
    /// The drains, newest first.
    pub drains: Vec<WorkerDrain>,
    /// The number of drains on all pages together.
    #[serde(default)]
    pub total: u64,
    /// The value of `before` for the next page. Absent on the last page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A drain and its worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerDrain {
    /// The worker's id.
    pub worker: Arc<str>,
    /// The worker's name.
    pub name: Arc<str>,
    /// How the drain ended.
    #[serde(flatten)]
    pub drain: Drain,
}

/// `GET /api/v1/summary`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// The time of this answer.
    pub at: Moment,
    /// The fleet program that answers.
    pub program: Program,
    /// The fleet program's connection to the broker.
    pub broker: Broker,
    /// Whether the program accepts commands. It does if a token is configured.
    pub commands: bool,
    /// Whether dead letters can be read, replayed and dropped. They can if `fleet.dead_letters` is on and commands are
    /// accepted.
    #[serde(default)]
    pub dead_letters: bool,
    /// The fleet in figures.
    #[serde(flatten)]
    pub overview: Overview,
}

/// The fleet program itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Program {
    /// The program's version.
    pub version: String,
    /// When the program started.
    pub started_at: Moment,
}

/// The fleet program's connection to the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Broker {
    /// Whether the program receives every status message and can reach the workers.
    pub connected: bool,
    /// Whether the program has read the log to its end. Until then some workers are missing.
    pub caught_up: bool,
    /// Whether the broker's event exchange reports a crash at once. Without it the program looks for each worker's
    /// control queue.
    pub events: bool,
}

/// The first server-sent event, `snapshot`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// The fleet in figures.
    pub summary: Summary,
    /// Every worker.
    pub workers: Vec<Worker>,
    /// The latest drains, newest first.
    pub drains: Vec<WorkerDrain>,
}

/// The server-sent event `gone`: this worker is no longer listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gone {
    /// The worker's id.
    pub id: Arc<str>,
}

/// `POST /api/v1/watch`: the workers that a client shows. It is valid for 30 s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// Whether the client shows the list of all workers.
    #[serde(default)]
    pub all: bool,
    /// Ids of the workers that the client shows in detail or has on the screen; at most 200. In a large fleet their
    /// figures are refreshed first.
    #[serde(default)]
    pub workers: Vec<Arc<str>>,
}

/// The body of a command.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// The reason, shown in the worker's state and drain report; at most 500 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A worker's answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandAnswer {
    /// The worker's id.
    pub worker: String,
    /// The command.
    pub command: String,
    /// Whether the worker obeys the command.
    pub ok: bool,
    /// The worker's phase after the command.
    pub phase: Phase,
    /// Why the worker refuses, if `ok` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The body of an error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorWords,
}

/// An error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorWords {
    /// A code for programs, such as `not_found`.
    pub code: String,
    /// A message for people.
    pub message: String,
}

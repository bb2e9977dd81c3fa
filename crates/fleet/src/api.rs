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
    /// When this was so.
    pub at: Moment,
    /// The workers, in the order of their ids.
    pub workers: Vec<Worker>,
    /// What to give as `after` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Arc<str>>,
}

/// `GET /api/v1/drains`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drains {
    /// The drains, newest first.
    pub drains: Vec<WorkerDrain>,
    /// What to give as `before` for the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A drain and whose it was.
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
    /// When this was so.
    pub at: Moment,
    /// The fleet program.
    pub program: Program,
    /// Its connection to the broker.
    pub broker: Broker,
    /// Whether commands are taken: a token is configured.
    pub commands: bool,
    /// Whether dead letters can be looked at, replayed and dropped: `fleet.dead_letters` is on, and commands are taken.
    #[serde(default)]
    pub dead_letters: bool,
    /// The fleet.
    #[serde(flatten)]
    pub overview: Overview,
}

/// The fleet program itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Program {
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_at: Moment,
}

/// The fleet program's connection to the broker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Broker {
    /// Whether everything that is said now is heard, and workers can be asked.
    pub connected: bool,
    /// Whether the log has been read to its end once: before that, workers are missing.
    pub caught_up: bool,
    /// Whether the broker's own events tell of a crash at once; else the lease's end does.
    pub events: bool,
}

/// The first server-sent event, `snapshot`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// The fleet in figures.
    pub summary: Summary,
    /// Every worker.
    pub workers: Vec<Worker>,
    /// The newest drains, newest first.
    pub drains: Vec<WorkerDrain>,
}

/// The server-sent event `gone`: a worker that is no longer shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Gone {
    /// The worker's id.
    pub id: Arc<str>,
}

/// What a page shows, in `POST /api/v1/watch`. It holds for 30 s.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WatchRequest {
    /// Whether the page shows the list of all workers.
    #[serde(default)]
    pub all: bool,
    /// Ids of the workers that it shows in detail, or has on the screen; at most 200. In a large fleet their figures
    /// come first.
    #[serde(default)]
    pub workers: Vec<Arc<str>>,
}

/// What a command may carry.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CommandRequest {
    /// Why; it appears in the worker's state and report. At most 500 bytes.
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
    /// Whether it was carried out, or is being.
    pub ok: bool,
    /// The worker's phase after the command.
    pub phase: Phase,
    /// Why not, where `ok` is false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An error's body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorBody {
    /// The error.
    pub error: ErrorWords,
}

/// An error in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorWords {
    /// A word for programs, such as `not_found`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
}

//! One worker in JSON.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use tidegate::internal::status::wire::{DrainOutcome, DrainSteps};
use tidegate::lifecycle::Phase;

/// The state of a worker, as the fleet program sees it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Starting: not consuming yet.
    Starting,
    /// Consuming.
    Running,
    /// Alive and not consuming, because a command paused it.
    Paused,
    /// Stopping in order: it takes no new work and finishes what runs.
    Draining,
    /// It has ended and reported its drain.
    Stopped,
    /// Its control queue is gone and it reported no drain: it crashed or lost its connection.
    Lost,
    /// Its lease expired and it does not answer, but its control queue exists: it may hang.
    Silent,
}

impl WorkerState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Running,
        Self::Paused,
        Self::Draining,
        Self::Stopped,
        Self::Lost,
        Self::Silent,
    ];

    /// The state's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
            Self::Lost => "lost",
            Self::Silent => "silent",
        }
    }

    /// The state with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Whether such a worker is known to be alive.
    pub const fn is_live(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Paused | Self::Draining => true,
            Self::Stopped | Self::Lost | Self::Silent => false,
        }
    }
}

impl From<Phase> for WorkerState {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Starting => Self::Starting,
            Phase::Running => Self::Running,
            Phase::Paused => Self::Paused,
            Phase::Draining => Self::Draining,
            Phase::Stopped => Self::Stopped,
        }
    }
}

/// One worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// The worker's id, new at each start.
    pub id: Arc<str>,
    /// The worker's name.
    pub name: Arc<str>,
    /// The worker's state.
    pub state: WorkerState,
    /// When the worker entered this state.
    pub since: Moment,
    /// The reason for the state, such as the signal or command that began a drain. Absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// What holds the worker up, as it reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Arc<str>>,
    /// The host's name. Null until the worker reports it.
    pub host: Option<Arc<str>>,
    /// The process id. Null until the worker reports it.
    pub pid: Option<u32>,
    /// The version of Tidegate that the worker runs. Null until the worker reports it.
    pub version: Option<Arc<str>>,
    /// When the worker started. Null until the worker reports it.
    pub started_at: Option<Moment>,
    /// When a message from the worker last arrived.
    pub last_heard: Moment,
    /// The worker's lease. Null if the worker has ended, is lost or silent, or is known only from the log.
    pub lease: Option<Lease>,
    /// The share of the slots that are in use, from 0 to 1. Null until a beat reports it.
    pub load: Option<f64>,
    /// The age of `load` and of the nodes' figures. Null until a beat reports them. Workers send figures about once a
    /// second while somebody looks, and every few minutes otherwise.
    pub figures: Option<Figures>,
    /// The deadline of the drain. Absent unless the worker is draining.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Moment>,
    /// The worker's nodes.
    pub nodes: Vec<Node>,
    /// The number of nodes that the fleet program has no room to keep.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nodes_left_out: u64,
    /// The drain report. Absent until the worker has drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

/// The age of a worker's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// When the worker measured them.
    pub at: Moment,
    /// How long ago that was.
    pub age_ms: u64,
}

/// The time within which a worker promised to send its next message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    /// The whole lease, counted from the last message.
    pub ms: u64,
    /// What is left of the lease. 0 if it has expired and the fleet program is asking the worker.
    pub left_ms: u64,
}

/// A node of a worker. Counters start at 0 when the worker starts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// The queue's name.
    pub queue: Arc<str>,
    /// A display name, if the worker gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    /// What waits on the node and why, or why the broker refuses its queue, as the worker reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Arc<str>>,
    /// The queue's type, if the worker declares the queue.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Arc<str>>,
    /// The kind of handler. Empty until the worker reports it.
    pub handler: Arc<str>,
    /// How many deliveries can run at once.
    pub slots: u64,
    /// How many unacknowledged deliveries the broker sends at most.
    pub prefetch: u16,
    /// The node's phase.
    pub phase: Phase,
    /// Running deliveries. For a lost worker, those at its last beat.
    pub in_flight: u64,
    /// Deliveries on hold: started, and waiting in their place without a slot. For a lost worker, those at its last beat.
    /// Absent if there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: u64,
    /// The age of the oldest running delivery at the last beat.
    pub oldest_ms: u64,
    /// Deliveries with outcome done.
    pub done: u64,
    /// Deliveries that were retried, because the handler asked for it or failed.
    pub retried: u64,
    /// Deliveries that became dead letters.
    pub dead: u64,
    /// Deliveries handed back before they were started.
    pub handed_back: u64,
    /// Deliveries interrupted by the deadline of a drain.
    pub interrupted: u64,
    /// Deliveries done per second over the last two beats. Null before the second beat.
    pub rate: Option<f64>,
    /// The share of recent deliveries that failed, from 0 to 1. Absent if too few have ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<f64>,
}

/// The report of a drain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// When the drain ended.
    pub at: Moment,
    /// The signal or command that began the drain.
    pub reason: Arc<str>,
    /// The outcome of the drain.
    pub outcome: DrainOutcome,
    /// The time from the start of the drain to its report.
    pub duration_ms: u64,
    /// The duration of each step.
    pub steps: DrainSteps,
    /// Deliveries that were running when the drain began, and finished.
    pub finished: u64,
    /// Deliveries handed back before they were started.
    pub handed_back: u64,
    /// Deliveries interrupted by the deadline.
    pub interrupted: u64,
    /// Finished deliveries whose settlement may not have reached the broker.
    pub unconfirmed: u64,
    /// Message ids of the first 100 interrupted deliveries. Empty for older drains.
    pub interrupted_ids: Vec<Arc<str>>,
}

/// A worker with its history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerDetail {
    /// The worker.
    #[serde(flatten)]
    pub worker: Worker,
    /// The worker's history, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// An event in a worker's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// When it happened.
    pub at: Moment,
    /// The kind of event.
    pub kind: HistoryKind,
    /// The worker's state after the event.
    pub state: WorkerState,
    /// The reason, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

/// The kind of an event in a worker's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// The worker reported a new state.
    State,
    /// The worker reported its drain.
    Drain,
    /// The worker was lost.
    Lost,
    /// The worker stopped answering.
    Silent,
    /// The worker came back.
    Back,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

//! One worker in JSON.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::clock::Moment;
use tidegate::internal::status::wire::{DrainOutcome, DrainSteps};
use tidegate::lifecycle::Phase;

/// What a worker is, as far as the fleet program can know.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// Configured, not yet consuming.
    Starting,
    /// Consuming.
    Running,
    /// Alive, not consuming, by command.
    Paused,
    /// Stopping in order.
    Draining,
    /// Its drain is over.
    Stopped,
    /// Its control queue is gone, and it never reported a drain: it crashed, or has no connection.
    Lost,
    /// Its lease ran out; its control queue is there, but it does not answer.
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
    /// Its name.
    pub name: Arc<str>,
    /// What it is now.
    pub state: WorkerState,
    /// Since when.
    pub since: Moment,
    /// Why, where there is a reason: the signal or command that began a drain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// What holds it up, in the words of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Arc<str>>,
    /// The host's name; null until the worker has said it.
    pub host: Option<Arc<str>>,
    /// The process's id; null until the worker has said it.
    pub pid: Option<u32>,
    /// Tidegate's version there; null until the worker has said it.
    pub version: Option<Arc<str>>,
    /// When it started; null until the worker has said it.
    pub started_at: Option<Moment>,
    /// When it was last heard of.
    pub last_heard: Moment,
    /// What it promised; null where no promise holds: it has ended, is lost or silent, or is only known from the log.
    pub lease: Option<Lease>,
    /// Deliveries running, as a share of all slots: from 0 to 1; null where no beat has said it.
    pub load: Option<f64>,
    /// How old `load` and the figures of the nodes are; null where no beat has told any. Workers tell new ones every
    /// second or so while somebody looks, and every few minutes else.
    pub figures: Option<Figures>,
    /// In a drain: its deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_at: Option<Moment>,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// Nodes that it has and that are not shown here, for want of room.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nodes_left_out: u64,
    /// How its drain ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

/// How old figures are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// When they were true.
    pub at: Moment,
    /// How long ago that was.
    pub age_ms: u64,
}

/// How long a worker promised to be heard from again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lease {
    /// All of it, counted from when it was last heard of.
    pub ms: u64,
    /// What is left of it; 0 where it has run out and the worker is being asked.
    pub left_ms: u64,
}

/// One node of a worker. Counters count from the worker's start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// The queue's name.
    pub queue: Arc<str>,
    /// A name for people, if the worker gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Arc<str>>,
    /// What waits in it and why, in the words of its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<Arc<str>>,
    /// The queue's type, where the worker declares it.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Arc<str>>,
    /// The handler's kind; empty until the worker has said it.
    pub handler: Arc<str>,
    /// How many deliveries may run at once.
    pub slots: u64,
    /// How many deliveries the broker sends ahead.
    pub prefetch: u16,
    /// Where the node is in its life.
    pub phase: Phase,
    /// Deliveries running; of a lost worker, those that ran at its last beat.
    pub in_flight: u64,
    /// How long the oldest of them had run at the last beat.
    pub oldest_ms: u64,
    /// Deliveries whose handler said done.
    pub done: u64,
    /// Deliveries whose handler said retry, or failed.
    pub retried: u64,
    /// Deliveries that went to the dead letters.
    pub dead: u64,
    /// Deliveries handed back without having been started.
    pub handed_back: u64,
    /// Deliveries cut off by the deadline of a drain.
    pub interrupted: u64,
    /// Deliveries done per second over the last two beats; null before the second.
    pub rate: Option<f64>,
    /// The share of the deliveries of the last minutes that failed, from 0 to 1; absent if hardly any ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing: Option<f64>,
}

/// How a drain ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// When it ended.
    pub at: Moment,
    /// The signal or command that began it.
    pub reason: Arc<str>,
    /// How it ended.
    pub outcome: DrainOutcome,
    /// From its beginning to its report.
    pub duration_ms: u64,
    /// How long each step took.
    pub steps: DrainSteps,
    /// Deliveries that ran when it began and finished.
    pub finished: u64,
    /// Deliveries that had not started and were handed back.
    pub handed_back: u64,
    /// Deliveries that were cut off.
    pub interrupted: u64,
    /// Finished deliveries whose settlement is not known to have reached the broker.
    pub unconfirmed: u64,
    /// Message ids of the interrupted deliveries, the first 100; none where the drain is long past.
    pub interrupted_ids: Vec<Arc<str>>,
}

/// One worker with what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerDetail {
    /// The worker.
    #[serde(flatten)]
    pub worker: Worker,
    /// What became of it, oldest first.
    pub history: Vec<HistoryEntry>,
}

/// Something that became of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// When.
    pub at: Moment,
    /// What.
    pub kind: HistoryKind,
    /// The worker's state from then on.
    pub state: WorkerState,
    /// Why, where there is a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
}

/// What a [`HistoryEntry`] tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HistoryKind {
    /// The worker said that its state changed.
    State,
    /// The worker reported its drain.
    Drain,
    /// It was lost.
    Lost,
    /// It stopped answering.
    Silent,
    /// It was heard of again.
    Back,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

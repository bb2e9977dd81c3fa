//! The status messages, version 1. Receivers ignore fields that they do not know.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::lifecycle::Phase;

pub use crate::time::{millis, rfc3339};

/// The version of these messages.
pub const VERSION: u32 = 1;

/// The AMQP property `app_id` of every status message.
pub const APP_ID: &str = "tidegate";

/// A kind of status message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`State`]
    State,
    /// [`Beat`]
    Beat,
    /// [`Drain`]
    Drain,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::State, Self::Beat, Self::Drain];

    /// The kind's word, the first part of its routing key.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Beat => "beat",
            Self::Drain => "drain",
        }
    }

    /// The AMQP property `type` of its messages.
    pub const fn message_type(self) -> &'static str {
        match self {
            Self::State => "tidegate.state.v1",
            Self::Beat => "tidegate.beat.v1",
            Self::Drain => "tidegate.drain.v1",
        }
    }

    /// The JSON Schema of its messages.
    pub fn schema(self) -> schemars::Schema {
        match self {
            Self::State => schemars::schema_for!(State),
            Self::Beat => schemars::schema_for!(Beat),
            Self::Drain => schemars::schema_for!(Drain),
        }
    }
}

/// What every status message begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Head {
    /// Version of the message: 1.
    pub v: u32,
    /// The worker's id, new at each start: `<name>-<ULID>`.
    pub worker: String,
    /// The worker's name.
    pub name: String,
    /// Counts this worker's status messages, from 1.
    pub seq: u64,
    /// When the message was made, by the worker's clock: RFC 3339 in UTC, to the millisecond.
    pub at: String,
    /// How long, counted from receipt, the worker promises to be heard from again; 0 in its last message.
    pub lease_ms: u64,
}

/// Everything about a worker; sent at each change of phase and on request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// What every message begins with.
    #[serde(flatten)]
    pub head: Head,
    /// The worker's phase.
    pub phase: Phase,
    /// In a drain: how long after `at` its deadline is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The host's name.
    pub host: String,
    /// The process's id.
    pub pid: u32,
    /// Tidegate's version.
    pub version: String,
    /// When the worker started, as `at`.
    pub started_at: String,
    /// Why the worker is in this phase, where there is a reason: the signal that began a drain (`SIGTERM`), or the
    /// command that began a drain or a pause (`command: deploy 42`, or `command` where it gave no reason).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What holds the worker up, in the words of its program: a platform that does not answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The worker's nodes.
    pub nodes: Vec<StateNode>,
}

/// One node in a [`State`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateNode {
    /// The queue's name.
    pub queue: String,
    /// A name for people, if the program gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What waits in this node and why, in the words of its program. Without such words, and while the broker refuses
    /// the node's queue: the reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The queue's type, `quorum` or `classic`, where the worker declares it; else absent.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The handler's kind: `http`, `exec`, `log`, or `rust` for a program's own.
    pub handler: String,
    /// How many deliveries may run at once.
    pub slots: u64,
    /// How many deliveries the broker sends ahead.
    pub prefetch: u16,
    /// The delays of its retries in milliseconds, at most 8. A message that waits for its next run is in the queue
    /// `<queue>.retry.<ms>`, unless the broker itself delays it. Empty if nothing is retried.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_ms: Vec<u64>,
    /// The node's phase.
    pub phase: Phase,
}

/// That a worker is alive, and what it does; transient, and gone with its lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Beat {
    /// What every message begins with.
    #[serde(flatten)]
    pub head: Head,
    /// Deliveries running, as a share of all slots: from 0 to 1.
    pub load: f64,
    /// Whether every node is there. In other beats the nodes that have not changed since the last full beat
    /// are left out.
    pub full: bool,
    /// The nodes.
    pub nodes: Vec<BeatNode>,
}

/// One node in a [`Beat`]. Counters count from the worker's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BeatNode {
    /// The queue's name.
    pub queue: String,
    /// Deliveries running now.
    pub in_flight: u64,
    /// Deliveries on hold now: started, and waiting in their place without a slot. Absent if there are none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held: u64,
    /// How long the oldest of them has run; 0 where none does.
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
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// How a drain ended; the worker's last message. It stands for the state `stopped`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// What every message begins with.
    #[serde(flatten)]
    pub head: Head,
    /// What the drain came to.
    #[serde(flatten)]
    pub report: DrainReport,
}

/// What a drain came to: it decides the log line and the exit code, too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DrainReport {
    /// The signal or command that began the drain.
    pub reason: String,
    /// How it ended.
    pub outcome: DrainOutcome,
    /// From the drain's beginning to this report.
    pub duration_ms: u64,
    /// How long each step took; steps of several nodes run side by side, the longest counts.
    pub steps: DrainSteps,
    /// Deliveries that ran when the drain began and finished.
    pub finished: u64,
    /// Deliveries that had not started and were handed back.
    pub handed_back: u64,
    /// Deliveries that were cut off, and handed back.
    pub interrupted: u64,
    /// Finished deliveries whose settlement is not known to have reached the broker.
    pub unconfirmed: u64,
    /// Message ids of the interrupted deliveries, the first 100.
    pub interrupted_ids: Vec<String>,
}

impl DrainReport {
    /// A drain that ended so, and in which nothing was settled.
    ///
    /// ```
    /// use tidegate::worker::{DrainOutcome, DrainReport};
    ///
    /// /// Says in a log line how the worker ended.
    /// fn line(report: &DrainReport) -> String {
    ///     format!("{}: {} interrupted", report.outcome.as_str(), report.interrupted)
    /// }
    ///
    /// let report = DrainReport::new("SIGTERM", DrainOutcome::Clean);
    /// assert_eq!(line(&report), "clean: 0 interrupted");
    /// ```
    pub fn new(reason: impl Into<String>, outcome: DrainOutcome) -> Self {
        Self {
            reason: reason.into(),
            outcome,
            duration_ms: 0,
            steps: DrainSteps::default(),
            finished: 0,
            handed_back: 0,
            interrupted: 0,
            unconfirmed: 0,
            interrupted_ids: Vec::new(),
        }
    }
}

impl DrainSteps {
    /// Each step's word with its time, in the order of the drain.
    pub fn named(self) -> [(&'static str, u64); 6] {
        [
            ("cancel", self.cancel_ms),
            ("hand_back", self.hand_back_ms),
            ("finish", self.finish_ms),
            ("interrupt", self.interrupt_ms),
            ("settle", self.settle_ms),
            ("release", self.release_ms),
        ]
    }
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DrainOutcome {
    /// Everything that ran finished, and the broker has every settlement.
    Clean,
    /// Everything that ran finished, but a settlement or a copy may not have arrived. Those messages may run again.
    Unconfirmed,
    /// The deadline interrupted deliveries.
    Interrupted,
    /// A second signal ended the drain.
    Aborted,
    /// A task of the worker ended early.
    Failed,
}

impl DrainOutcome {
    /// The outcome's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Unconfirmed => "unconfirmed",
            Self::Interrupted => "interrupted",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
        }
    }
}

/// The duration of each step of a drain, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[non_exhaustive]
pub struct DrainSteps {
    /// Cancelling the consumers.
    pub cancel_ms: u64,
    /// Handing back what had not started.
    pub hand_back_ms: u64,
    /// Finishing what ran.
    pub finish_ms: u64,
    /// Interrupting what still ran at the deadline.
    pub interrupt_ms: u64,
    /// Writing the last settlements and closing the consume channels.
    pub settle_ms: u64,
    /// Releasing handlers.
    pub release_ms: u64,
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn a_state_looks_as_the_protocol_says() {
        let state = State {
            head: Head {
                v: VERSION,
                worker: "web-1-01K".into(),
                name: "web-1".into(),
                seq: 3,
                at: rfc3339(Timestamp::from_millisecond(1_795_428_000_000).unwrap()),
                lease_ms: 30_500,
            },
            phase: Phase::Draining,
            deadline_ms: Some(25_000),
            host: "web-1".into(),
            pid: 7,
            version: "0.1.0".into(),
            started_at: "2026-11-23T09:00:00.000Z".into(),
            reason: Some("SIGTERM".into()),
            note: None,
            nodes: vec![StateNode {
                queue: "orders".into(),
                title: None,
                note: None,
                kind: Some("quorum".into()),
                handler: "http".into(),
                slots: 8,
                prefetch: 16,
                retry_ms: vec![1_000, 60_000],
                phase: Phase::Draining,
            }],
        };
        let expected = serde_json::json!({
            "v": 1, "worker": "web-1-01K", "name": "web-1", "seq": 3,
            "at": "2026-11-23T10:00:00.000Z", "lease_ms": 30500,
            "phase": "draining", "deadline_ms": 25000,
            "host": "web-1", "pid": 7, "version": "0.1.0",
            "started_at": "2026-11-23T09:00:00.000Z", "reason": "SIGTERM",
            "nodes": [{"queue": "orders", "type": "quorum", "handler": "http", "slots": 8,
                       "prefetch": 16, "retry_ms": [1000, 60000], "phase": "draining"}],
        });
        assert_eq!(serde_json::to_value(&state).unwrap(), expected);
        let mut with_unknown = expected;
        with_unknown["new"] = serde_json::json!([1, 2]);
        assert_eq!(
            serde_json::from_value::<State>(with_unknown).unwrap(),
            state
        );
    }

    #[test]
    fn a_beat_names_what_is_on_hold_only_if_there_is_any() {
        let old = serde_json::json!({
            "queue": "orders", "in_flight": 3, "oldest_ms": 812,
            "done": 1041, "retried": 2, "dead": 0, "handed_back": 0, "interrupted": 0,
        });
        let mut node: BeatNode = serde_json::from_value(old.clone()).unwrap();
        assert_eq!((node.in_flight, node.held), (3, 0));
        assert_eq!(serde_json::to_value(&node).unwrap(), old);
        node.held = 2;
        let new = serde_json::to_value(&node).unwrap();
        assert_eq!(new["held"], 2);
        assert_eq!(serde_json::from_value::<BeatNode>(new).unwrap(), node);
    }
}

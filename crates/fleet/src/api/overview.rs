//! The fleet in figures, in JSON.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::WorkerState;

/// The fleet in figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    /// Workers by state.
    pub workers: Counts,
    /// Nodes of live workers (starting, running, paused, draining).
    pub nodes: u64,
    /// Slots of live workers.
    pub slots: u64,
    /// Deliveries that live workers are running.
    pub in_flight: u64,
    /// Deliveries done per second by live workers.
    pub rate: f64,
    /// The age of the oldest figures in `in_flight` and `rate`. Null if there are none.
    #[serde(default)]
    pub figures_age_ms: Option<u64>,
    /// The message rate of the fleet's heartbeats.
    pub messages: Messages,
    /// The last seven days.
    pub week: Week,
}

/// Workers by state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "each field counts the state of its name")]
pub struct Counts {
    pub starting: u64,
    pub running: u64,
    pub paused: u64,
    pub draining: u64,
    pub stopped: u64,
    pub lost: u64,
    pub silent: u64,
}

impl Counts {
    /// The count of `state`.
    pub fn of(&mut self, state: WorkerState) -> &mut u64 {
        match state {
            WorkerState::Starting => &mut self.starting,
            WorkerState::Running => &mut self.running,
            WorkerState::Paused => &mut self.paused,
            WorkerState::Draining => &mut self.draining,
            WorkerState::Stopped => &mut self.stopped,
            WorkerState::Lost => &mut self.lost,
            WorkerState::Silent => &mut self.silent,
        }
    }
}

/// Status messages over the last minute, and the rate that they are compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Messages {
    /// Beats received per second.
    pub beats_per_second: f64,
    /// States and drain reports received per second.
    pub states_per_second: f64,
    /// The rate for comparison: one ping per node of a live worker every 30 s.
    pub baseline_per_second: f64,
    /// Beats and states as a share of `baseline_per_second`. Null if no node is live.
    pub share: Option<f64>,
}

/// The last seven days.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Week {
    /// Drains, listed or summed.
    pub drains: u64,
    /// Drains that are no longer listed and are kept only as sums. Their durations are known to within 10 %.
    pub summed: u64,
    /// Drains with outcome `clean`.
    pub clean: u64,
    /// Drains with outcome `unconfirmed`.
    pub unconfirmed_drains: u64,
    /// Drains with outcome `interrupted`.
    pub interrupted: u64,
    /// Drains with outcome `aborted`.
    pub aborted: u64,
    /// Drains with outcome `failed`.
    pub failed: u64,
    /// Deliveries interrupted by a drain's deadline.
    pub interrupted_deliveries: u64,
    /// Deliveries whose settlement may not have reached the broker.
    pub unconfirmed: u64,
    /// Workers that were lost and have not come back.
    pub lost: u64,
    /// The median duration of a drain.
    pub duration_p50_ms: Option<u64>,
    /// The 99th percentile of the durations of drains.
    pub duration_p99_ms: Option<u64>,
}

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
    /// Their slots.
    pub slots: u64,
    /// Their deliveries running.
    pub in_flight: u64,
    /// Their deliveries done per second.
    pub rate: f64,
    /// How old the oldest figures in `in_flight` and `rate` are; null where there are none.
    #[serde(default)]
    pub figures_age_ms: Option<u64>,
    /// What the fleet's heartbeats cost.
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

/// Status messages over the last minute, and what they are compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Messages {
    /// Beats received per second.
    pub beats_per_second: f64,
    /// States and drain reports received per second.
    pub states_per_second: f64,
    /// One ping for each node of a live worker every 30 s.
    pub baseline_per_second: f64,
    /// What share of the baseline beats and states are; null without a live node.
    pub share: Option<f64>,
}

/// The last seven days.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Week {
    /// Drains.
    pub drains: u64,
    /// Those of them that are no longer listed: they are kept as sums, and their durations to a tenth.
    pub summed: u64,
    /// Those in which everything that ran finished.
    pub clean: u64,
    /// Those in which it finished, and some settlements are not known to have reached the broker.
    pub unconfirmed_drains: u64,
    /// Those whose deadline cut something off.
    pub interrupted: u64,
    /// Those that a second signal ended.
    pub aborted: u64,
    /// Those of workers of which a part failed.
    pub failed: u64,
    /// Deliveries cut off.
    pub interrupted_deliveries: u64,
    /// Deliveries whose settlement is not known to have reached the broker.
    pub unconfirmed: u64,
    /// Workers lost, and not heard of again.
    pub lost: u64,
    /// Median duration of a drain.
    pub duration_p50_ms: Option<u64>,
    /// The duration that 99 of 100 drains do not exceed.
    pub duration_p99_ms: Option<u64>,
}

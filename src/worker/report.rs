//! What a drain came to: the report that decides the log line and the exit code.

use std::time::Duration;

use crate::node::NodeDrain;
use crate::status::wire::{Drain, DrainOutcome, DrainSteps, Head};

/// The report of a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainReport {
    /// The signal or command that began it.
    pub reason: String,
    /// How it ended.
    pub outcome: DrainOutcome,
    /// From its beginning to the report.
    pub duration: Duration,
    /// How long each step took.
    pub steps: DrainSteps,
    /// Deliveries that ran when it began and finished.
    pub finished: u64,
    /// Deliveries that had not started and were handed back.
    pub handed_back: u64,
    /// Deliveries that were cut off and handed back.
    pub interrupted: u64,
    /// Finished deliveries whose settlement is not known to have arrived.
    pub unconfirmed: u64,
    /// Message ids of the interrupted deliveries, the first 100.
    pub interrupted_ids: Vec<String>,
}

impl DrainReport {
    pub(super) fn new(
        reason: String,
        aborted: bool,
        duration: Duration,
        release: Duration,
        nodes: NodeDrain,
    ) -> Self {
        let outcome = if aborted {
            DrainOutcome::Aborted
        } else if nodes.interrupted > 0 {
            DrainOutcome::Interrupted
        } else {
            DrainOutcome::Clean
        };
        Self {
            reason,
            outcome,
            duration,
            steps: DrainSteps {
                cancel_ms: millis(nodes.steps.cancel),
                hand_back_ms: millis(nodes.steps.hand_back),
                finish_ms: millis(nodes.steps.finish),
                interrupt_ms: millis(nodes.steps.interrupt),
                settle_ms: millis(nodes.steps.settle),
                release_ms: millis(release),
            },
            finished: nodes.finished,
            handed_back: nodes.handed_back,
            interrupted: nodes.interrupted,
            unconfirmed: nodes.unconfirmed,
            interrupted_ids: nodes.interrupted_ids,
        }
    }

    /// The report as a status message, its head still to be filled in.
    pub(super) fn message(&self) -> Drain {
        Drain {
            head: Head {
                v: 0,
                worker: String::new(),
                name: String::new(),
                seq: 0,
                at: String::new(),
                lease_ms: 0,
            },
            reason: self.reason.clone(),
            outcome: self.outcome,
            duration_ms: millis(self.duration),
            steps: self.steps,
            finished: self.finished,
            handed_back: self.handed_back,
            interrupted: self.interrupted,
            unconfirmed: self.unconfirmed,
            interrupted_ids: self.interrupted_ids.clone(),
        }
    }

    /// Writes the report to the log: one line that a person can read, with its numbers as fields.
    /// `published`: whether the status exchange has it too.
    pub(super) fn log(&self, published: bool) {
        tracing::info!(
            reason = self.reason,
            outcome = self.outcome.as_str(),
            duration_ms = millis(self.duration),
            finished = self.finished,
            handed_back = self.handed_back,
            interrupted = self.interrupted,
            unconfirmed = self.unconfirmed,
            published,
            "drain finished"
        );
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(aborted: bool, interrupted: u64) -> DrainOutcome {
        let nodes = NodeDrain {
            interrupted,
            ..NodeDrain::default()
        };
        let none = Duration::ZERO;
        DrainReport::new("SIGTERM".into(), aborted, none, none, nodes).outcome
    }

    #[test]
    fn the_worst_that_happened_is_the_outcome() {
        assert_eq!(outcome(false, 0), DrainOutcome::Clean);
        assert_eq!(outcome(false, 1), DrainOutcome::Interrupted);
        assert_eq!(outcome(true, 0), DrainOutcome::Aborted);
        assert_eq!(outcome(true, 1), DrainOutcome::Aborted);
    }
}

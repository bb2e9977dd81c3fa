//! From what the nodes' drains came to, to the worker's report.

use std::time::Duration;

use crate::node::NodeDrain;
use crate::status::wire::{DrainOutcome, DrainReport, DrainSteps, millis};

/// The report of a drain that took `duration`, of it `release` for the handlers.
pub(super) fn report(
    reason: String,
    aborted: bool,
    duration: Duration,
    release: Duration,
    nodes: NodeDrain,
) -> DrainReport {
    let outcome = if aborted {
        DrainOutcome::Aborted
    } else if nodes.interrupted > 0 {
        DrainOutcome::Interrupted
    } else if nodes.unconfirmed > 0 {
        DrainOutcome::Unconfirmed
    } else {
        DrainOutcome::Clean
    };
    DrainReport {
        reason,
        outcome,
        duration_ms: millis(duration),
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

/// Writes the report to the log: one line that a person can read, with its numbers as fields. `published`:
/// whether the status exchange has it too.
pub(super) fn log(report: &DrainReport, published: bool) {
    tracing::info!(
        reason = report.reason,
        outcome = report.outcome.as_str(),
        duration_ms = report.duration_ms,
        finished = report.finished,
        handed_back = report.handed_back,
        interrupted = report.interrupted,
        unconfirmed = report.unconfirmed,
        published,
        "drain finished"
    );
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
        report("SIGTERM".into(), aborted, none, none, nodes).outcome
    }

    #[test]
    fn the_worst_that_happened_is_the_outcome() {
        assert_eq!(outcome(false, 0), DrainOutcome::Clean);
        assert_eq!(outcome(false, 1), DrainOutcome::Interrupted);
        assert_eq!(outcome(true, 0), DrainOutcome::Aborted);
        assert_eq!(outcome(true, 1), DrainOutcome::Aborted);
    }
}

//! From what the nodes' drains came to, to the worker's report.

use std::time::Duration;

use crate::lifecycle::TaskFailure;
use crate::node::NodeDrain;
use crate::status::wire::{DrainOutcome, DrainReport, DrainSteps, millis};

/// The report of a drain. `times`: how long it took in all, and how long the release of the handlers took.
/// `failure`: the task of the worker that failed, if one did.
pub(super) fn report(
    mut reason: String,
    aborted: bool,
    failure: Option<&TaskFailure>,
    (duration, release): (Duration, Duration),
    nodes: NodeDrain,
) -> DrainReport {
    if let Some(failure) = failure.map(ToString::to_string)
        && reason != failure
    {
        reason = format!("{reason}; {failure}");
    }
    let outcome = if failure.is_some() {
        DrainOutcome::Failed
    } else if aborted {
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

    fn outcome(aborted: bool, interrupted: u64, unconfirmed: u64) -> DrainOutcome {
        let nodes = NodeDrain {
            interrupted,
            unconfirmed,
            ..NodeDrain::default()
        };
        let none = (Duration::ZERO, Duration::ZERO);
        report("SIGTERM".into(), aborted, None, none, nodes).outcome
    }

    #[test]
    fn the_worst_that_happened_is_the_outcome() {
        assert_eq!(outcome(false, 0, 0), DrainOutcome::Clean);
        assert_eq!(outcome(false, 0, 1), DrainOutcome::Unconfirmed);
        assert_eq!(outcome(false, 1, 1), DrainOutcome::Interrupted);
        assert_eq!(outcome(true, 0, 0), DrainOutcome::Aborted);
        assert_eq!(outcome(true, 1, 1), DrainOutcome::Aborted);
    }

    #[test]
    fn a_failed_task_is_named_once() {
        let failure = TaskFailure {
            task: "node orders".into(),
            cause: "ended early".into(),
        };
        let reason = |reason: &str| {
            let none = (Duration::ZERO, Duration::ZERO);
            let report = report(
                reason.into(),
                true,
                Some(&failure),
                none,
                NodeDrain::default(),
            );
            assert_eq!(report.outcome, DrainOutcome::Failed);
            report.reason
        };
        let text = "the task \"node orders\" ended early";
        assert_eq!(reason(text), text);
        assert_eq!(reason("SIGTERM"), format!("SIGTERM; {text}"));
    }
}

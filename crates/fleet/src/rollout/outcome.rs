//! The results of a command, for people and for scripts.

use std::fmt;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Target;
use crate::api::Drain;
use tidegate::internal::status::wire::DrainOutcome;
use tidegate::lifecycle::Phase;

/// The outcome of a command for one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerOutcome {
    /// The worker obeys. If the command was a drain, nobody waited for its end.
    Obeyed,
    /// The worker drained. Nothing was interrupted, and every settlement is known to have arrived.
    Stopped,
    /// The worker drained, but some settlements or copies are not known to have arrived.
    Unconfirmed,
    /// The worker drained, but its deadline interrupted deliveries.
    Interrupted,
    /// A second signal ended the drain.
    Aborted,
    /// A task of the worker ended early, so the worker drained and failed.
    WorkerFailed,
    /// `--all` named the worker, but it had already ended.
    Absent,
    /// The worker refused the command.
    Refused,
    /// The worker's control queue is gone: it has ended, or its connection is lost.
    Gone,
    /// The worker's control queue exists, but the worker did not answer.
    NoAnswer,
    /// The worker obeyed, but had not stopped in time.
    TimedOut,
    /// The worker drained, but no other of its name runs, or the one that came was lost.
    NotReplaced,
    /// The argument names no worker.
    Unknown,
    /// The argument could mean several workers.
    Ambiguous,
    /// The worker was not given the command, because an earlier one failed or a signal came.
    NotTried,
    /// The broker failed. Whether the worker got the command is not known.
    Failed,
}

impl WorkerOutcome {
    /// Whether the worker carried out the command.
    pub const fn is_success(self) -> bool {
        matches!(
            self,
            Self::Obeyed | Self::Stopped | Self::Unconfirmed | Self::Absent
        )
    }

    /// Whether the worker drained, well or not.
    const fn is_drained(self) -> bool {
        self.is_success() || matches!(self, Self::Interrupted | Self::Aborted)
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Obeyed => "obeys",
            Self::Stopped => "has drained",
            Self::Unconfirmed => "has drained, but not everything is confirmed",
            Self::Interrupted => "has drained, but was interrupted",
            Self::Aborted => "was aborted while it drained",
            Self::WorkerFailed => "has drained and failed",
            Self::Absent => "had already ended",
            Self::Refused => "refuses",
            Self::Gone => "is gone",
            Self::NoAnswer => "does not answer",
            Self::TimedOut => "has not stopped in time",
            Self::NotReplaced => "has drained, but is not replaced",
            Self::Unknown => "is unknown",
            Self::Ambiguous => "is ambiguous",
            Self::NotTried => "was not asked",
            Self::Failed => "could not be commanded",
        }
    }
}

impl From<DrainOutcome> for WorkerOutcome {
    fn from(outcome: DrainOutcome) -> Self {
        match outcome {
            DrainOutcome::Clean => Self::Stopped,
            DrainOutcome::Unconfirmed => Self::Unconfirmed,
            DrainOutcome::Interrupted => Self::Interrupted,
            DrainOutcome::Aborted => Self::Aborted,
            DrainOutcome::Failed => Self::WorkerFailed,
        }
    }
}

/// How a drain ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrainSummary {
    /// The way it ended.
    pub outcome: DrainOutcome,
    /// The duration of the drain.
    pub duration_ms: u64,
    /// Deliveries that ran when the drain began, and finished.
    pub finished: u64,
    /// Deliveries handed back before they started.
    pub handed_back: u64,
    /// Deliveries that the deadline interrupted.
    pub interrupted: u64,
    /// Finished deliveries without a proof that their settlement arrived.
    pub unconfirmed: u64,
}

impl From<&Drain> for DrainSummary {
    fn from(drain: &Drain) -> Self {
        Self {
            outcome: drain.outcome,
            duration_ms: drain.duration_ms,
            finished: drain.finished,
            handed_back: drain.handed_back,
            interrupted: drain.interrupted,
            unconfirmed: drain.unconfirmed,
        }
    }
}

/// The result of a command for one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerResult {
    /// The worker's id, or the argument if it names no worker.
    pub worker: Arc<str>,
    /// The worker's name, if the worker is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// The result in a word.
    pub outcome: WorkerOutcome,
    /// The phase that the worker answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The outcome of the drain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainSummary>,
    /// The id of the worker that runs in its place, if that was waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaced_by: Option<Arc<str>>,
}

impl WorkerResult {
    /// The result of a command for `target`.
    pub fn of(target: &Target, outcome: WorkerOutcome) -> Self {
        Self {
            name: Some(Arc::clone(&target.name)),
            ..Self::new(&target.id, outcome)
        }
    }

    /// The result for the argument `word`, which names no single worker.
    pub fn failed(word: &str, outcome: WorkerOutcome, error: String) -> Self {
        Self {
            error: Some(error),
            ..Self::new(word, outcome)
        }
    }

    fn new(worker: &str, outcome: WorkerOutcome) -> Self {
        Self {
            worker: worker.into(),
            name: None,
            outcome,
            phase: None,
            error: None,
            drain: None,
            replaced_by: None,
        }
    }
}

impl fmt::Display for WorkerResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.worker)?;
        match (self.outcome, self.phase) {
            (WorkerOutcome::Obeyed, Some(phase)) => write!(f, "{phase}")?,
            (outcome, _) => f.write_str(outcome.words())?,
        }
        if let Some(drain) = &self.drain {
            write!(
                f,
                " in {} ms; {} finished, {} handed back, {} interrupted",
                drain.duration_ms, drain.finished, drain.handed_back, drain.interrupted
            )?;
            if drain.unconfirmed > 0 {
                write!(f, ", {} unconfirmed", drain.unconfirmed)?;
            }
        }
        if let Some(other) = &self.replaced_by {
            write!(f, "; replaced by {other}")?;
        }
        match &self.error {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

/// The results of a command for all workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RolloutReport {
    /// The name of the command.
    pub command: &'static str,
    /// Whether every worker carried out the command.
    pub ok: bool,
    /// The result for each worker.
    pub workers: Vec<WorkerResult>,
}

impl RolloutReport {
    /// The results of `command`.
    pub fn new(command: &'static str, workers: Vec<WorkerResult>) -> Self {
        Self {
            command,
            ok: workers.iter().all(|worker| worker.outcome.is_success()),
            workers,
        }
    }

    /// Whether every worker drained, but something was interrupted.
    pub fn only_interrupted(&self) -> bool {
        let mut outcomes = self.workers.iter().map(|worker| worker.outcome);
        !self.ok && outcomes.all(WorkerOutcome::is_drained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target {
            id: "web-01A".into(),
            name: "web".into(),
        }
    }

    #[test]
    fn a_result_says_what_happened_in_a_line() {
        let mut result = WorkerResult::of(&target(), WorkerOutcome::Stopped);
        result.drain = Some(DrainSummary {
            outcome: DrainOutcome::Clean,
            duration_ms: 34,
            finished: 3,
            handed_back: 5,
            interrupted: 0,
            unconfirmed: 0,
        });
        assert_eq!(
            result.to_string(),
            "web-01A: has drained in 34 ms; 3 finished, 5 handed back, 0 interrupted"
        );
        let mut result = WorkerResult::of(&target(), WorkerOutcome::Obeyed);
        result.phase = Some(Phase::Paused);
        assert_eq!(result.to_string(), "web-01A: paused");
        let result = WorkerResult::failed("x", WorkerOutcome::Unknown, "no such worker".into());
        assert_eq!(result.to_string(), "x: is unknown: no such worker");
    }

    #[test]
    fn a_report_is_as_good_as_its_worst() {
        let with = |outcomes: &[WorkerOutcome]| {
            let results = outcomes
                .iter()
                .map(|outcome| WorkerResult::of(&target(), *outcome));
            RolloutReport::new("drain", results.collect())
        };
        assert!(with(&[WorkerOutcome::Stopped, WorkerOutcome::Obeyed]).ok);
        assert!(with(&[]).ok, "nobody is there");
        let interrupted = with(&[WorkerOutcome::Stopped, WorkerOutcome::Interrupted]);
        assert!(!interrupted.ok && interrupted.only_interrupted());
        assert!(
            with(&[WorkerOutcome::Absent, WorkerOutcome::Obeyed]).ok,
            "all who live"
        );
        let worse = with(&[WorkerOutcome::Interrupted, WorkerOutcome::TimedOut]);
        assert!(!worse.ok && !worse.only_interrupted());
    }
}

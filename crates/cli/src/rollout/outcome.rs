//! What came of a command, for people and for scripts.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::Target;
use tidegate::internal::status::wire::DrainOutcome;
use tidegate::lifecycle::Phase;
use tidegate_fleet::api::Drain;

/// What came of a command to one worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The worker obeys. A drain was not waited for.
    Obeyed,
    /// It has drained, and interrupted nothing.
    Stopped,
    /// It has drained, but its deadline cut something off.
    Interrupted,
    /// A second signal ended its drain.
    Aborted,
    /// It does not obey; it says why.
    Refused,
    /// Its control queue is gone: it has ended, or its connection is lost.
    Gone,
    /// Its control queue is there, but it did not answer.
    NoAnswer,
    /// It obeyed, but had not stopped in time.
    TimedOut,
    /// No worker is meant.
    Unknown,
    /// Several workers could be meant.
    Ambiguous,
    /// It was not asked, for one before it did not do as it should, or a signal came.
    NotTried,
    /// The broker failed: nobody knows.
    Failed,
}

impl Outcome {
    /// Whether it is what was wanted.
    pub(crate) const fn is_success(self) -> bool {
        matches!(self, Self::Obeyed | Self::Stopped)
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Obeyed => "obeys",
            Self::Stopped => "has drained",
            Self::Interrupted => "has drained, but was interrupted",
            Self::Aborted => "was aborted as it drained",
            Self::Refused => "refuses",
            Self::Gone => "is gone",
            Self::NoAnswer => "does not answer",
            Self::TimedOut => "has not stopped in time",
            Self::Unknown => "is unknown",
            Self::Ambiguous => "is ambiguous",
            Self::NotTried => "was left alone",
            Self::Failed => "could not be commanded",
        }
    }
}

/// How a drain ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Ended {
    /// How it ended.
    pub outcome: DrainOutcome,
    /// How long it took.
    pub duration_ms: u64,
    /// Deliveries that ran when it began and finished.
    pub finished: u64,
    /// Deliveries handed back untouched.
    pub handed_back: u64,
    /// Deliveries cut off.
    pub interrupted: u64,
    /// Finished deliveries whose settlement is not known to have arrived.
    pub unconfirmed: u64,
}

impl From<&Drain> for Ended {
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

/// What came of a command to one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Result {
    /// The worker's id, or what was given for one.
    pub worker: Arc<str>,
    /// Its name, where the worker is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Arc<str>>,
    /// What came of it.
    pub outcome: Outcome,
    /// The worker's phase by its own answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// How its drain ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain: Option<Ended>,
}

impl Result {
    /// What came of a command to `target`.
    pub(crate) fn of(target: &Target, outcome: Outcome) -> Self {
        Self {
            name: Some(Arc::clone(&target.name)),
            ..Self::new(&target.id, outcome)
        }
    }

    /// What is wrong with `word`, which was given for a worker.
    pub(crate) fn failed(word: &str, outcome: Outcome, error: String) -> Self {
        Self {
            error: Some(error),
            ..Self::new(word, outcome)
        }
    }

    fn new(worker: &str, outcome: Outcome) -> Self {
        Self {
            worker: worker.into(),
            name: None,
            outcome,
            phase: None,
            error: None,
            drain: None,
        }
    }
}

impl fmt::Display for Result {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.worker)?;
        match (self.outcome, self.phase) {
            (Outcome::Obeyed, Some(phase)) => write!(f, "{phase}")?,
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
        match &self.error {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

/// What came of a command to all workers that were meant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// The command's word.
    pub command: &'static str,
    /// Whether it came out as wanted for all of them.
    pub ok: bool,
    /// Each of them.
    pub workers: Vec<Result>,
}

impl Report {
    /// What came of `command`.
    pub(crate) fn new(command: &'static str, workers: Vec<Result>) -> Self {
        Self {
            command,
            ok: workers.iter().all(|worker| worker.outcome.is_success()),
            workers,
        }
    }

    /// Whether all have drained, and the worst is that something was interrupted.
    pub(crate) fn only_interrupted(&self) -> bool {
        let ended = |outcome: Outcome| {
            outcome.is_success() || matches!(outcome, Outcome::Interrupted | Outcome::Aborted)
        };
        !self.ok && self.workers.iter().all(|worker| ended(worker.outcome))
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
        let mut result = Result::of(&target(), Outcome::Stopped);
        result.drain = Some(Ended {
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
        let mut result = Result::of(&target(), Outcome::Obeyed);
        result.phase = Some(Phase::Paused);
        assert_eq!(result.to_string(), "web-01A: paused");
        let result = Result::failed("x", Outcome::Unknown, "no such worker".into());
        assert_eq!(result.to_string(), "x: is unknown: no such worker");
    }

    #[test]
    fn a_report_is_as_good_as_its_worst() {
        let with = |outcomes: &[Outcome]| {
            let results = outcomes
                .iter()
                .map(|outcome| Result::of(&target(), *outcome));
            Report::new("drain", results.collect())
        };
        assert!(with(&[Outcome::Stopped, Outcome::Obeyed]).ok);
        assert!(with(&[]).ok, "nobody is there");
        let interrupted = with(&[Outcome::Stopped, Outcome::Interrupted]);
        assert!(!interrupted.ok && interrupted.only_interrupted());
        let worse = with(&[Outcome::Interrupted, Outcome::TimedOut]);
        assert!(!worse.ok && !worse.only_interrupted());
    }
}

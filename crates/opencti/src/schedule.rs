//! What is done about a failure, and when: the limits on runs and the delays between them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::signs::{Cause, Sign, cause};

/// The first and the longest delay while the platform does not answer.
const OUTAGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The longest delay that `Retry-After` may ask for.
const RETRY_AFTER_LIMIT: Duration = Duration::from_mins(10);
/// Runs of an object that the platform fails on.
const PLATFORM_RUNS: u32 = 10;
/// Runs of an object that is locked, as in pycti.
const LOCK_RUNS: u32 = 101;
/// Runs of an object with a missing reference, as in pycti.
const MISSING_REFERENCE_RUNS: u32 = 5;
/// Runs of an object whose child dies.
const CHILD_RUNS: u32 = 3;
/// The text that pycti reports when the runs are used up.
const OUT_OF_RUNS: &str = "Max number of retries reached, please see error logs of workers for more details. Bundle will be sent to dead letter queue.";
/// The longest `source` of a report, in characters.
const SOURCE_LIMIT: usize = 50_000;

/// The delays before the runs of an object with a missing reference (`OPENCTI_MISSING_REF_RETRY_*`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MissingReferenceDelays {
    /// Exponential delays instead of 1 to 3 seconds.
    pub exponential: bool,
    /// The first delay in seconds, from 0 on.
    pub initial: f64,
    /// What each further delay is multiplied by, from 1 on.
    pub factor: f64,
}

impl Default for MissingReferenceDelays {
    fn default() -> Self {
        Self {
            exponential: false,
            initial: 0.5,
            factor: 2.0,
        }
    }
}

/// What is done about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Wait in place, then run again.
    Hold(Duration),
    /// The object is not wanted any more: done, with no report.
    Skip,
    /// Report the error, and set the object aside.
    Reject(Rejection),
}

/// An object that is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Why.
    pub cause: Cause,
    /// The error that the work is told.
    pub error: String,
    /// What the report gives as `source`, instead of the object.
    pub source: Option<&'static str>,
    /// Whether the report leaves the draft out: the draft is what is locked.
    pub without_draft: bool,
    /// The last failure, if the object goes to the platform's own dead letters as `MAX_RETRY`.
    pub to_platform: Option<String>,
}

/// How often an object ran into each cause.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Runs {
    failed: BTreeMap<Cause, u32>,
    in_all: u32,
}

impl Runs {
    /// Failed runs in all: the platform's retry number of the next run.
    pub fn in_all(&self) -> u32 {
        self.in_all
    }

    /// Counts a failure, and says what to do. `random` is from 0 to 1.
    pub fn failed(&mut self, sign: &Sign, delays: MissingReferenceDelays, random: f64) -> Action {
        let cause = cause(sign);
        self.in_all += 1;
        let failed = self.failed.entry(cause).or_default();
        *failed += 1;
        let failed = *failed;
        match cause {
            Cause::Unreachable | Cause::Unauthorized | Cause::NoChild => {
                Action::Hold(asked_or_backoff(sign, failed, random))
            }
            Cause::Platform if failed < PLATFORM_RUNS => Action::Hold(backoff(failed, random)),
            Cause::ChildDied if failed < CHILD_RUNS => Action::Hold(backoff(failed, random)),
            Cause::Lock if failed < LOCK_RUNS => Action::Hold(uniform(1.0, 3.0, random)),
            Cause::MissingReference if failed < MISSING_REFERENCE_RUNS => {
                Action::Hold(missing_reference(failed - 1, delays, random))
            }
            Cause::WorkNotAlive => Action::Skip,
            Cause::Lock => Action::Reject(Rejection {
                error: OUT_OF_RUNS.to_owned(),
                to_platform: Some(last_line(sign)),
                ..Rejection::new(cause, sign)
            }),
            Cause::DraftLocked => Action::Reject(Rejection {
                source: Some("Draft in read only"),
                without_draft: true,
                ..Rejection::new(cause, sign)
            }),
            Cause::Platform
            | Cause::ChildDied
            | Cause::MissingReference
            | Cause::Forbidden
            | Cause::Invalid => Action::Reject(Rejection::new(cause, sign)),
        }
    }
}

impl Rejection {
    fn new(cause: Cause, sign: &Sign) -> Self {
        Self {
            cause,
            error: sign.text.clone(),
            source: None,
            without_draft: false,
            to_platform: None,
        }
    }
}

/// A failure as the last line of Python's traceback says it.
fn last_line(sign: &Sign) -> String {
    match sign.classes.first() {
        Some(class) => format!("{class}: {}", sign.text),
        None => sign.text.clone(),
    }
}

/// The `source` of a report: the object, unless it is too large.
pub fn source(object: &str) -> &str {
    // A character has at least one byte, and counting stops at the limit.
    if object.len() < SOURCE_LIMIT || object.chars().take(SOURCE_LIMIT).count() < SOURCE_LIMIT {
        object
    } else {
        "Bundle too large"
    }
}

/// The delay before the next try while the platform does not answer: it doubles, with jitter.
pub fn backoff(failed: u32, random: f64) -> Duration {
    let (first, longest) = OUTAGE;
    let doubled = first.saturating_mul(1 << failed.saturating_sub(1).min(16));
    doubled.min(longest).mul_f64(0.5 + 0.5 * random)
}

/// The same, or as long as the platform asks to wait, if that is longer.
pub fn asked_or_backoff(sign: &Sign, failed: u32, random: f64) -> Duration {
    let asked = sign.retry_after.unwrap_or_default().min(RETRY_AFTER_LIMIT);
    backoff(failed, random).max(asked)
}

fn missing_reference(retry: u32, delays: MissingReferenceDelays, random: f64) -> Duration {
    if !delays.exponential {
        return uniform(1.0, 3.0, random);
    }
    let base = delays.initial * delays.factor.powi(i32::try_from(retry).unwrap_or(i32::MAX));
    uniform(base * 0.5, base * 1.5, random)
}

fn uniform(from: f64, to: f64, random: f64) -> Duration {
    Duration::try_from_secs_f64(from + (to - from) * random).unwrap_or(RETRY_AFTER_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Sign {
        Sign {
            status: Some(200),
            name: Some(name.into()),
            classes: vec!["ValueError".into(), "Exception".into()],
            text: format!("the text of {name}"),
            ..Sign::default()
        }
    }

    /// The runs until an object is given up, and its end.
    fn runs(sign: &Sign) -> (u32, Action) {
        let mut runs = Runs::default();
        for run in 1..1_000 {
            match runs.failed(sign, MissingReferenceDelays::default(), 0.5) {
                Action::Hold(delay) => assert!(delay >= Duration::from_millis(500)),
                end => return (run, end),
            }
        }
        (1_000, Action::Skip)
    }

    #[test]
    fn an_outage_has_no_limit() {
        for sign in [
            named("AUTH_REQUIRED"),
            Sign {
                status: Some(503),
                ..Sign::default()
            },
        ] {
            assert_eq!(runs(&sign).0, 1_000);
        }
    }

    #[test]
    fn limits_are_those_of_the_table() {
        let rejected = |name: &str, limit| {
            let (run, end) = runs(&named(name));
            assert_eq!(run, limit, "{name}");
            match end {
                Action::Reject(rejection) => rejection,
                other => panic!("{name}: {other:?}"),
            }
        };
        for name in [
            "DATABASE_ERROR",
            "UNKNOWN_ERROR",
            "COMPLEX_SEARCH_ERROR",
            "FILESYSTEM_ERROR",
        ] {
            assert_eq!(rejected(name, 10).to_platform, None);
        }
        let lock = rejected("LOCK_ERROR", 101);
        assert_eq!(lock.error, OUT_OF_RUNS);
        let last = "ValueError: the text of LOCK_ERROR";
        assert_eq!(lock.to_platform.as_deref(), Some(last));
        let missing = rejected("MISSING_REFERENCE_ERROR", 5);
        assert_eq!(missing.error, "the text of MISSING_REFERENCE_ERROR");
        assert_eq!(missing.to_platform, None);
        let draft = rejected("DRAFT_LOCKED", 1);
        assert!(draft.without_draft && draft.source == Some("Draft in read only"));
        for name in ["FORBIDDEN_ACCESS", "FUNCTIONAL_ERROR"] {
            assert_eq!(rejected(name, 1).to_platform, None);
        }
        assert_eq!(runs(&named("WORK_NOT_ALIVE")), (1, Action::Skip));
    }

    #[test]
    fn a_child_that_dies_ends_the_runs_after_three_and_one_that_is_missing_never() {
        let of = |class: &str| Sign {
            classes: vec![class.into()],
            ..Sign::default()
        };
        let (run, end) = runs(&of(crate::signs::CHILD_DIED));
        assert_eq!(run, 3);
        assert!(matches!(end, Action::Reject(rejection) if rejection.cause == Cause::ChildDied));
        assert_eq!(runs(&of(crate::signs::NO_CHILD)).0, 1_000);
    }

    #[test]
    fn causes_have_their_own_limits_and_one_retry_number() {
        let mut runs = Runs::default();
        let delays = MissingReferenceDelays::default();
        for _ in 0..4 {
            for name in ["LOCK_ERROR", "MISSING_REFERENCE_ERROR"] {
                assert!(matches!(
                    runs.failed(&named(name), delays, 0.0),
                    Action::Hold(_)
                ));
            }
        }
        assert_eq!(runs.in_all(), 8);
    }

    #[test]
    fn retry_after_is_honoured_within_a_limit() {
        for (asked, waited) in [(45, 45), (86_400, 600)] {
            let sign = Sign {
                status: Some(429),
                retry_after: Some(Duration::from_secs(asked)),
                ..Sign::default()
            };
            assert_eq!(
                Runs::default().failed(&sign, MissingReferenceDelays::default(), 0.0),
                Action::Hold(Duration::from_secs(waited))
            );
        }
    }

    #[test]
    fn missing_references_follow_the_variables() {
        let delays = MissingReferenceDelays {
            exponential: true,
            initial: 0.5,
            factor: 2.0,
        };
        let waits: Vec<_> = (0..4)
            .map(|retry| missing_reference(retry, delays, 0.5).as_millis())
            .collect();
        assert_eq!(waits, [500, 1_000, 2_000, 4_000]);
        let flat = MissingReferenceDelays::default();
        assert_eq!(missing_reference(3, flat, 0.0), Duration::from_secs(1));
        assert_eq!(missing_reference(3, flat, 1.0), Duration::from_secs(3));
    }

    #[test]
    fn the_backoff_doubles_up_to_its_limit() {
        let waits: Vec<_> = [1, 2, 3, 6, 50]
            .into_iter()
            .map(|failed| backoff(failed, 1.0).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 30, 30]);
    }

    #[test]
    fn a_large_source_is_replaced() {
        let long = "ü".repeat(SOURCE_LIMIT);
        assert_eq!(source(&long), "Bundle too large");
        assert_eq!(source(&long[2..]), &long[2..]);
    }
}

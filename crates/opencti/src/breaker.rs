//! The circuit breaker: after some failures in a row nothing new is started until the platform answers.

use std::time::Duration;

use tokio::time::Instant;

use crate::schedule::backoff;
use crate::signs::Cause;

/// Failures in a row over the whole process that open the breaker. A token that is refused opens it at once.
const FAILURES: u32 = 5;

/// Whether new work may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Breaker {
    /// Work may start.
    Closed {
        /// Failures since the last success.
        failures: u32,
    },
    /// No work may start.
    Open {
        /// Since when.
        since: Instant,
        /// What the platform does.
        cause: Cause,
        /// The last failure, in words.
        reason: String,
        /// When to ask the platform next.
        probe_at: Instant,
        /// How often it was asked in vain.
        probes: u32,
    },
}

/// What an event changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The breaker opened.
    Opened,
    /// The breaker closed, after this long.
    Closed(Duration),
}

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { failures: 0 }
    }
}

impl Breaker {
    /// Whether no new work may start.
    pub const fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Counts a failure of the platform. Failures that are the object's own do not concern the breaker.
    pub fn failed(
        &mut self,
        cause: Cause,
        reason: &str,
        now: Instant,
        random: f64,
    ) -> Option<Change> {
        if !cause.is_outage() {
            return None;
        }
        let Self::Closed { failures } = self else {
            return None;
        };
        *failures += 1;
        if *failures < FAILURES && cause != Cause::Unauthorized {
            return None;
        }
        *self = Self::Open {
            since: now,
            cause,
            reason: reason.to_owned(),
            probe_at: now + backoff(1, random),
            probes: 0,
        };
        Some(Change::Opened)
    }

    /// The platform answered.
    pub fn succeeded(&mut self, now: Instant) -> Option<Change> {
        let before = std::mem::take(self);
        match before {
            Self::Open { since, .. } => Some(Change::Closed(now.duration_since(since))),
            Self::Closed { .. } => None,
        }
    }

    /// The platform was asked, and still does not answer.
    pub fn probe_failed(&mut self, failure: Cause, words: &str, now: Instant, random: f64) {
        if let Self::Open {
            cause,
            reason,
            probe_at,
            probes,
            ..
        } = self
        {
            *probes += 1;
            *cause = failure;
            words.clone_into(reason);
            *probe_at = now + backoff(*probes + 1, random);
        }
    }

    /// When the platform is to be asked whether it answers again.
    pub const fn probe_at(&self) -> Option<Instant> {
        match self {
            Self::Open { probe_at, .. } => Some(*probe_at),
            Self::Closed { .. } => None,
        }
    }

    /// Why nothing new is started, if the breaker is open. It stays the same while the cause does.
    pub fn remark(&self) -> Option<String> {
        match self {
            Self::Closed { .. } => None,
            Self::Open {
                cause: Cause::Unauthorized,
                ..
            } => Some("nothing is started: the platform refuses the token".to_owned()),
            Self::Open { .. } => {
                Some("nothing is started: the platform does not answer".to_owned())
            }
        }
    }

    /// The state in words, if the breaker is open.
    pub fn describe(&self, now: Instant) -> Option<String> {
        match self {
            Self::Closed { .. } => None,
            Self::Open {
                since,
                cause,
                reason,
                ..
            } => Some(format!(
                "the platform has not answered for {} s ({}: {reason})",
                now.duration_since(*since).as_secs(),
                cause.as_str()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_it_and_an_answer_closes_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES {
            assert_eq!(breaker.failed(Cause::Unreachable, "503", now, 0.5), None);
        }
        assert_eq!(breaker.succeeded(now), None);
        for _ in 1..FAILURES {
            assert_eq!(breaker.failed(Cause::Unreachable, "503", now, 0.5), None);
        }
        assert_eq!(
            breaker.failed(Cause::Unreachable, "503", now, 0.5),
            Some(Change::Opened)
        );
        assert_eq!(breaker.failed(Cause::Unreachable, "503", now, 0.5), None);
        let later = now + Duration::from_secs(9);
        assert!(breaker.describe(later).unwrap().contains("for 9 s"));
        let remark = breaker.remark().unwrap();
        assert_eq!(remark, "nothing is started: the platform does not answer");
        assert_eq!(
            breaker.succeeded(later),
            Some(Change::Closed(Duration::from_secs(9)))
        );
        assert_eq!(breaker, Breaker::default());
    }

    #[test]
    fn a_refused_token_opens_it_at_once() {
        let mut breaker = Breaker::default();
        let opened = breaker.failed(Cause::Unauthorized, "401", Instant::now(), 0.5);
        assert_eq!(opened, Some(Change::Opened));
    }

    #[test]
    fn an_objects_own_failures_do_not_count() {
        let mut breaker = Breaker::default();
        for cause in [
            Cause::Invalid,
            Cause::Lock,
            Cause::Platform,
            Cause::ChildDied,
        ] {
            for _ in 0..2 * FAILURES {
                assert_eq!(breaker.failed(cause, "", Instant::now(), 0.5), None);
            }
        }
        assert!(!breaker.is_open());
    }

    #[test]
    fn probes_come_less_and_less_often() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.failed(Cause::Unauthorized, "401", now, 1.0);
        let mut waits = vec![breaker.probe_at().unwrap() - now];
        for _ in 0..6 {
            breaker.probe_failed(Cause::Unreachable, "503", now, 1.0);
            waits.push(breaker.probe_at().unwrap() - now);
        }
        let seconds: Vec<_> = waits.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
    }
}

//! The report of a run, for people and for scripts.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{Confirms, PublishPlan};

/// The report of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct PublishReport {
    /// The outcome of the run.
    pub outcome: PublishOutcome,
    /// The queue, if one was named.
    pub queue: Option<String>,
    /// The exchange; empty for the default exchange.
    pub exchange: String,
    /// The routing key.
    pub routing_key: String,
    /// Messages sent.
    pub sent: u64,
    /// Messages that the broker confirmed.
    pub confirmed: u64,
    /// Confirmed messages from the first one on, without a gap.
    pub prefix: u64,
    /// Confirmed messages after the first gap.
    pub beyond: u64,
    /// Messages that the broker did not take.
    pub refused: u64,
    /// Messages without an answer: the broker may have them.
    pub unknown: u64,
    /// The value of `--skip` to go on with: nothing is lost, and at most `beyond` + `unknown` messages are sent
    /// twice.
    pub resume_skip: u64,
    /// Bytes of the bodies that were sent.
    pub body_bytes: u64,
    /// From the first message to the last answer.
    pub duration_ms: u64,
    /// Confirmed messages a second.
    pub per_second: f64,
    /// The first error.
    pub error: Option<String>,
    #[serde(skip)]
    destination: String,
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PublishOutcome {
    /// The whole input was sent, and every message is confirmed.
    Complete,
    /// A signal stopped the run before the end of the input.
    Stopped,
    /// Something went wrong.
    Failed,
}

impl PublishReport {
    /// The report of a run along `plan`.
    pub(crate) fn new(
        plan: &PublishPlan,
        outcome: PublishOutcome,
        error: Option<String>,
        confirms: &Confirms,
        body_bytes: u64,
        duration: Duration,
    ) -> Self {
        // Counts of messages are far below 2^52, where f64 would begin to round.
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let per_second = confirms.confirmed() as f64 / duration.as_secs_f64().max(0.001);
        Self {
            outcome,
            queue: plan.queue.clone(),
            exchange: plan.exchange.clone(),
            routing_key: plan.routing_key.clone(),
            sent: confirms.sent(),
            confirmed: confirms.confirmed(),
            prefix: confirms.prefix(),
            beyond: confirms.beyond(),
            refused: confirms.refused(),
            unknown: confirms.unknown(),
            resume_skip: plan.skip + confirms.prefix(),
            body_bytes,
            duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
            per_second: (per_second * 10.0).round() / 10.0,
            error,
            destination: plan.destination(),
        }
    }

    /// The report of a run along `plan` that failed before its first message.
    pub(crate) fn before_the_first(plan: &PublishPlan, error: String) -> Self {
        let (outcome, confirms) = (PublishOutcome::Failed, Confirms::default());
        Self::new(plan, outcome, Some(error), &confirms, 0, Duration::ZERO)
    }
}

impl fmt::Display for PublishReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent, confirmed, ..
        } = self;
        if self.outcome == PublishOutcome::Complete {
            let noun = if *sent == 1 { "message" } else { "messages" };
            let seconds = Duration::from_millis(self.duration_ms).as_secs_f64();
            return write!(
                f,
                "published {sent} {noun} to {} in {seconds:.1} s ({:.0} a second), all confirmed",
                self.destination, self.per_second
            );
        }
        if let Some(error) = &self.error {
            writeln!(f, "{error}")?;
        }
        if *sent == 0 {
            return write!(f, "nothing was sent to {}", self.destination);
        }
        write!(
            f,
            "{confirmed} of {sent} messages sent to {} are confirmed",
            self.destination
        )?;
        if self.beyond > 0 {
            write!(
                f,
                ", {} from the first on and {} beyond a gap",
                self.prefix, self.beyond
            )?;
        }
        writeln!(
            f,
            "; {} refused, {} without an answer",
            self.refused, self.unknown
        )?;
        match self.resume_skip {
            0 => f.write_str("to go on, begin again")?,
            skip => write!(f, "to go on, leave out the first {skip} (--skip {skip})")?,
        }
        f.write_str(": nothing is lost, ")?;
        match self.beyond + self.unknown {
            0 => f.write_str("nothing is repeated"),
            repeats => write!(f, "at most {repeats} may be repeated"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Answer;
    use super::*;

    fn plan(skip: u64) -> PublishPlan {
        PublishPlan {
            queue: Some("orders".to_owned()),
            exchange: String::new(),
            routing_key: "orders".to_owned(),
            properties: tidegate::delivery::Properties::default(),
            skip,
            identify: true,
        }
    }

    fn confirms(answers: &[Option<Answer>]) -> Confirms {
        let mut confirms = Confirms::default();
        for answer in answers {
            let number = confirms.send();
            if let Some(answer) = answer {
                confirms.enter(number, *answer);
            }
        }
        confirms
    }

    #[test]
    fn a_complete_run_is_one_line() {
        let confirms = confirms(&[Some(Answer::Confirmed); 3]);
        let duration = Duration::from_millis(1500);
        let report = PublishReport::new(
            &plan(0),
            PublishOutcome::Complete,
            None,
            &confirms,
            9,
            duration,
        );
        assert_eq!(
            report.to_string(),
            "published 3 messages to queue \"orders\" in 1.5 s (2 a second), all confirmed"
        );
        assert_eq!((report.resume_skip, report.body_bytes), (3, 9));
    }

    #[test]
    fn a_failed_run_says_where_to_go_on_and_what_may_be_repeated() {
        let yes = Some(Answer::Confirmed);
        let confirms = confirms(&[yes, yes, Some(Answer::Refused), yes, None, None]);
        let error = Some("message 103: no".to_owned());
        let second = Duration::from_secs(1);
        let report = PublishReport::new(
            &plan(100),
            PublishOutcome::Failed,
            error,
            &confirms,
            6,
            second,
        );
        assert_eq!(
            report.to_string(),
            "message 103: no\n\
             3 of 6 messages sent to queue \"orders\" are confirmed, 2 from the first on and 1 beyond a gap; \
             1 refused, 2 without an answer\n\
             to go on, leave out the first 102 (--skip 102): nothing is lost, at most 3 may be repeated"
        );
    }

    #[test]
    fn a_run_that_never_began_says_so() {
        let report = PublishReport::before_the_first(&plan(7), "no broker".to_owned());
        assert_eq!(
            report.to_string(),
            "no broker\nnothing was sent to queue \"orders\""
        );
        assert_eq!(report.resume_skip, 7);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["outcome"], "failed");
        assert_eq!(json["per_second"], 0.0);
    }
}

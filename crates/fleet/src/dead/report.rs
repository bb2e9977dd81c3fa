//! The report of a command on dead letters, for people and for scripts.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many failures the report names.
const FAULTS_LIMIT: usize = 20;

/// The command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadAction {
    /// List letters, one a line.
    List,
    /// Show everything about letters.
    Show,
    /// Send letters again.
    Replay,
    /// Remove letters for good.
    Drop,
}

/// The way it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadOutcome {
    /// Everything that was picked has been dealt with.
    Complete,
    /// A signal ended the command early. Every letter is where it was, or dealt with.
    Stopped,
    /// Some letters could not be dealt with.
    Failed,
}

/// A letter that was left in the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// The message's identifier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Why it was left.
    pub error: String,
}

/// The report of a pass over one queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct QueueReport {
    /// The work queue.
    pub queue: String,
    /// The queue of its dead letters.
    pub dead_queue: String,
    /// Dead letters in the queue when the pass began.
    pub waiting: u64,
    /// Dead letters that the pass read.
    pub seen: u64,
    /// Dead letters that match the request.
    pub matched: u64,
    /// Letters that their destination confirmed and the pass removed.
    pub replayed: u64,
    /// Letters that an interrupted pass had already sent. This pass removed them without sending them again.
    pub finished: u64,
    /// Second copies of a message that this pass replayed. It removed them without sending them.
    pub twins: u64,
    /// Letters that an interrupted pass may have sent. They are left for a person to decide.
    pub in_doubt: u64,
    /// Letters removed for good.
    pub dropped: u64,
    /// Letters that failed and were left.
    pub failed: u64,
    /// The first 20 letters that were left, with the reason.
    pub faults: Vec<Fault>,
    /// Warnings for the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Why the pass ended early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The report of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeadReport {
    /// The command.
    pub command: DeadAction,
    /// The way it ended.
    pub outcome: DeadOutcome,
    /// Whether it only said what it would do.
    pub dry_run: bool,
    /// The queues, in the order they were asked for.
    pub queues: Vec<QueueReport>,
}

impl QueueReport {
    /// The report of a pass over the dead letters of `queue`, before it begins.
    pub fn new(queue: &str) -> Self {
        Self {
            queue: queue.to_owned(),
            dead_queue: super::dead_queue(queue),
            ..Self::default()
        }
    }

    /// Records a letter that could not be dealt with.
    pub fn fail(&mut self, id: Option<&str>, error: String) {
        self.failed += 1;
        self.tell(id, error);
    }

    /// Records a letter that an interrupted pass may have sent.
    pub fn doubt(&mut self, id: Option<&str>) {
        self.in_doubt += 1;
        let error = "an earlier replay was interrupted while it sent this message, which may have arrived: find out, and \
                     say --in-doubt replay or --in-doubt drop";
        self.tell(id, error.to_owned());
    }

    fn tell(&mut self, id: Option<&str>, error: String) {
        if self.faults.len() < FAULTS_LIMIT {
            let id = id.map(str::to_owned);
            self.faults.push(Fault { id, error });
        }
    }

    fn is_complete(&self) -> bool {
        self.error.is_none() && self.failed == 0 && self.in_doubt == 0
    }
}

impl DeadReport {
    /// The report of `command` over `queues`; `stopped` if a signal ended it.
    pub fn new(
        command: DeadAction,
        dry_run: bool,
        stopped: bool,
        queues: Vec<QueueReport>,
    ) -> Self {
        let outcome = if !queues.iter().all(QueueReport::is_complete) {
            DeadOutcome::Failed
        } else if stopped {
            DeadOutcome::Stopped
        } else {
            DeadOutcome::Complete
        };
        Self {
            command,
            outcome,
            dry_run,
            queues,
        }
    }
}

fn letters(count: u64) -> String {
    match count {
        1 => "1 dead letter".to_owned(),
        count => format!("{count} dead letters"),
    }
}

impl fmt::Display for DeadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, queue) in self.queues.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            let QueueReport {
                seen,
                matched,
                dead_queue,
                ..
            } = queue;
            write!(f, "{dead_queue}: {} seen, {matched} picked", letters(*seen))?;
            let done = match (self.command, self.dry_run) {
                (DeadAction::Replay, false) => Some((queue.replayed, "replayed")),
                (DeadAction::Replay, true) => Some((queue.replayed, "to be replayed")),
                (DeadAction::Drop, false) => Some((queue.dropped, "dropped")),
                (DeadAction::Drop, true) => Some((queue.dropped, "to be dropped")),
                (DeadAction::List | DeadAction::Show, _) => None,
            };
            let parts = [
                done,
                Some((
                    queue.finished,
                    "removed because an earlier replay had sent them",
                ))
                .filter(|(count, _)| *count > 0),
                Some((queue.twins, "removed as second copies")).filter(|(count, _)| *count > 0),
                Some((queue.in_doubt, "in doubt and left")).filter(|(count, _)| *count > 0),
                Some((queue.failed, "failed and left")).filter(|(count, _)| *count > 0),
            ];
            for (count, what) in parts.into_iter().flatten() {
                write!(f, ", {count} {what}")?;
            }
            for warning in &queue.warnings {
                write!(f, "\n  warning: {warning}")?;
            }
            for fault in &queue.faults {
                let id = fault.id.as_deref().unwrap_or("without an id");
                write!(f, "\n  {id}: {}", fault.error)?;
            }
            let told = u64::try_from(queue.faults.len()).unwrap_or(u64::MAX);
            if queue.failed + queue.in_doubt > told {
                let more = queue.failed + queue.in_doubt - told;
                write!(f, "\n  … and {more} more")?;
            }
            if let Some(error) = &queue.error {
                write!(f, "\n  {error}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_was_done_and_what_was_left() {
        let mut queue = QueueReport::new("orders");
        (queue.waiting, queue.seen, queue.matched) = (9, 9, 7);
        (queue.replayed, queue.twins) = (5, 1);
        queue.fail(Some("m-1"), "the queue is full".to_owned());
        let report = DeadReport::new(DeadAction::Replay, false, false, vec![queue]);
        assert_eq!(report.outcome, DeadOutcome::Failed);
        assert_eq!(
            report.to_string(),
            "orders.dead: 9 dead letters seen, 7 picked, 5 replayed, 1 removed as second copies, \
             1 failed and left\n  m-1: the queue is full"
        );
    }

    #[test]
    fn only_the_first_failures_are_told() {
        let mut queue = QueueReport::new("orders");
        for _ in 0..FAULTS_LIMIT + 2 {
            queue.fail(None, "no".to_owned());
        }
        let report = DeadReport::new(DeadAction::Drop, false, true, vec![queue]);
        assert!(report.to_string().ends_with("\n  … and 2 more"));
        assert_eq!(report.outcome, DeadOutcome::Failed, "worse than stopped");
    }

    #[test]
    fn a_rehearsal_says_what_would_be_done() {
        let mut queue = QueueReport::new("orders");
        (queue.seen, queue.matched, queue.dropped) = (1, 1, 1);
        let report = DeadReport::new(DeadAction::Drop, true, false, vec![queue]);
        assert_eq!(
            report.to_string(),
            "orders.dead: 1 dead letter seen, 1 picked, 1 to be dropped"
        );
        assert_eq!(report.outcome, DeadOutcome::Complete);
    }
}

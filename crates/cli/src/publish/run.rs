//! The state of a run: the window, the deadline, the first failure. No I/O.

use std::time::Duration;

use tokio::time::Instant;

use super::{Answer, Confirms, PublishOutcome, PublishPlan, PublishReport};
use tidegate::internal::broker::{BrokerError, LinkState};

/// Messages that may be under way.
pub(super) const WINDOW: usize = 1_000;
/// Bytes of bodies that may be under way. The message that crosses the limit is still sent.
pub(super) const WINDOW_BYTES: usize = 64 << 20;
/// The time limit without any answer, unless the broker says that it blocks publishers.
pub(super) const STALL_LIMIT: Duration = Duration::from_mins(1);
/// The time limit for outstanding answers after sending has ended early.
pub(super) const STOP_LIMIT: Duration = Duration::from_secs(10);

/// The progress of a run.
#[derive(Debug)]
pub(crate) struct PublishProgress<'a> {
    /// The answers so far.
    pub confirms: &'a Confirms,
    /// Bytes of input used up.
    pub input_bytes: u64,
    /// The broker's reason, if it blocks publishers now.
    pub blocked: Option<String>,
}

/// The state of a run: it records what happens, and decides what happens next.
pub(super) struct PublishRun<'a> {
    plan: &'a PublishPlan,
    confirms: Confirms,
    /// Everything has been sent.
    pub(super) input_ended: bool,
    /// Nothing more is sent, and the deadline is final.
    pub(super) stopping: bool,
    /// The first failure.
    error: Option<String>,
    bytes_under_way: usize,
    body_bytes: u64,
    input_bytes: u64,
    begin: Instant,
    last_answer: Instant,
    pub(super) deadline: Instant,
}

impl<'a> PublishRun<'a> {
    pub(super) fn new(plan: &'a PublishPlan) -> Self {
        let now = Instant::now();
        Self {
            plan,
            confirms: Confirms::default(),
            input_ended: false,
            stopping: false,
            error: None,
            bytes_under_way: 0,
            body_bytes: 0,
            input_bytes: 0,
            begin: now,
            last_answer: now,
            deadline: now + STALL_LIMIT,
        }
    }

    pub(super) fn is_sending(&self) -> bool {
        !self.input_ended && !self.stopping
    }

    pub(super) fn has_room(&self, under_way: usize) -> bool {
        under_way < WINDOW && self.bytes_under_way < WINDOW_BYTES
    }

    pub(super) fn sent(&mut self, size: usize, used: u64, is_only: bool) -> u64 {
        if is_only {
            self.deadline = Instant::now() + STALL_LIMIT;
        }
        self.bytes_under_way += size;
        self.body_bytes += size as u64;
        self.input_bytes += used;
        self.confirms.send()
    }

    pub(super) fn answered(&mut self, number: u64, size: usize, answer: Result<(), BrokerError>) {
        self.bytes_under_way -= size;
        self.last_answer = Instant::now();
        if !self.stopping {
            self.deadline = self.last_answer + STALL_LIMIT;
        }
        let answer = match answer {
            Ok(()) => Answer::Confirmed,
            Err(error) => {
                let place = self.plan.skip + number + 1;
                let to = self.plan.destination();
                self.fail(format!("message {place} to {to}: {error}"));
                match error {
                    BrokerError::NotAccepted { .. } | BrokerError::TooLarge { .. } => {
                        Answer::Refused
                    }
                    _ => Answer::Unknown,
                }
            }
        };
        self.confirms.enter(number, answer);
    }

    /// Ends the sending. Outstanding answers may take [`STOP_LIMIT`].
    pub(super) fn stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.deadline = Instant::now() + STOP_LIMIT;
        }
    }

    /// Stops because of `error`. The report shows the first error.
    pub(super) fn fail(&mut self, error: String) {
        self.stop();
        self.error.get_or_insert(error);
    }

    /// Decides at the deadline whether the run ends. It goes on if no answer is outstanding (the input or the pace is
    /// slow), or if the broker says that it blocks publishers.
    pub(super) fn out_of_time(&mut self, blocked: bool) -> bool {
        if !self.stopping {
            if blocked || self.confirms.unknown() == 0 {
                self.deadline = Instant::now() + STALL_LIMIT;
                return false;
            }
            self.fail(format!(
                "the broker has confirmed nothing for {STALL_LIMIT:?}"
            ));
        }
        true
    }

    pub(super) fn progress(&self, link: LinkState) -> PublishProgress<'_> {
        PublishProgress {
            confirms: &self.confirms,
            input_bytes: self.input_bytes,
            blocked: match link {
                LinkState::Blocked { reason } => Some(reason),
                LinkState::Up | LinkState::Lost { .. } => None,
            },
        }
    }

    pub(super) fn report(self) -> PublishReport {
        let outcome = if self.error.is_some() {
            PublishOutcome::Failed
        } else if self.input_ended && self.confirms.all_confirmed() {
            PublishOutcome::Complete
        } else {
            PublishOutcome::Stopped
        };
        PublishReport::new(
            self.plan,
            outcome,
            self.error,
            &self.confirms,
            self.body_bytes,
            self.last_answer - self.begin,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate::delivery::Properties;

    fn plan() -> PublishPlan {
        PublishPlan {
            queue: Some("orders".to_owned()),
            exchange: String::new(),
            routing_key: "orders".to_owned(),
            properties: Properties::default(),
            skip: 10,
            identify: false,
        }
    }

    fn refusal() -> Result<(), BrokerError> {
        let cause = "full".to_owned();
        Err(BrokerError::NotAccepted { cause })
    }

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_is_bounded_in_messages_and_in_bytes() {
        let plan = plan();
        let mut run = PublishRun::new(&plan);
        assert!(run.has_room(WINDOW - 1));
        assert!(!run.has_room(WINDOW));
        let number = run.sent(WINDOW_BYTES, 1, true);
        assert!(!run.has_room(1));
        run.answered(number, WINDOW_BYTES, Ok(()));
        assert!(run.has_room(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_is_complete_when_the_input_has_ended_and_all_is_confirmed() {
        let plan = plan();
        let mut run = PublishRun::new(&plan);
        let number = run.sent(3, 4, true);
        run.input_ended = true;
        assert!(!run.is_sending());
        run.answered(number, 3, Ok(()));
        let report = run.report();
        assert_eq!(report.outcome, PublishOutcome::Complete);
        assert_eq!((report.resume_skip, report.body_bytes), (11, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_stopped_after_its_last_message_is_complete_if_all_is_confirmed() {
        let plan = plan();
        let mut run = PublishRun::new(&plan);
        let number = run.sent(3, 4, true);
        run.input_ended = true;
        run.stop();
        run.answered(number, 3, Ok(()));
        assert_eq!(run.report().outcome, PublishOutcome::Complete);
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_stopped_waits_for_answers_no_longer_than_its_limit() {
        let plan = plan();
        let mut run = PublishRun::new(&plan);
        let first = run.sent(1, 1, true);
        run.sent(1, 1, false);
        run.stop();
        let deadline = run.deadline;
        assert_eq!(deadline, Instant::now() + STOP_LIMIT);
        pass(Duration::from_secs(3)).await;
        run.answered(first, 1, Ok(()));
        run.stop();
        assert_eq!(run.deadline, deadline, "an answer buys no time");
        assert!(run.out_of_time(true));
        let report = run.report();
        assert_eq!(
            (report.outcome, report.unknown),
            (PublishOutcome::Stopped, 1)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_ends_the_sending_and_is_the_one_reported() {
        let plan = plan();
        let mut run = PublishRun::new(&plan);
        let (first, second) = (run.sent(1, 1, true), run.sent(1, 1, false));
        run.answered(second, 1, refusal());
        assert!(!run.is_sending());
        let lost = BrokerError::Lost {
            what: "awaiting a confirm",
            cause: "gone".to_owned(),
        };
        run.answered(first, 1, Err(lost));
        let report = run.report();
        assert_eq!(report.outcome, PublishOutcome::Failed);
        assert_eq!((report.refused, report.unknown), (1, 1));
        assert_eq!(
            report.error.as_deref(),
            Some("message 12 to queue \"orders\": the message was not accepted: full")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_broker_that_answers_nothing_fails_the_run_unless_it_says_why() {
        let plan = plan();
        let mut run = PublishRun::new(&plan);
        pass(STALL_LIMIT).await;
        assert!(!run.out_of_time(false), "nothing is awaited");
        run.sent(1, 1, true);
        pass(STALL_LIMIT).await;
        assert!(!run.out_of_time(true), "the broker blocks publishers");
        assert_eq!(run.deadline, Instant::now() + STALL_LIMIT);
        pass(STALL_LIMIT).await;
        assert!(run.out_of_time(false));
        let error = run.report().error.expect("the run has failed");
        assert_eq!(error, "the broker has confirmed nothing for 60s");
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_gives_the_next_its_full_time() {
        let plan = plan();
        let mut run = PublishRun::new(&plan);
        let number = run.sent(1, 1, true);
        run.sent(1, 1, false);
        pass(STALL_LIMIT / 2).await;
        run.answered(number, 1, Ok(()));
        assert_eq!(run.deadline, Instant::now() + STALL_LIMIT);
    }
}

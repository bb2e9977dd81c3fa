//! From a handler's outcome to its settlement.

use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::drain::NAMED;
use super::line::Waiting;
use super::port::BrokerLink;
use super::run::{Completion, Next, Run, RunEvent};
use super::task::Task;
use crate::handler::{Outcome, Reason};
use crate::retry::{Target, Why};
use crate::settlement::{
    ChannelTag, Decision, DecisionInput, Ended, RunEnd, Settlement, Work, decide,
};

/// A run of a quick handler that is longer is worth a warning.
const QUICK_LIMIT: Duration = Duration::from_millis(100);

impl<L: BrokerLink> Task<L> {
    pub(super) fn run_event(&mut self, event: RunEvent) {
        // The run of the event may have begun in a slot that has gone on.
        self.take_ended();
        match event {
            RunEvent::Held(run) => self.set_on_hold(run, true),
            RunEvent::Resumed(run) => self.set_on_hold(run, false),
            RunEvent::Completed(completion) => self.complete(completion),
            RunEvent::WentOn => {}
        }
    }

    /// Takes note of the runs whose slots have gone on. Returns whether there were any.
    pub(super) fn take_ended(&mut self) -> bool {
        let ended = self.line.take_ended();
        let any = !ended.is_empty();
        for completion in ended {
            self.complete(completion);
        }
        any
    }

    /// Takes note of everything that runs have told so far. Returns whether there was anything.
    pub(super) fn run_events(&mut self) -> bool {
        let mut any = false;
        while let Ok(event) = self.events.try_recv() {
            self.run_event(event);
            any = true;
        }
        self.take_ended() || any
    }

    fn set_on_hold(&mut self, number: u64, on_hold: bool) {
        let Some(run) = self.runs.get_mut(&number) else {
            // It was interrupted, and counted then.
            return;
        };
        if run.on_hold != on_hold {
            run.on_hold = on_hold;
            let now = Instant::now();
            if on_hold {
                self.metrics.run_ended(number, now);
                self.metrics.held.inc();
            } else {
                self.metrics.held.dec();
                self.metrics.run_began(number, now);
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Some(run) = self.runs.remove(&completion.run) else {
            // It was interrupted, and settled then.
            return;
        };
        let now = completion.ended;
        self.run_is_over(completion.run, &run, now);
        if let Some(next) = completion.next {
            self.went_on(next, run.abort.clone());
        }
        let took = now.saturating_duration_since(run.started);
        self.metrics.handler.observe(took.as_secs_f64());
        if self.handler.is_quick() && took > QUICK_LIMIT {
            warn!(
                queue = %self.queue,
                ?took,
                "a quick handler took long: while it runs, the thread that speaks to the broker may be held up"
            );
        }
        self.end_run(completion.run, &run, completion.end, now);
    }

    /// The figures of a run that is over.
    pub(super) fn run_is_over(&self, number: u64, run: &Run, now: Instant) {
        if run.on_hold {
            self.metrics.held.dec();
        } else {
            self.metrics.run_ended(number, now);
        }
    }

    pub(super) fn end_run(&mut self, number: u64, run: &Run, end: RunEnd, now: Instant) {
        let ended = self.book.end_run(number, end, now);
        match ended.expect("the book has every run") {
            Ended::Follow(in_hand, outcome) => {
                let runs = in_hand.work.delivery().attempt;
                self.follow(in_hand.place, in_hand.work, outcome, runs);
            }
            Ended::Remembered(in_hand, outcome) => {
                info!(
                    queue = %self.queue,
                    message_id = in_hand.work.message_id(),
                    outcome = outcome.as_str(),
                    "its channel is gone: the outcome is remembered until the broker delivers the message again"
                );
                self.metrics.unconfirmed.inc();
            }
            Ended::HandedBack(in_hand) => {
                let message_id = in_hand.work.message_id();
                debug!(queue = %self.queue, message_id, "handed back by its handler");
                self.metrics.handed_back.inc();
            }
            Ended::Interrupted(in_hand) => {
                let id = in_hand.work.message_id().map(str::to_owned);
                let id = id.unwrap_or_else(|| format!("{}#{}", self.queue, in_hand.place.tag));
                let ran = now.saturating_duration_since(run.started);
                warn!(queue = %self.queue, message_id = id, ?ran, "interrupted");
                self.metrics.interrupted.inc();
                if self.interrupted_ids.len() < NAMED {
                    self.interrupted_ids.push(id);
                }
            }
        }
    }

    /// A slot has gone on with the next delivery in line by itself.
    fn went_on(&mut self, next: Next, abort: AbortHandle) {
        self.metrics.run_began(next.run, next.started);
        let Waiting { place, work } = next.waiting;
        self.book.begin_run(next.run, place, work, next.started);
        let run = Run {
            started: next.started,
            on_hold: false,
            abort,
        };
        self.runs.insert(next.run, run);
    }

    /// Does what follows from an outcome of a delivery of the present channel, and counts it. `runs`: how many
    /// times the message has been run.
    pub(super) fn follow(&mut self, place: ChannelTag, work: Work, outcome: Outcome, runs: u32) {
        let input = DecisionInput {
            attempt: runs,
            max_attempts: self.settings.retry.max_attempts,
            delayed_by_broker: self.delayed_by_broker,
        };
        let failure = failure(&outcome);
        match decide(outcome, input) {
            Decision::Settle(settlement) => {
                match settlement {
                    Settlement::Ack => &self.metrics.done,
                    Settlement::Return => &self.metrics.retried,
                    Settlement::HandBack => &self.metrics.handed_back,
                }
                .inc();
                if settlement == Settlement::Ack {
                    debug!(queue = %self.queue, message_id = work.message_id(), "done");
                }
                if let Some((reason, error)) = failure {
                    let why = Why {
                        reason,
                        error,
                        attempts: runs,
                    };
                    self.log_failure(&work, &why, Some(None));
                }
                self.book.settle(place.tag, &work, settlement);
            }
            Decision::Copy { to, reason, error } => {
                let why = Why {
                    reason,
                    error,
                    attempts: runs,
                };
                let (target, why) = self.unless_expired(&work, self.target(to, runs), why);
                self.retry_or_bury(place, work, target, why);
            }
        }
    }

    /// Logs and counts what became of a failed run, and starts its copy on its way.
    fn retry_or_bury(&mut self, place: ChannelTag, work: Work, target: Target, why: Why) {
        match target {
            Target::Delay { step, .. } => {
                self.log_failure(&work, &why, Some(Some(step)));
                self.metrics.retried.inc();
            }
            Target::Dead { .. } => {
                self.log_failure(&work, &why, None);
                self.metrics.dead.inc();
            }
        }
        self.copy(place, work, target, why);
    }

    /// Logs a failed run. `retry`: whether another follows, and after which delay, if the worker knows it.
    #[expect(
        clippy::option_option,
        reason = "no retry is something else than a retry after an unknown delay"
    )]
    fn log_failure(&self, work: &Work, why: &Why, retry: Option<Option<Duration>>) {
        let message_id = work.message_id();
        let (run, of) = (why.attempts, self.settings.retry.max_attempts);
        let (reason, error) = (why.reason.as_str(), &why.error);
        let queue = &self.queue;
        if let Some(delay) = retry {
            let delay = delay.map(tracing::field::debug);
            warn!(%queue, message_id, run, of, reason, error, delay, "retry");
        } else {
            warn!(%queue, message_id, run, of, reason, error, "dead");
        }
    }

    /// Decides to hand back every delivery that has not started.
    pub(super) fn hand_back_unstarted(&mut self) {
        let waiting = self.line.empty().into_iter().chain(self.in_place.empty());
        for Waiting { place, work } in waiting {
            self.metrics.handed_back.inc();
            self.book.hand_back(place.tag, &work);
        }
        self.gathering = false;
        self.flush();
    }
}

/// The reason and the error of an outcome that is a failure.
fn failure(outcome: &Outcome) -> Option<(Reason, String)> {
    match outcome {
        Outcome::Done | Outcome::HandBack => None,
        Outcome::Retry { reason, error, .. } | Outcome::Dead { reason, error } => {
            Some((*reason, error.clone()))
        }
    }
}

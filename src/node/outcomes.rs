//! From a handler's outcome to its settlement.

use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::line::Waiting;
use super::run::{Completion, Next, Run, RunEnd, RunEvent, Work};
use super::task::Task;
use crate::delivery::Delivery;
use crate::handler::Outcome;
use crate::retry::{Target, Why};
use crate::settlement::{Case, Decision, Remembered, Settlement, decide};

impl Task {
    pub(super) fn run_event(&mut self, event: RunEvent) {
        match event {
            RunEvent::Held(run) => self.set_on_hold(run, true),
            RunEvent::Resumed(run) => self.set_on_hold(run, false),
            RunEvent::Completed(completion) => self.complete(completion),
        }
    }

    fn set_on_hold(&mut self, number: u64, on_hold: bool) {
        let Some(run) = self.running.get_mut(&number) else {
            // It was interrupted, and counted then.
            return;
        };
        if run.on_hold != on_hold {
            run.on_hold = on_hold;
            if on_hold {
                self.metrics.run_ended(number);
                self.metrics.held.inc();
            } else {
                self.metrics.held.dec();
                self.metrics.run_began(number);
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Some(run) = self.running.remove(&completion.run) else {
            // It was interrupted, and settled then.
            return;
        };
        self.run_is_over(completion.run, &run);
        if let Some(next) = completion.next {
            self.went_on(next, run.abort.clone());
        }
        self.metrics
            .handler
            .observe(run.started.elapsed().as_secs_f64());
        let (outcome, decided) = match completion.end {
            RunEnd::Decided(outcome) => (outcome, true),
            RunEnd::Failed(outcome) => (outcome, false),
            RunEnd::Cancelled => {
                self.interrupted(completion.run, &run);
                return;
            }
        };
        self.log(&outcome, run.work.delivery());
        if outcome == Outcome::HandBack {
            self.handed_back_by_handler(completion.run, run);
            return;
        }
        if let Some(drain) = &mut self.drain
            && decided
        {
            drain.finished += 1;
        }
        if self.is_present(run.place) {
            let runs = run.work.delivery().attempt;
            self.follow(run.place.tag, run.work, outcome, runs);
            return;
        }
        info!(
            queue = %self.queue,
            message_id = run.work.message_id(),
            outcome = outcome.as_str(),
            "its channel is gone: the outcome is remembered until the broker delivers the message again"
        );
        self.metrics.unconfirmed.inc();
        if let Some(drain) = &mut self.drain {
            drain.unconfirmed += 1;
        }
        let before = Remembered::Running(completion.run);
        let decided = Remembered::Decided(outcome);
        self.adoption.replace(run.work.identity, &before, decided);
    }

    /// The figures of a run that is over.
    pub(super) fn run_is_over(&self, number: u64, run: &Run) {
        if run.on_hold {
            self.metrics.held.dec();
        } else {
            self.metrics.run_ended(number);
        }
    }

    /// A handler has decided nothing: the message goes back to its place.
    fn handed_back_by_handler(&mut self, number: u64, run: Run) {
        self.metrics.handed_back.inc();
        if let Some(drain) = &mut self.drain {
            drain.handed_back += 1;
        }
        if self.is_present(run.place) {
            self.settle(run.place.tag, &run.work, Settlement::HandBack);
        } else {
            // The broker has it back already.
            let running = Remembered::Running(number);
            self.adoption.forget(run.work.identity, &running);
        }
    }

    /// A slot has gone on with the next delivery in line by itself.
    fn went_on(&mut self, next: Next, abort: AbortHandle) {
        self.metrics.run_began(next.run);
        let Waiting { place, work } = next.waiting;
        if !self.is_present(place) {
            // Its channel was lost in between; what was running then is remembered already.
            let running = Remembered::Running(next.run);
            self.adoption
                .remember(work.identity, running, Instant::now());
        }
        let run = Run {
            place,
            work,
            started: next.started,
            on_hold: false,
            abort,
        };
        self.running.insert(next.run, run);
    }

    pub(super) fn log(&self, outcome: &Outcome, delivery: &Delivery) {
        let message_id = delivery.properties.message_id.as_deref();
        match outcome {
            Outcome::Done => debug!(queue = %self.queue, message_id, "done"),
            Outcome::HandBack => {
                debug!(queue = %self.queue, message_id, "handed back by its handler")
            }
            Outcome::Retry { reason, error, .. } => {
                let reason = reason.as_str();
                warn!(queue = %self.queue, message_id, attempt = delivery.attempt, reason, error, "retry");
            }
            Outcome::Dead { reason, error } => {
                let reason = reason.as_str();
                warn!(queue = %self.queue, message_id, attempt = delivery.attempt, reason, error, "dead");
            }
        }
    }

    /// Does what follows from an outcome of a delivery of the present channel, and counts it. `runs`: how many
    /// times the message has been run.
    pub(super) fn follow(&mut self, tag: u64, work: Work, outcome: Outcome, runs: u32) {
        let case = Case {
            attempt: runs,
            max_attempts: self.settings.retry.max_attempts,
            delayed_by_broker: self.delayed_by_broker,
        };
        match decide(outcome, case) {
            Decision::Settle(settlement) => {
                match settlement {
                    Settlement::Ack => &self.metrics.done,
                    Settlement::Return => &self.metrics.retried,
                    Settlement::HandBack => &self.metrics.handed_back,
                }
                .inc();
                self.settle(tag, &work, settlement);
            }
            Decision::Copy { to, reason, error } => {
                let why = Why {
                    reason,
                    error,
                    attempts: runs,
                };
                let (target, why) = self.unless_expired(&work, self.target(to, runs), why);
                match target {
                    Target::Delay { .. } => &self.metrics.retried,
                    Target::Dead { .. } => &self.metrics.dead,
                }
                .inc();
                self.copy(tag, work, target, &why);
            }
        }
    }

    /// Decides what the broker is told about a delivery of the present channel, and about the twins that wait
    /// for it.
    pub(super) fn settle(&mut self, tag: u64, work: &Work, settlement: Settlement) {
        self.decide(tag, settlement);
        self.unproven
            .decided((settlement == Settlement::Ack).then_some(work.identity));
        if work.received.copy.is_none() {
            return;
        }
        let copy = work.identity;
        let (twins, fate) = match settlement {
            Settlement::Ack => (self.copies.finish(copy), Settlement::Ack),
            Settlement::HandBack | Settlement::Return => {
                (self.copies.hand_back(copy), Settlement::HandBack)
            }
        };
        for twin in twins {
            self.decide(twin, fate);
            self.unproven.decided(None);
        }
    }

    fn decide(&mut self, tag: u64, settlement: Settlement) {
        if let Some(drain) = &mut self.drain {
            drain.unproven += 1;
        }
        self.ledger
            .decide(tag, settlement)
            .expect("each delivery of the present channel is decided once");
    }

    /// Decides to hand back every delivery that has not started.
    pub(super) fn hand_back_unstarted(&mut self) {
        for Waiting { place, work } in self.line.empty() {
            self.metrics.handed_back.inc();
            if let Some(drain) = &mut self.drain {
                drain.handed_back += 1;
            }
            self.settle(place.tag, &work, Settlement::HandBack);
        }
        self.gathering = false;
        self.flush();
    }
}

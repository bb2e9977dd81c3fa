//! From a handler's outcome to its settlement.

use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::line::Waiting;
use super::run::{Completion, Held, Next, Run};
use super::task::Task;
use crate::delivery::Delivery;
use crate::handler::Outcome;
use crate::settlement::{Case, Decision, Remembered, Settlement, Way, decide};

impl Task {
    pub(super) fn complete(&mut self, completion: Completion) {
        let Some(run) = self.running.remove(&completion.run) else {
            // It was interrupted, and settled then.
            return;
        };
        self.metrics.run_ended(completion.run);
        if let Some(next) = completion.next {
            self.went_on(next, run.abort.clone());
        }
        self.metrics
            .handler
            .observe(run.started.elapsed().as_secs_f64());
        let Some(outcome) = completion.outcome else {
            self.interrupted(completion.run, &run);
            return;
        };
        self.log(&outcome, &run.held.delivery);
        if let Some(drain) = &mut self.drain {
            drain.finished += 1;
        }
        if self.is_present(run.claim) {
            let runs = run.held.delivery.attempt;
            self.follow(run.claim.tag, run.held, outcome, runs);
            return;
        }
        info!(
            queue = %self.queue,
            message_id = run.held.delivery.properties.message_id,
            outcome = outcome.as_str(),
            "its channel is gone: the outcome is remembered until the broker delivers the message again"
        );
        self.metrics.unconfirmed.inc();
        if let Some(drain) = &mut self.drain {
            drain.unconfirmed += 1;
        }
        let before = Remembered::Running(completion.run);
        let decided = Remembered::Decided(outcome);
        self.adoption.replace(run.held.identity, &before, decided);
    }

    /// A slot has gone on with the next delivery in line by itself.
    fn went_on(&mut self, next: Next, abort: AbortHandle) {
        self.metrics.run_began(next.run);
        let Waiting { claim, held } = next.waiting;
        if !self.is_present(claim) {
            // Its channel was lost in between; what was running then is remembered already.
            let running = Remembered::Running(next.run);
            self.adoption
                .remember(held.identity, running, Instant::now());
        }
        let run = Run {
            claim,
            held,
            started: next.started,
            abort,
        };
        self.running.insert(next.run, run);
    }

    pub(super) fn log(&self, outcome: &Outcome, delivery: &Delivery) {
        let message_id = delivery.properties.message_id.as_deref();
        match outcome {
            Outcome::Done => debug!(queue = %self.queue, message_id, "done"),
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
    pub(super) fn follow(&mut self, tag: u64, held: Held, outcome: Outcome, runs: u32) {
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
                self.settle(tag, &held, settlement);
            }
            Decision::Copy { to, reason, error } => {
                match to {
                    Way::Retry(_) => &self.metrics.retried,
                    Way::Dead => &self.metrics.dead,
                }
                .inc();
                self.copy(tag, held, to, reason, error, runs);
            }
        }
    }

    /// Decides what the broker is told about a delivery of the present channel, and about the twins that wait
    /// for it.
    pub(super) fn settle(&mut self, tag: u64, held: &Held, settlement: Settlement) {
        self.decide(tag, settlement);
        self.unproven
            .decided((settlement == Settlement::Ack).then_some(held.identity));
        let Some(copy) = held.delivery.copy_id() else {
            return;
        };
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
        for Waiting { claim, held } in self.line.empty() {
            self.metrics.handed_back.inc();
            if let Some(drain) = &mut self.drain {
                drain.handed_back += 1;
            }
            self.settle(claim.tag, &held, Settlement::HandBack);
        }
        self.flush();
    }
}

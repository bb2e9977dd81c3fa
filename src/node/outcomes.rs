//! From a handler's outcome to its settlement.

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::run::Completion;
use super::task::Task;
use crate::broker::ConsumeChannel;
use crate::delivery::Delivery;
use crate::handler::Outcome;
use crate::retry;
use crate::settlement::{Decision, Settlement, decide};

impl Task {
    pub(super) fn complete(&mut self, completion: Completion) {
        let Some(run) = self.running.remove(&completion.run) else {
            // It was interrupted, and settled then.
            return;
        };
        self.metrics.run_ended(completion.run);
        self.metrics
            .handler
            .observe(run.started.elapsed().as_secs_f64());
        let Some(outcome) = completion.outcome else {
            self.interrupted(&run);
            return;
        };
        self.count(&outcome, &run.delivery);
        if let Some(drain) = &mut self.drain {
            drain.finished += 1;
        }
        let generation = self.channel.as_ref().map(ConsumeChannel::generation);
        if generation == Some(run.generation) {
            self.follow(run.tag, &run.delivery, &outcome);
        } else {
            info!(
                queue = %self.queue,
                message_id = run.delivery.properties.message_id,
                outcome = outcome.as_str(),
                "its channel is gone: the outcome cannot be settled, the broker delivers the message again"
            );
            self.metrics.unconfirmed.inc();
            if let Some(drain) = &mut self.drain {
                drain.unconfirmed += 1;
            }
        }
    }

    pub(super) fn count(&self, outcome: &Outcome, delivery: &Delivery) {
        let message_id = delivery.properties.message_id.as_deref();
        match outcome {
            Outcome::Done => {
                self.metrics.done.inc();
                debug!(queue = %self.queue, message_id, "done");
            }
            Outcome::Retry { reason, error, .. } => {
                self.metrics.retried.inc();
                let reason = reason.as_str();
                warn!(queue = %self.queue, message_id, attempt = delivery.attempt, reason, error, "retry");
            }
            Outcome::Dead { reason, error } => {
                self.metrics.dead.inc();
                let reason = reason.as_str();
                warn!(queue = %self.queue, message_id, attempt = delivery.attempt, reason, error, "dead");
            }
        }
    }

    /// Does what follows from an outcome of a delivery of the present channel.
    pub(super) fn follow(&mut self, tag: u64, delivery: &Delivery, outcome: &Outcome) {
        let policy_delay = || retry::delay(&self.settings.retry, delivery.attempt, rand::random());
        match decide(outcome, policy_delay, retry::LONGEST_HELD) {
            Decision::Now(settlement) => self.settle(tag, settlement),
            // A drain does not wait for retries: somebody else may run them.
            Decision::After(_, settlement) if self.drain.is_some() => self.settle(tag, settlement),
            Decision::After(delay, settlement) => {
                self.held.insert((Instant::now() + delay, tag), settlement);
            }
        }
    }

    pub(super) fn settle(&mut self, tag: u64, settlement: Settlement) {
        if let Some(drain) = &mut self.drain {
            drain.unproven += 1;
        }
        self.ledger
            .decide(tag, settlement)
            .expect("each delivery of the present channel is decided once");
    }

    pub(super) fn settle_due(&mut self) {
        let now = Instant::now();
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.reopen_at = None;
        }
        while let Some(entry) = self.held.first_entry()
            && entry.key().0 <= now
        {
            let ((_, tag), settlement) = entry.remove_entry();
            self.settle(tag, settlement);
        }
    }

    /// Decides to hand back every delivery that has not started, and every one that waits for its retry.
    pub(super) fn hand_back_unstarted(&mut self) {
        for (tag, _) in std::mem::take(&mut self.ready) {
            self.metrics.handed_back.inc();
            if let Some(drain) = &mut self.drain {
                drain.handed_back += 1;
            }
            self.settle(tag, Settlement::HandBack);
        }
        for ((_, tag), settlement) in std::mem::take(&mut self.held) {
            self.settle(tag, settlement);
        }
        self.flush();
    }
}

//! The way of a retry or a dead letter: a copy is published and confirmed, then the delivery is acknowledged.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tracing::{info, warn};
use ulid::Ulid;

use super::copier::Try;
use super::port::BrokerLink;
use super::task::Task;
use crate::broker::{Backoff, BrokerError};
use crate::handler::{Outcome, Reason};
use crate::retry::{self, Pending, Target, Why};
use crate::settlement::{ChannelTag, CopyTarget, InHand, Work};

/// A try to publish a copy that has ended: the copy's number, and how; `None` if it was given up.
pub(crate) type Copied =
    Pin<Box<dyn Future<Output = (u64, Option<Result<(), BrokerError>>)> + Send>>;

/// A copy on its way.
#[derive(Debug)]
pub(crate) struct Copying {
    copy: Arc<Pending>,
    current: Try,
    backoff: Backoff,
}

impl Copying {
    /// Gives the present try up if it cannot have reached the broker.
    pub(crate) fn abort_unless_published(&self) {
        if !self.current.may_be_published() {
            self.current.abort();
        }
    }
}

impl<L: BrokerLink> Task<L> {
    /// The destination of a retry or a dead letter that follows from run `runs`.
    pub(super) fn target(&self, to: CopyTarget, runs: u32) -> Target {
        let policy = &self.settings.retry;
        match to {
            CopyTarget::Retry(None) => Target::Delay {
                step: retry::delay(policy, runs, rand::random()),
                not_before: None,
            },
            CopyTarget::Retry(Some(wanted)) => {
                let step = retry::step(policy, wanted);
                let signed = SignedDuration::try_from(wanted).unwrap_or(SignedDuration::MAX);
                let at = (step < wanted).then(|| Timestamp::now().saturating_add(signed));
                Target::Delay {
                    step,
                    not_before: at.and_then(Result::ok),
                }
            }
            CopyTarget::Dead => Target::Dead {
                exchange: self.settings.dead_letter.exchange.clone(),
                routing_key: self.settings.dead_letter.routing_key.clone(),
            },
        }
    }

    /// `target`, or the dead letters if the message's time to live ends before it could be run again.
    pub(super) fn unless_expired(&self, work: &Work, target: Target, why: Why) -> (Target, Why) {
        let Target::Delay { step, .. } = &target else {
            return (target, why);
        };
        let step = SignedDuration::try_from(*step).unwrap_or(SignedDuration::MAX);
        let back_at = Timestamp::now().saturating_add(step);
        if !back_at.is_ok_and(|at| work.received.is_expired(at)) {
            return (target, why);
        }
        let ttl = work.delivery().properties.expiration.as_deref();
        let why = Why {
            reason: Reason::Expired,
            error: format!(
                "its time to live ({} ms) ends before the next run; the last one: {}",
                ttl.unwrap_or_default(),
                why.error
            ),
            ..why
        };
        (self.target(CopyTarget::Dead, why.attempts), why)
    }

    /// Publishes the copy of a delivery of the present channel to `target`; the delivery is acknowledged once the broker
    /// has confirmed the copy. A retry of which no copy can be made waits in its place.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "the copy takes the reason over"
    )]
    pub(super) fn copy(&mut self, place: ChannelTag, work: Work, target: Target, why: Why) {
        let (worker, now) = (&self.worker, Timestamp::now());
        let message = retry::copy(&work.received, &target, &why, worker, now, Ulid::new());
        let fitting = retry::fit(message, &target, self.copier.frame_max());
        match (fitting, target) {
            (Some(message), target) => {
                self.begin_copy(place, work, Arc::new(Pending { target, message }));
            }
            (None, target @ Target::Delay { .. }) => {
                let delay = target.wait(now).unwrap_or_default();
                let full = "its headers leave no room in a frame";
                if !self.retry_in_place(place, &work, delay, full) {
                    let why = Why {
                        error: format!(
                            "no copy for a retry fits a frame, and its delivery cannot be kept longer; the last run: {}",
                            why.error
                        ),
                        ..why
                    };
                    let target = self.target(CopyTarget::Dead, why.attempts);
                    self.copy(place, work, target, why);
                }
            }
            (None, Target::Dead { .. }) => {
                // Not even its fixed properties fit, which no broker allows.
                warn!(
                    queue = %self.queue,
                    message_id = work.message_id(),
                    frame_max = self.copier.frame_max(),
                    "no dead letter of the message fits a frame: it is handed back"
                );
                self.book.hand_back(place.tag, &work);
            }
        }
    }

    /// The message asked for a longer delay than the policy's longest: it waits on, and was not run.
    pub(super) fn wait_longer(&mut self, place: ChannelTag, work: Work, left: Duration) {
        let why = Why {
            reason: Reason::Handler,
            error: "it asked to be run later".to_owned(),
            attempts: work.delivery().attempt - 1,
        };
        let target = self.target(CopyTarget::Retry(Some(left)), why.attempts);
        let (target, why) = self.unless_expired(&work, target, why);
        self.copy(place, work, target, why);
    }

    /// The message's time to live ended while it waited for its next run.
    pub(super) fn expired(&mut self, place: ChannelTag, work: Work) {
        let ttl = work.delivery().properties.expiration.as_deref();
        let outcome = Outcome::Dead {
            reason: Reason::Expired,
            error: format!(
                "its time to live ({} ms) ended before its next run",
                ttl.unwrap_or_default()
            ),
        };
        self.set_aside(place, work, outcome);
    }

    pub(super) fn begin_copy(&mut self, place: ChannelTag, work: Work, copy: Arc<Pending>) {
        let number = self.next_copy;
        self.next_copy += 1;
        self.book.begin_copy(number, place, work);
        let current = self.try_copy(number, &copy, Duration::ZERO);
        let copying = Copying {
            copy,
            current,
            backoff: Backoff::default(),
        };
        self.copying.insert(number, copying);
        self.metrics.settling.copying.inc();
    }

    fn try_copy(&mut self, number: u64, copy: &Arc<Pending>, wait: Duration) -> Try {
        let (current, publishing) = self.copier.publish(Arc::clone(copy), wait);
        self.copied
            .push(Box::pin(async move { (number, publishing.await.ok()) }));
        current
    }

    /// A try has ended. A delivery whose copy the broker took is acknowledged. Any other copy is tried again, for as long
    /// as its delivery is here.
    pub(super) fn copy_ended(&mut self, number: u64, ended: Option<Result<(), BrokerError>>) {
        let Some(mut copying) = self.copying.remove(&number) else {
            return;
        };
        let now = Instant::now();
        let error = match ended {
            Some(Ok(())) => {
                match copying.copy.target {
                    Target::Delay { .. } => &self.metrics.settling.retries,
                    Target::Dead { .. } => &self.metrics.settling.dead,
                }
                .inc();
                self.metrics.settling.copying.dec();
                self.book.copy_taken(number, now);
                return;
            }
            Some(Err(error)) => Some(error),
            None => None,
        };
        if !self.book.copy_failed(number, &copying.copy, now) {
            self.metrics.settling.copying.dec();
            return;
        }
        if let Some(error) = error {
            self.metrics.settling.failures.inc();
            if self.retry_here(number, &copying, &error) {
                return;
            }
            self.log_copy_failure(number, &copying, &error);
        }
        let wait = copying.backoff.next(rand::random());
        copying.current = self.try_copy(number, &copying.copy, wait);
        self.copying.insert(number, copying);
    }

    /// Lets a retry of which the broker takes no copy wait in its delivery's place. `false` if it may take one, if the
    /// delivery cannot wait longer, or for a dead letter: its delivery is kept until the broker takes larger messages.
    fn retry_here(&mut self, number: u64, copying: &Copying, error: &BrokerError) -> bool {
        let BrokerError::TooLarge { .. } = error else {
            return false;
        };
        let Some(delay) = copying.copy.target.wait(Timestamp::now()) else {
            return false;
        };
        let Some(InHand { place, work }) = self.book.copy(number).cloned() else {
            return false;
        };
        if !self.retry_in_place(place, &work, delay, &error.to_string()) {
            return false;
        }
        self.book.end_copy(number);
        self.metrics.settling.copying.dec();
        true
    }

    fn log_copy_failure(&self, number: u64, copying: &Copying, error: &BrokerError) {
        let failures = copying.backoff.attempts() + 1;
        if failures.is_power_of_two() {
            let in_hand = self.book.copy(number);
            warn!(
                queue = %self.queue,
                message_id = in_hand.and_then(|in_hand| in_hand.work.message_id()),
                to = copying.copy.message.routing_key,
                failures,
                %error,
                "a copy was not taken; its delivery is kept, and the copy tried again"
            );
        }
    }

    /// Gives up every copy that is not confirmed, and hands its delivery back.
    pub(super) fn give_up_copies(&mut self) {
        for (_, copying) in std::mem::take(&mut self.copying) {
            copying.current.abort();
            self.metrics.settling.copying.dec();
        }
        let given_up = self.book.give_up_copies();
        if given_up > 0 {
            info!(
                queue = %self.queue,
                given_up,
                "copies that the broker did not confirm are given up; their deliveries are handed back"
            );
        }
        self.metrics.unconfirmed.inc_by(given_up);
    }
}

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
use super::run::{ChannelTag, Work};
use super::task::Task;
use crate::broker::{Backoff, BrokerError, ConsumeChannel};
use crate::handler::{Outcome, Reason};
use crate::retry::{self, Pending, Target, Why};
use crate::settlement::{Remembered, Settlement, Way};

/// A try to publish a copy that has ended: the copy's number, and how; `None` where it was given up.
pub(crate) type Copied =
    Pin<Box<dyn Future<Output = (u64, Option<Result<(), BrokerError>>)> + Send>>;

/// A delivery whose copy is on its way.
#[derive(Debug)]
pub(crate) struct Copying {
    pub place: ChannelTag,
    pub work: Work,
    copy: Arc<Pending>,
    current: Try,
    backoff: Backoff,
}

impl Task {
    /// Where a retry or a dead letter goes that follows from run `runs`.
    pub(super) fn target(&self, way: Way, runs: u32) -> Target {
        let policy = &self.settings.retry;
        match way {
            Way::Retry(None) => Target::Delay {
                step: retry::delay(policy, runs, rand::random()),
                not_before: None,
            },
            Way::Retry(Some(wanted)) => {
                let step = retry::step(policy, wanted);
                let signed = SignedDuration::try_from(wanted).unwrap_or(SignedDuration::MAX);
                let at = (step < wanted).then(|| Timestamp::now().saturating_add(signed));
                Target::Delay {
                    step,
                    not_before: at.and_then(Result::ok),
                }
            }
            Way::Dead => Target::Dead {
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
        (self.target(Way::Dead, why.attempts), why)
    }

    /// Publishes the copy of a delivery of the present channel to `target`; the delivery is acknowledged once the broker
    /// has confirmed the copy.
    pub(super) fn copy(&mut self, tag: u64, work: Work, target: Target, why: &Why) {
        let Some(generation) = self.channel.as_ref().map(ConsumeChannel::generation) else {
            return;
        };
        let (worker, now) = (&self.consumer_tag, Timestamp::now());
        let message = retry::copy(&work.received, &target, why, worker, now, Ulid::new());
        let copy = Arc::new(Pending { target, message });
        self.begin_copy(ChannelTag { generation, tag }, work, copy);
    }

    /// The message asked for a longer delay than the policy's longest: it waits on, and was not run.
    pub(super) fn wait_longer(&mut self, tag: u64, work: Work, left: Duration) {
        let why = Why {
            reason: Reason::Handler,
            error: "it asked to be run later".to_owned(),
            attempts: work.delivery().attempt - 1,
        };
        let target = self.target(Way::Retry(Some(left)), why.attempts);
        let (target, why) = self.unless_expired(&work, target, why);
        self.copy(tag, work, target, &why);
    }

    /// The message's time to live ended while it waited for its next run.
    pub(super) fn expired(&mut self, tag: u64, work: Work) {
        let ttl = work.delivery().properties.expiration.as_deref();
        let outcome = Outcome::Dead {
            reason: Reason::Expired,
            error: format!(
                "its time to live ({} ms) ended before its next run",
                ttl.unwrap_or_default()
            ),
        };
        self.log(&outcome, work.delivery());
        // It was not run.
        let runs = work.delivery().attempt - 1;
        self.follow(tag, work, outcome, runs);
    }

    pub(super) fn begin_copy(&mut self, place: ChannelTag, work: Work, copy: Arc<Pending>) {
        let number = self.next_copy;
        self.next_copy += 1;
        let current = self.try_copy(number, &copy, Duration::ZERO);
        let copying = Copying {
            place,
            work,
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

    /// A try has ended. A copy that the broker took is acknowledged; any other is tried again, for as long as its
    /// delivery is here.
    pub(super) fn copy_ended(&mut self, number: u64, ended: Option<Result<(), BrokerError>>) {
        let Some(mut copying) = self.copying.remove(&number) else {
            return;
        };
        let place = copying.place;
        let identity = copying.work.identity;
        let before = Remembered::Copying(number);
        match ended {
            Some(Ok(())) => {
                match copying.copy.target {
                    Target::Delay { .. } => &self.metrics.settling.retries,
                    Target::Dead { .. } => &self.metrics.settling.dead,
                }
                .inc();
                self.metrics.settling.copying.dec();
                if self.is_present(place) {
                    self.settle(place.tag, &copying.work, Settlement::Ack);
                } else {
                    self.adoption
                        .replace(identity, &before, Remembered::Finished);
                }
            }
            Some(Err(error)) if self.is_present(place) => {
                self.metrics.settling.failures.inc();
                let failures = copying.backoff.attempts() + 1;
                if failures.is_power_of_two() {
                    warn!(
                        queue = %self.queue,
                        message_id = copying.work.message_id(),
                        to = copying.copy.message.routing_key,
                        failures,
                        %error,
                        "a copy was not taken; its delivery is kept, and the copy tried again"
                    );
                }
                let wait = copying.backoff.next(rand::random());
                copying.current = self.try_copy(number, &copying.copy, wait);
                self.copying.insert(number, copying);
            }
            Some(Err(_)) | None => {
                self.metrics.settling.copying.dec();
                let unpublished = Remembered::Unpublished(copying.copy);
                self.adoption.replace(identity, &before, unpublished);
            }
        }
    }

    /// The channel `generation` is lost: a copy that may have been published goes on, and any other waits for
    /// its message to be delivered again.
    pub(super) fn remember_copies(&mut self, generation: u64, now: Instant) {
        for (number, copying) in &self.copying {
            if copying.place.generation == generation {
                let identity = copying.work.identity;
                let before = Remembered::Copying(*number);
                self.adoption.remember(identity, before, now);
                if !copying.current.may_be_published() {
                    copying.current.abort();
                }
            }
        }
    }

    /// Whether a delivery of the present channel waits for its copy.
    pub(super) fn is_copying(&self) -> bool {
        self.copying
            .values()
            .any(|copying| self.is_present(copying.place))
    }

    /// Gives up every copy that is not confirmed, and hands its delivery back.
    pub(super) fn give_up_copies(&mut self) {
        let mut given_up = 0_u64;
        for (_, copying) in std::mem::take(&mut self.copying) {
            copying.current.abort();
            self.metrics.settling.copying.dec();
            if self.is_present(copying.place) {
                self.settle(copying.place.tag, &copying.work, Settlement::HandBack);
                given_up += 1;
            }
        }
        if given_up > 0 {
            info!(
                queue = %self.queue,
                given_up,
                "copies that the broker did not confirm are given up; their deliveries are handed back"
            );
        }
        self.metrics.unconfirmed.inc_by(given_up);
        if let Some(drain) = &mut self.drain {
            drain.unconfirmed += given_up;
        }
    }
}

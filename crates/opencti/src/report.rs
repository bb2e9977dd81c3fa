//! Tells the platform what it has to be told, and sets aside what cannot be imported.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tidegate::delivery::{HeaderValue, Properties, header};
use tidegate::internal::broker::{BrokerError, Message as Outgoing};
use tidegate::internal::retry::{Purpose, seal};
use tracing::{error, info, warn};
use ulid::Ulid;

use crate::accounting::{Account, Call};
use crate::dead_letter;
use crate::discovery::Role;
use crate::engine::Letter;
use crate::gate::excerpt;
use crate::handler::{End, Job};
use crate::listen;
use crate::message::{Message, Origin};
use crate::push::unworked;
use crate::python::Headers;
use crate::schedule::asked_or_backoff;
use crate::signs::{Cause, Sign, cause};

/// The longest wait before a report is tried again during a drain.
const DRAIN_RETRY: Duration = Duration::from_secs(1);
/// How long a letter waits after the broker did not take it.
const LETTER_RETRY: Duration = Duration::from_secs(1);
/// How long a letter waits that is too large for the broker, until the broker may take larger ones.
const TOO_LARGE_RETRY: Duration = Duration::from_mins(1);
/// How much of an error's text a letter's header has, in bytes.
const ERROR_LIMIT: usize = 2_000;

/// Says so if reports are missing when a delivery ends.
struct Unreported<'a> {
    job: &'a Job,
    left: usize,
}

impl Drop for Unreported<'_> {
    fn drop(&mut self) {
        if self.left > 0 {
            error!(
                queue = self.job.node.queue,
                reports = self.left,
                "the platform did not take reports before the deadline: the message is handed back, and its \
                 objects will be imported again"
            );
        }
    }
}

impl Job {
    /// Tells the platform everything in `account`. A call that fails is tried again alone, in a drain until its
    /// deadline.
    pub(crate) async fn settle(&self, account: &mut Account, headers: &Headers) -> Result<(), End> {
        let mut unreported = Unreported {
            job: self,
            left: account.progress().0,
        };
        let mut failures = 0;
        while let Some((work, call)) = account.next_call() {
            let Err(sign) = self.tell(work, call, headers).await else {
                self.engine.metrics.report(true);
                account.settled();
                unreported.left = account.progress().0;
                failures = 0;
                continue;
            };
            self.engine.metrics.report(false);
            if is_final(&sign) {
                let (queue, why) = (&self.node.queue, excerpt(&sign));
                info!(queue, work, why, "the platform does not want a report");
                account.settled();
                unreported.left = account.progress().0;
                continue;
            }
            self.engine.gate.failed(&sign);
            let only_added = matches!(call, Call::Add(_)) && account.progress() == (1, 0);
            if only_added && self.context.is_draining() {
                // A split of which nothing was told: another worker can do all of it.
                unreported.left = 0;
                return Err(End::HandBack);
            }
            failures += 1;
            if failures == 1 {
                warn!(
                    queue = self.node.queue,
                    work,
                    why = excerpt(&sign),
                    "a report failed; it is tried again"
                );
            }
            let delay = asked_or_backoff(&sign, failures, rand::random());
            self.wait_to_report(delay, cause(&sign)).await?;
        }
        Ok(())
    }

    async fn wait_to_report(&self, delay: Duration, cause: Cause) -> Result<(), End> {
        if !self.context.is_draining() && self.hold(delay, cause).await.is_ok() {
            return Ok(());
        }
        if !self.context.is_draining() {
            // It was held for as long as the broker allows.
            return Err(End::HandBack);
        }
        tokio::time::sleep(delay.min(DRAIN_RETRY)).await;
        Ok(())
    }

    async fn tell(&self, work: &str, call: &Call, headers: &Headers) -> Result<(), Sign> {
        let platform = &self.engine.platform;
        match call {
            Call::Add(count) => platform.add_expectations(work, *count, headers).await,
            Call::Report {
                error,
                without_draft,
            } => {
                let headers = if *without_draft {
                    &headers.without_draft()
                } else {
                    headers
                };
                platform.report(work, error.as_ref(), headers).await
            }
        }
    }

    /// Sets the whole message aside for `reason`, `word` in a word, and reports it once if its work is known.
    pub(crate) async fn set_aside(
        &self,
        word: &'static str,
        reason: &str,
        origin: &Origin,
    ) -> Result<(), End> {
        warn!(
            queue = self.node.queue,
            connector = self.node.connector.name,
            reason,
            "a message is set aside"
        );
        let body = &self.delivery.body;
        let reported = origin.work.is_some();
        let kept = match &self.node.role {
            Role::Listen { .. } if reported => listen::without_work(body),
            Role::Listen { .. } => body.clone(),
            Role::Push { .. } => Message::read(body).map_or_else(
                |_unreadable| body.clone(),
                |message| unworked(&message, reported),
            ),
        };
        self.post(&self.own_letter(kept, word, reason, origin))
            .await?;
        let mut account = Account::new(origin.work.clone());
        account.poison(reason, &String::from_utf8_lossy(body));
        self.settle(&mut account, &Headers::new(origin, 0)).await
    }

    /// Publishes a letter until the broker has taken it. If it is too large, the message waits in its queue.
    pub(crate) async fn post(&self, letter: &Letter) -> Result<(), End> {
        let queue = &self.node.queue;
        let (mut message, mut otherwise) = (&letter.message, letter.otherwise.as_ref());
        loop {
            let to = &message.routing_key;
            match self.engine.publisher.publish_letter(message).await {
                Ok(()) => {
                    let to_platform = otherwise.is_some();
                    self.engine.metrics.letter(letter.reason, to_platform);
                    return Ok(());
                }
                Err(error) => {
                    let is_too_large = matches!(error, BrokerError::TooLarge { .. });
                    if (is_too_large || is_refused(&error))
                        && let Some(own) = otherwise.take()
                    {
                        warn!(queue, to, %error, "the platform's own dead letters take no object; it goes to ours");
                        message = own;
                    } else if is_too_large {
                        warn!(queue, to, %error, "a dead letter cannot be published; its message is kept");
                        self.hold(TOO_LARGE_RETRY, Cause::Invalid).await?;
                    } else {
                        warn!(queue, to, %error, "a dead letter waits for the broker");
                        tokio::time::sleep(LETTER_RETRY).await;
                    }
                }
            }
        }
    }

    /// A letter to our own queue.
    pub(crate) fn own_letter(
        &self,
        body: Bytes,
        reason: &'static str,
        error: &str,
        origin: &Origin,
    ) -> Letter {
        let delivery = &self.delivery;
        let mut properties = Properties {
            delivery_mode: Some(2),
            expiration: None,
            user_id: None,
            ..delivery.properties.clone()
        };
        let headers = &mut properties.headers;
        // What the message inherited from another one says nothing about this letter.
        headers.retain(|name, _| !name.starts_with(header::PREFIX));
        let connector = &self.node.connector;
        let error = &error[..error.floor_char_boundary(ERROR_LIMIT)];
        let reported = if origin.work.is_some() {
            "true"
        } else {
            "false"
        };
        let (at, copy) = (Timestamp::now().to_string(), Ulid::new().to_string());
        let set = [
            (header::REASON, reason),
            (header::ERROR, error),
            (header::QUEUE, &*delivery.queue),
            (header::EXCHANGE, delivery.exchange.as_str()),
            (header::ROUTING_KEY, delivery.routing_key.as_str()),
            (header::AT, at.as_str()),
            (header::COPY, copy.as_str()),
            (dead_letter::CONNECTOR, connector.id.as_str()),
            (dead_letter::CONNECTOR_NAME, connector.name.as_str()),
            (
                dead_letter::APPLICANT,
                origin.applicant.as_deref().unwrap_or_default(),
            ),
            (
                dead_letter::WORK,
                origin.work.as_deref().unwrap_or_default(),
            ),
            (dead_letter::REPORTED, reported),
        ];
        for (name, value) in set {
            if !value.is_empty() || name == header::EXCHANGE {
                headers.insert(name.to_owned(), value.into());
            }
        }
        let attempts = HeaderValue::I64(delivery.attempt.into());
        headers.insert(header::ATTEMPTS.to_owned(), attempts);
        seal(Purpose::Dead, &mut properties, &body);
        Letter {
            message: Outgoing {
                exchange: String::new(),
                routing_key: dead_letter::QUEUE.into(),
                mandatory: true,
                properties,
                body,
            },
            otherwise: None,
            reason,
        }
    }
}

/// Whether no queue takes a message with this exchange and routing key.
fn is_refused(error: &BrokerError) -> bool {
    matches!(
        error,
        BrokerError::NotAccepted { .. }
            | BrokerError::Refused {
                code: 403 | 404,
                ..
            }
    )
}

/// Whether trying a report again would end the same: the work is gone, or the platform refuses it.
fn is_final(sign: &Sign) -> bool {
    matches!(
        cause(sign),
        Cause::Invalid
            | Cause::WorkNotAlive
            | Cause::Forbidden
            | Cause::DraftLocked
            | Cause::MissingReference
    )
}

//! A delivery of a push queue: split a bundle, or import its objects.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tidegate::internal::broker::{BrokerError, Message as Outgoing};
use tidegate::internal::retry::mark;
use tokio::time::timeout;
use tracing::{info, warn};
use ulid::Ulid;

use crate::accounting::Account;
use crate::bundle::Bundle;
use crate::dead_letter::{PlatformReason, platform_letter, single_letter};
use crate::discovery::Role;
use crate::engine::Letter;
use crate::handler::{End, Given, Job};
use crate::message::{Message, Origin};
use crate::plan::{Import, Plan, plan};
use crate::publisher;
use crate::python::{Element, Headers, ImportRequest, PythonError, Split};
use crate::schedule::{Rejection, Runs};
use crate::signs::Cause;

impl Job {
    /// Deals with the delivery; says how many objects were dealt with.
    pub(crate) async fn push(&self) -> Result<usize, End> {
        self.wait_for_platform().await?;
        match plan(&self.delivery.body) {
            Plan::Poison { reason, origin } => {
                self.set_aside("undecodable", &reason, &origin).await?;
                Ok(1)
            }
            Plan::Split {
                message,
                origin,
                bundle,
                bundle_id,
            } => self.split(&message, &origin, &bundle, &bundle_id).await,
            Plan::Import(import) => self.import(&import).await,
        }
    }

    /// Publishes each part of the bundle as a message of its own.
    async fn split(
        &self,
        message: &Message,
        origin: &Origin,
        bundle: &Bundle,
        bundle_id: &str,
    ) -> Result<usize, End> {
        if self.context.is_draining() {
            return Err(End::HandBack);
        }
        let Role::Push {
            exchange,
            routing_key,
            ..
        } = &self.node.role
        else {
            return Err(End::HandBack);
        };
        let split = match self.elements(bundle, bundle_id, true).await? {
            Ok(split) => split,
            Err(given) => return self.end_whole(given, origin).await,
        };
        // Each element is given back as soon as its part is made: together they are as large as the bundle.
        let parts: Vec<_> = split
            .elements
            .into_iter()
            .map(|element| {
                let body = message.body_with_content(element.json.get().as_bytes(), &[]);
                let mut part = publisher::platform_message(exchange, routing_key, body);
                // If the confirm is lost, the part is published again. Imported twice, it would be reported twice.
                mark(&mut part, &self.node.queue, Ulid::new());
                part
            })
            .collect();
        let mut account = Account::new(origin.work.clone());
        account.declare(parts.len() as u64);
        if !account.is_settled() && self.context.is_draining() {
            return Err(End::HandBack);
        }
        self.settle(&mut account, &Headers::new(origin, 0)).await?;
        let mut imported = 0;
        for too_large in self.publish_all(&parts).await {
            // The broker would not take it from us, as it took the bundle from somebody: no other worker can have it.
            if let Plan::Import(import) = plan(&parts[too_large].body) {
                imported += self.import(&import).await?;
            }
        }
        // Each part counts its object when it is imported.
        Ok(imported)
    }

    /// Splits the bundle, in as many runs as it takes.
    async fn elements(
        &self,
        bundle: &Bundle,
        bundle_id: &str,
        parts: bool,
    ) -> Result<Result<Split, Given>, End> {
        let mut runs = Runs::default();
        let version = bundle.event_version.as_deref();
        loop {
            let running = self.engine.metrics.running();
            let python = &self.engine.python;
            let limit = self.engine.settings.python.item_timeout;
            let split = async {
                // Until a child is there nothing has begun, and a child takes seconds to start.
                let lease = tokio::select! {
                    biased;
                    () = self.context.draining() => return Ok(None),
                    lease = python.lease() => lease?,
                };
                let split = lease.split(&bundle.json, bundle_id, version, parts);
                split.await.map(Some)
            };
            let split = timeout(limit, split).await.unwrap_or_else(|_elapsed| {
                let text = format!("the split took longer than {limit:?}");
                Err(PythonError::Died(text))
            });
            drop(running);
            match split {
                Ok(None) => return Err(End::HandBack),
                Ok(Some(split)) => {
                    self.ticket.goes_on();
                    return Ok(Ok(split));
                }
                Err(error) => {
                    if let Some(given) = self.failed(&mut runs, &error.into_sign()).await? {
                        return Ok(Err(given));
                    }
                }
            }
        }
    }

    /// The message as a whole is not wanted, or given up.
    async fn end_whole(&self, given: Given, origin: &Origin) -> Result<usize, End> {
        if let Given::Rejected(rejection) = given {
            let word = match rejection.cause {
                Cause::Invalid => "undecodable",
                cause => cause.as_str(),
            };
            self.set_aside(word, &rejection.error, origin).await?;
        }
        Ok(1)
    }

    /// Publishes until the broker has taken all but those that are too large for it, which are returned. It goes on while a
    /// drain lasts: the expectations are declared.
    async fn publish_all(&self, parts: &[Outgoing]) -> Vec<usize> {
        let (mut done, mut too_large) = (0, Vec::new());
        while done < parts.len() {
            let Err(error) = self.engine.publisher.publish(parts, &mut done).await else {
                continue;
            };
            if let BrokerError::TooLarge { .. } = error {
                warn!(queue = self.node.queue, %error, "a part of a bundle cannot be published; it is imported here");
                too_large.push(done);
                done += 1;
                continue;
            }
            warn!(queue = self.node.queue, confirmed = done, parts = parts.len(), %error, "parts of a bundle wait for the broker");
            tokio::time::sleep(RETRY).await;
        }
        too_large
    }

    /// Imports the bundle's objects one by one; what the platform is told comes when all are done.
    async fn import(&self, import: &Import) -> Result<usize, End> {
        let origin = &import.origin;
        let split = match self
            .elements(&import.bundle, &import.bundle_id, false)
            .await?
        {
            Ok(split) => split,
            Err(given) => return self.end_whole(given, origin).await,
        };
        let mut account = Account::new(origin.work.clone());
        account.declare(import.declare);
        let mut letters = Vec::new();
        for element in &split.incompatible {
            account.incompatible(&element.id);
            let error = "Incompatible element in bundle";
            letters.push(self.rejected_letter(import, element, None, "incompatible", error));
        }
        for element in &split.elements {
            self.element(import, element, &mut account, &mut letters)
                .await?;
        }
        for letter in &letters {
            self.post(letter).await?;
        }
        self.settle(&mut account, &Headers::new(origin, 0)).await?;
        Ok(split.elements.len() + split.incompatible.len())
    }

    /// Imports one object, or notes why not.
    async fn element(
        &self,
        import: &Import,
        element: &Element,
        account: &mut Account,
        letters: &mut Vec<Letter>,
    ) -> Result<(), End> {
        let limit = self.engine.settings.objects_max_refs;
        if import.limited && limit > 0 && element.references >= limit {
            account.too_large(&element.id);
            let reason = PlatformReason::TooLarge {
                objects_max_refs: limit,
            };
            letters.push(self.rejected_letter(
                import,
                element,
                Some(&reason),
                "too_large",
                "Too large element in bundle",
            ));
            return Ok(());
        }
        match self.import_one(import, element).await? {
            None => {
                self.engine.metrics.imported();
                account.imported();
            }
            Some(Given::Skipped) => {
                let work = account.work().unwrap_or_default();
                if self.engine.dead_works.is_first(work) {
                    info!(
                        queue = self.node.queue,
                        work, "the platform has ended this work: its objects are skipped"
                    );
                }
            }
            Some(Given::Rejected(rejection)) => {
                account.rejected(&rejection, element.json.get());
                letters.push(self.rejection_letter(import, element, &rejection));
            }
        }
        Ok(())
    }

    async fn import_one(&self, import: &Import, element: &Element) -> Result<Option<Given>, End> {
        use secrecy::ExposeSecret as _;
        let mut runs = Runs::default();
        loop {
            self.wait_for_platform().await?;
            let engine = &self.engine;
            let running = engine.metrics.running();
            let token = engine.platform.token();
            let request = ImportRequest {
                connector: &self.node.connector.id,
                token: token.expose_secret(),
                headers: &Headers::new(&import.origin, runs.in_all()),
                item: &element.json,
                update: import.update,
                types: import.types.as_deref(),
                bundle_id: &import.bundle_id,
            };
            let limit = if import.long {
                Duration::MAX
            } else {
                engine.settings.python.item_timeout
            };
            let imported = timeout(limit, engine.python.import(&request)).await;
            drop(running);
            let imported = imported.unwrap_or_else(|_elapsed| {
                let text = format!("the import took longer than {limit:?}");
                Err(PythonError::Died(text))
            });
            match imported {
                Ok(()) => {
                    engine.gate.answered();
                    self.ticket.goes_on();
                    return Ok(None);
                }
                Err(error) => {
                    if let Some(given) = self.failed(&mut runs, &error.into_sign()).await? {
                        return Ok(Some(given));
                    }
                }
            }
        }
    }

    fn rejection_letter(
        &self,
        import: &Import,
        element: &Element,
        rejection: &Rejection,
    ) -> Letter {
        let last_error = rejection.to_platform.clone();
        let reason = last_error.map(|last_error| PlatformReason::MaxRetry { last_error });
        let cause = rejection.cause.as_str();
        self.rejected_letter(import, element, reason.as_ref(), cause, &rejection.error)
    }

    /// The letter of one object: to the platform's routing key if it is the platform's to deal with.
    fn rejected_letter(
        &self,
        import: &Import,
        element: &Element,
        to_platform: Option<&PlatformReason>,
        reason: &'static str,
        error: &str,
    ) -> Letter {
        let object = element.json.get();
        let reported = import.origin.work.is_some();
        let body = if import.bundle.objects > 1 {
            Message::read(&single_letter(&import.message, object, &import.bundle_id)).map_or_else(
                |_never| self.delivery.body.clone(),
                |letter| unworked(&letter, reported),
            )
        } else {
            unworked(&import.message, reported)
        };
        let own = self.own_letter(body, reason, error, &import.origin);
        let Role::Push {
            dead_letter: Some((exchange, key)),
            ..
        } = &self.node.role
        else {
            return own;
        };
        let connector = &self.node.connector.id;
        let platforms = to_platform
            .and_then(|reason| platform_letter(&import.message, object, reason, connector));
        match platforms {
            Some(body) => Letter {
                message: publisher::platform_message(exchange, key, body),
                otherwise: Some(own.message),
                reason,
            },
            None => own,
        }
    }
}

/// The wait before messages are published again.
const RETRY: Duration = Duration::from_secs(1);

/// The message without its work if that was told already: a replay must not report again.
pub(crate) fn unworked(message: &Message, reported: bool) -> Bytes {
    if reported {
        message.with(&[("work_id", Value::Null)])
    } else {
        message.with(&[])
    }
}

//! Says commands to workers, and brings their answers back to who asked.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use ulid::Ulid;

use super::state::Note;
use tidegate::delivery::Properties;
use tidegate::internal::broker::{BrokerError, Message, Publisher, SessionState};
use tidegate::internal::status::control::{ALL_KEY, COMMAND_TYPE, Command, Reply, worker_key};
use tidegate::internal::status::wire::APP_ID;

/// The AMQP property `type` of a mark in the log.
const MARK_TYPE: &str = "tidegate.mark.v1";
/// The AMQP property `type` of a note in the log.
pub(crate) const NOTE_TYPE: &str = "tidegate.note.v1";
/// How long the broker may take to route a command.
const SAY_LIMIT: Duration = Duration::from_secs(5);
/// How long a worker may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Commands that wait for an answer at a time.
const WAITING_LIMIT: usize = 1_000;

/// Why a command has no answer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// There is no connection that answers could come by.
    #[error("the fleet program has no connection to the broker")]
    NotConnected,
    /// Too many wait already.
    #[error("{WAITING_LIMIT} commands wait for an answer already")]
    Busy,
    /// The worker's control queue is not there.
    #[error("the worker's control queue is gone")]
    Gone,
    /// It is there, and did not answer.
    #[error("the worker has not answered within {ANSWER_LIMIT:?}")]
    NoAnswer,
    /// The broker did not take the command; it may have been sent.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// The part that speaks.
#[derive(Debug)]
pub(crate) struct Speaker {
    exchange: String,
    session: watch::Receiver<SessionState>,
    /// Where answers are heard; nothing while they are not.
    reply_to: Mutex<Option<String>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Reply>>>,
    publisher: tokio::sync::Mutex<Option<(u64, Publisher)>>,
}

impl Speaker {
    /// Speaks to the exchange by the session's connection, which publishes and nothing else.
    pub(crate) fn new(exchange: String, session: watch::Receiver<SessionState>) -> Self {
        Self {
            exchange,
            session,
            reply_to: Mutex::default(),
            waiting: Mutex::default(),
            publisher: tokio::sync::Mutex::default(),
        }
    }

    /// Answers are heard on this queue, or on none.
    pub(crate) fn listen_on(&self, queue: Option<String>) {
        *locked(&self.reply_to) = queue;
    }

    /// Whether a command can be said and its answer heard.
    pub(crate) fn can_speak(&self) -> bool {
        let session = self.session.borrow();
        let linked = session.link().is_some_and(|link| !link.is_blocked());
        linked && locked(&self.reply_to).is_some()
    }

    /// Says a command to a worker, or to all; whether anybody's queue was there. Its answer comes to nobody but
    /// the fleet's state.
    ///
    /// # Errors
    /// Where it is not known to have been said.
    pub(crate) async fn say(
        &self,
        worker: Option<&str>,
        command: &Command,
    ) -> Result<bool, CommandError> {
        self.publish(worker, command, None).await
    }

    /// Says a command to a worker and awaits its answer.
    ///
    /// # Errors
    /// Where there is none.
    pub(crate) async fn command(
        &self,
        worker: &str,
        command: &Command,
    ) -> Result<Reply, CommandError> {
        let correlation = Ulid::new().to_string();
        let (sender, answer) = oneshot::channel();
        {
            let mut waiting = locked(&self.waiting);
            if waiting.len() >= WAITING_LIMIT {
                return Err(CommandError::Busy);
            }
            waiting.insert(correlation.clone(), sender);
        }
        let waiting = Waiting {
            speaker: self,
            correlation,
        };
        let correlation = Some(waiting.correlation.clone());
        if !self.publish(Some(worker), command, correlation).await? {
            return Err(CommandError::Gone);
        }
        match timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(reply)) if reply.worker == worker => Ok(reply),
            _ => Err(CommandError::NoAnswer),
        }
    }

    /// An answer has come.
    pub(crate) fn answered(&self, correlation: Option<&str>, reply: &Reply) {
        let sender = correlation.and_then(|id| locked(&self.waiting).remove(id));
        if let Some(sender) = sender {
            // Who asked may have gone.
            let _ = sender.send(reply.clone());
        }
    }

    /// Puts a mark into a stream.
    ///
    /// # Errors
    /// Where it is not known to be there.
    pub(crate) async fn mark(&self, stream: &str, mark: &str) -> Result<(), CommandError> {
        let properties = Properties {
            correlation_id: Some(mark.to_owned()),
            ..log_properties(MARK_TYPE)
        };
        self.append(stream, properties, Bytes::new()).await
    }

    /// Puts a note into a stream.
    ///
    /// # Errors
    /// Where it is not known to be there.
    pub(crate) async fn note(&self, stream: &str, note: &Note) -> Result<(), CommandError> {
        let properties = Properties {
            content_type: Some("application/json".to_owned()),
            ..log_properties(NOTE_TYPE)
        };
        self.append(stream, properties, note.to_json().into()).await
    }

    async fn append(
        &self,
        stream: &str,
        properties: Properties,
        body: Bytes,
    ) -> Result<(), CommandError> {
        let message = Message {
            exchange: String::new(),
            routing_key: stream.to_owned(),
            mandatory: true,
            properties,
            body,
        };
        if self.route(&message).await? {
            return Ok(());
        }
        let cause = format!("there is no {stream:?}");
        Err(BrokerError::NotAccepted { cause }.into())
    }

    async fn publish(
        &self,
        worker: Option<&str>,
        command: &Command,
        correlation_id: Option<String>,
    ) -> Result<bool, CommandError> {
        if !self.can_speak() {
            return Err(CommandError::NotConnected);
        }
        let reply_to = locked(&self.reply_to).clone();
        let body = serde_json::to_vec(command).expect("a command is plain data");
        let message = Message {
            exchange: self.exchange.clone(),
            routing_key: worker.map_or_else(|| ALL_KEY.to_owned(), worker_key),
            mandatory: worker.is_some(),
            properties: Properties {
                content_type: Some("application/json".to_owned()),
                kind: Some(COMMAND_TYPE.to_owned()),
                app_id: Some(APP_ID.to_owned()),
                // Nobody wants to be told later.
                expiration: Some(ANSWER_LIMIT.as_millis().to_string()),
                reply_to: reply_to.filter(|_| wants_answer(command)),
                correlation_id,
                ..Properties::default()
            },
            body: body.into(),
        };
        self.route(&message).await
    }

    /// Publishes a message; whether a queue was there for it.
    async fn route(&self, message: &Message) -> Result<bool, CommandError> {
        let said = async {
            let publisher = self.publisher().await?;
            publisher.publish(message).await?.routed().await
        };
        let what = "saying a command";
        let limit = SAY_LIMIT;
        let said = timeout(limit, said)
            .await
            .unwrap_or(Err(BrokerError::TimedOut { what, limit }));
        Ok(said?)
    }

    async fn publisher(&self) -> Result<Publisher, BrokerError> {
        let mut kept = self.publisher.lock().await;
        let link = self.session.borrow().link().cloned();
        let link = link.ok_or_else(|| BrokerError::Lost {
            what: "saying a command",
            cause: "there is no connection".to_owned(),
        })?;
        if let Some((generation, publisher)) = &*kept
            && *generation == link.generation()
            && publisher.is_open()
        {
            return Ok(publisher.clone());
        }
        let publisher = Publisher::open(&link).await?;
        *kept = Some((link.generation(), publisher.clone()));
        Ok(publisher)
    }
}

fn log_properties(kind: &str) -> Properties {
    Properties {
        delivery_mode: Some(2),
        kind: Some(kind.to_owned()),
        app_id: Some(APP_ID.to_owned()),
        ..Properties::default()
    }
}

fn wants_answer(command: &Command) -> bool {
    !matches!(command, Command::Cadence { .. })
}

/// A place among those that wait, given up when this is dropped.
struct Waiting<'a> {
    speaker: &'a Speaker,
    correlation: String,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        locked(&self.speaker.waiting).remove(&self.correlation);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

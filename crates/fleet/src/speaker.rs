//! Sends commands to workers, and returns their replies to whoever asked.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;
use ulid::Ulid;

use super::state::{ANSWER_LIMIT, Note};
use tidegate::delivery::Properties;
use tidegate::internal::broker::{BrokerError, Link, LinkState, Message, Publisher, SessionState};
use tidegate::internal::status::control::{ALL_KEY, COMMAND_TYPE, Command, Reply, worker_key};
use tidegate::internal::status::wire::APP_ID;

/// The AMQP property `type` of a mark in the log.
const MARK_TYPE: &str = "tidegate.mark.v1";
/// The AMQP property `type` of a note in the log.
pub(crate) const NOTE_TYPE: &str = "tidegate.note.v1";
/// The time limit for the broker to route a command.
const SEND_LIMIT: Duration = Duration::from_secs(5);
/// Commands that wait for a reply at a time.
const WAITING_LIMIT: usize = 1_000;

/// Why workers cannot be asked or commanded now.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Obstacle {
    /// There is no connection that replies could come by.
    #[error("there is no connection to the broker")]
    NotConnected,
    /// The broker reads nothing from a connection that has published.
    #[error("the broker is in an alarm and blocks connections that publish: {reason}")]
    Blocked {
        /// The broker's own words.
        reason: String,
    },
    /// The log of states is not read to its end, or the broker has not taken the question to all workers.
    #[error(
        "the broker has not yet sent its whole log of states, or not yet passed on a question to the workers"
    )]
    NotCaughtUp,
}

/// Why a command has no reply.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommandError {
    /// Nothing can be sent now.
    #[error(transparent)]
    CannotSend(#[from] Obstacle),
    /// Too many commands wait already.
    #[error("{WAITING_LIMIT} commands wait for a reply already")]
    Busy,
    /// The worker's control queue is not there.
    #[error("the worker's control queue is gone")]
    Gone,
    /// It is there, and did not answer.
    #[error("the worker has not answered within {ANSWER_LIMIT:?}")]
    NoAnswer,
    /// The broker did not confirm the command; it may have been sent.
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// The part that sends commands.
#[derive(Debug)]
pub(crate) struct Speaker {
    exchange: String,
    session: watch::Receiver<SessionState>,
    /// The queue for replies; nothing while there is none.
    reply_to: Mutex<Option<String>>,
    waiting: Mutex<HashMap<String, oneshot::Sender<Reply>>>,
    publisher: tokio::sync::Mutex<Option<(u64, Publisher)>>,
}

impl Speaker {
    /// Publishes to the exchange on the session's connection, which does nothing else.
    pub(crate) fn new(exchange: String, session: watch::Receiver<SessionState>) -> Self {
        Self {
            exchange,
            session,
            reply_to: Mutex::default(),
            waiting: Mutex::default(),
            publisher: tokio::sync::Mutex::default(),
        }
    }

    /// Replies come to this queue, or there is none for them.
    pub(crate) fn listen_on(&self, queue: Option<String>) {
        *locked(&self.reply_to) = queue;
    }

    /// Whether a command can be sent and its reply received.
    pub(crate) fn can_speak(&self) -> bool {
        self.obstacle().is_none()
    }

    /// What keeps a command from being sent or its reply from being received.
    pub(crate) fn obstacle(&self) -> Option<Obstacle> {
        let state = self.session.borrow().link().map(Link::state);
        match state {
            Some(LinkState::Blocked { reason }) => Some(Obstacle::Blocked { reason }),
            Some(LinkState::Up) if locked(&self.reply_to).is_some() => None,
            _ => Some(Obstacle::NotConnected),
        }
    }

    /// Sends a command to a worker, or to all, and wants no reply. Returns whether a queue was there for it.
    ///
    /// # Errors
    /// If it is not known to have been sent.
    pub(crate) async fn tell(
        &self,
        worker: Option<&str>,
        command: &Command,
    ) -> Result<bool, CommandError> {
        self.publish(worker, command, None, None).await
    }

    /// Sends a command to a worker, or to all; replies go to the fleet's state. Returns whether a queue was there for
    /// it.
    ///
    /// # Errors
    /// If it is not known to have been sent.
    pub(crate) async fn ask(
        &self,
        worker: Option<&str>,
        command: &Command,
    ) -> Result<bool, CommandError> {
        let reply_to = locked(&self.reply_to).clone();
        self.publish(worker, command, reply_to, None).await
    }

    /// Sends a command to a worker and awaits its reply.
    ///
    /// # Errors
    /// If no reply comes.
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
        let reply_to = locked(&self.reply_to).clone();
        let sent = self.publish(Some(worker), command, reply_to, correlation);
        if !sent.await? {
            return Err(CommandError::Gone);
        }
        match timeout(ANSWER_LIMIT, answer).await {
            Ok(Ok(reply)) if reply.worker == worker => Ok(reply),
            _ => Err(CommandError::NoAnswer),
        }
    }

    /// A reply has come.
    pub(crate) fn answered(&self, correlation: Option<&str>, reply: &Reply) {
        let sender = correlation.and_then(|id| locked(&self.waiting).remove(id));
        if let Some(sender) = sender {
            // The asker may have gone.
            let _ = sender.send(reply.clone());
        }
    }

    /// Puts a mark into a stream.
    ///
    /// # Errors
    /// If it is not known to be there.
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
    /// If it is not known to be there.
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
        reply_to: Option<String>,
        correlation_id: Option<String>,
    ) -> Result<bool, CommandError> {
        if let Some(obstacle) = self.obstacle() {
            return Err(obstacle.into());
        }
        let body = serde_json::to_vec(command).expect("a command is plain data");
        let message = Message {
            exchange: self.exchange.clone(),
            routing_key: worker.map_or_else(|| ALL_KEY.to_owned(), worker_key),
            mandatory: worker.is_some(),
            properties: Properties {
                content_type: Some("application/json".to_owned()),
                kind: Some(COMMAND_TYPE.to_owned()),
                app_id: Some(APP_ID.to_owned()),
                // It would come too late.
                expiration: Some(ANSWER_LIMIT.as_millis().to_string()),
                reply_to,
                correlation_id,
                ..Properties::default()
            },
            body: body.into(),
        };
        self.route(&message).await
    }

    /// Publishes a message; whether a queue was there for it.
    async fn route(&self, message: &Message) -> Result<bool, CommandError> {
        let sent = async {
            let publisher = self.publisher().await?;
            publisher.publish(message).await?.routed().await
        };
        let what = "sending a command";
        let limit = SEND_LIMIT;
        let sent = timeout(limit, sent)
            .await
            .unwrap_or(Err(BrokerError::TimedOut { what, limit }));
        Ok(sent?)
    }

    async fn publisher(&self) -> Result<Publisher, BrokerError> {
        let mut kept = self.publisher.lock().await;
        let link = self.session.borrow().link().cloned();
        let link = link.ok_or_else(|| BrokerError::Lost {
            what: "sending a command",
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

/// A place among the waiting commands, given up when this is dropped.
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

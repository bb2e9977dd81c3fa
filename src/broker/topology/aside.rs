//! The queues beside a node's own: the delay queues of its retries, and the queue of its dead letters.

use std::time::Duration;

use lapin::types::{AMQPValue, FieldTable};

use super::super::declare::{declare_queue, durable, text};
use super::super::inspect::{find_exchange, find_queue};
use super::super::{BrokerError, Link};
use super::inequivalent;
use crate::config::{NodeSettings, QueueType};
use crate::retry;

/// How long beyond its delay an unused delay queue is kept. The broker deletes it with what is in it, which
/// may wait for a full queue; a publisher declares it again long before.
const KEPT_UNUSED: Duration = Duration::from_hours(24);

/// What a node needs beside its queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Companion {
    /// The queue of its dead letters.
    DeadQueue(String),
    /// The exchange that its dead letters are published to. Nobody declares it here.
    DeadExchange(String),
    /// The queue in which its messages wait for a retry.
    DelayQueue {
        /// The queue's name.
        name: String,
        /// How long they wait.
        step: Duration,
    },
}

impl Companion {
    /// What the node needs: its dead letters and, unless the queue itself delays retries, a queue for each delay.
    pub fn all(node: &NodeSettings, delayed_retry: bool) -> Vec<Self> {
        let dead = &node.dead_letter;
        let mut all = vec![if dead.exchange.is_empty() {
            Self::DeadQueue(dead.routing_key.clone())
        } else {
            Self::DeadExchange(dead.exchange.clone())
        }];
        if node.retry.max_attempts > 1 && !delayed_retry {
            let steps = retry::delays(&node.retry).into_iter();
            all.extend(steps.map(|step| Self::DelayQueue {
                name: retry::delay_queue(&node.queue, step),
                step,
            }));
        }
        all
    }

    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::DeadQueue(name) | Self::DeadExchange(name) | Self::DelayQueue { name, .. } => {
                name
            }
        }
    }

    /// Whether it is there, whatever its arguments (passive).
    ///
    /// # Errors
    /// [`BrokerError::Refused`] with 403 without permission.
    pub async fn is_there(&self, link: &Link) -> Result<bool, BrokerError> {
        let found = match self {
            Self::DeadQueue(name) | Self::DelayQueue { name, .. } => {
                find_queue(link, name).await.map(drop)
            }
            Self::DeadExchange(name) => find_exchange(link, name).await,
        };
        match found {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Declares it for `node`, whose queue is of type `kind`. An exchange is only looked for: nothing tells of what type
    /// it is to be.
    ///
    /// # Errors
    /// [`BrokerError::Refused`] with 404 for an exchange that is missing, 406 for a delay queue with other arguments,
    /// 403 without permission.
    pub async fn create(
        &self,
        link: &Link,
        node: &NodeSettings,
        kind: QueueType,
    ) -> Result<(), BrokerError> {
        match self {
            Self::DeadQueue(name) => ensure_dead_queue(link, name, kind).await,
            Self::DeadExchange(name) => find_exchange(link, name).await,
            Self::DelayQueue { step, .. } => ensure_delay_queue(link, node, *step).await,
        }
    }

    fn in_words(&self) -> String {
        let noun = match self {
            Self::DeadQueue(_) | Self::DelayQueue { .. } => "queue",
            Self::DeadExchange(_) => "exchange",
        };
        format!("{noun} {:?}", self.name())
    }
}

/// Makes sure of what the dead letters of `node` go to. With `declare = false` it looks for that, and for the delay queues,
/// which are otherwise declared soon after. The node's queue is of type `kind`.
///
/// # Errors
/// [`BrokerError::Missing`] names all that is missing with `declare = false`; else as
/// [`ensure_dead_queue`].
pub(crate) async fn ensure_aside(
    link: &Link,
    node: &NodeSettings,
    kind: QueueType,
    delayed_retry: bool,
) -> Result<(), BrokerError> {
    let companions = Companion::all(node, delayed_retry);
    if node.declare {
        return companions[0].create(link, node, kind).await;
    }
    let mut names = Vec::new();
    for companion in companions {
        if !companion.is_there(link).await? {
            names.push(companion.in_words());
        }
    }
    if names.is_empty() {
        Ok(())
    } else {
        Err(BrokerError::Missing { names })
    }
}

/// Makes sure of a queue of dead letters. One that exists is used as it is. A missing one is declared, of the type of the
/// queue that they come from; without a delivery limit, so that looking at it again and again loses nothing.
///
/// # Errors
/// [`BrokerError::Refused`] with 403 without permission.
pub(crate) async fn ensure_dead_queue(
    link: &Link,
    name: &str,
    kind: QueueType,
) -> Result<(), BrokerError> {
    match find_queue(link, name).await {
        Err(error) if error.code() == Some(404) => {}
        found => return found.map(drop),
    }
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text(kind.as_str()));
    if kind == QueueType::Quorum && link.server().is_at_least(4, 0) {
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(-1));
    }
    match declare(link, name, arguments).await {
        // Somebody else was faster.
        Err(BrokerError::Refused {
            code: 406, text, ..
        }) if inequivalent(&text).is_some() => Ok(()),
        declared => declared,
    }
}

/// Declares the queue in which messages of the node wait for `step`: a quorum queue, whatever the node's queue is, because
/// it alone dead-letters at least once (RabbitMQ 3.10 and later). It keeps a message until the node's queue has it. It goes
/// when it is unused, if the node may declare it again.
///
/// # Errors
/// [`BrokerError::Refused`] with 406 if it is there with other arguments, 403 without permission.
pub(crate) async fn ensure_delay_queue(
    link: &Link,
    node: &NodeSettings,
    step: Duration,
) -> Result<(), BrokerError> {
    let name = retry::delay_queue(&node.queue, step);
    let arguments = |expires| delay_arguments(&node.queue, step, expires);
    match declare(link, &name, arguments(node.declare)).await {
        // Another node, or an operator, declared it for a worker that does not declare, or the other way round.
        Err(BrokerError::Refused {
            code: 406, text, ..
        }) if inequivalent(&text).is_some_and(|found| found.argument == EXPIRES) => {
            declare(link, &name, arguments(!node.declare)).await
        }
        declared => declared,
    }
}

const EXPIRES: &str = "x-expires";

fn delay_arguments(queue: &str, step: Duration, expires: bool) -> FieldTable {
    let millis = |duration: Duration| {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        AMQPValue::LongLongInt(millis)
    };
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", text("quorum")),
        ("x-message-ttl", millis(step)),
        ("x-dead-letter-exchange", text("")),
        ("x-dead-letter-routing-key", text(queue)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ] {
        arguments.insert(name.into(), value);
    }
    if expires {
        arguments.insert(EXPIRES.into(), millis(step + KEPT_UNUSED));
    }
    arguments
}

async fn declare(link: &Link, name: &str, arguments: FieldTable) -> Result<(), BrokerError> {
    declare_queue(link, name, durable(), arguments)
        .await
        .map(drop)
}

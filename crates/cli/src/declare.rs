//! Queues and exchanges that a worker needs, declared by somebody with the right to do so.

use serde::Serialize;

use tidegate::config::{NodeSettings, QueueType, Settings};
use tidegate::internal::broker::{
    BrokerError, Companion, Link, declare_topic_exchange, ensure_queue, find_exchange, find_queue,
    queue_type,
};

/// What became of one queue or exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Declared {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The queue of the node that needs it; `None` if the worker itself does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// What it is for.
    pub purpose: Purpose,
    /// What was found and done.
    pub state: State,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A queue or an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// A queue.
    Queue,
    /// An exchange.
    Exchange,
}

/// What a queue or an exchange is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// Status messages.
    Status,
    /// Commands.
    Control,
    /// A node's messages.
    Work,
    /// Its dead letters.
    DeadLetters,
    /// Its retries.
    Retries,
}

/// What was found and done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It is there.
    Exists,
    /// It was missing, and is there now.
    Created,
    /// It is missing, and a run without `--dry-run` would create it.
    Missing,
    /// It is not there, or not usable, and this command does not change that.
    Failed,
}

/// Walks over everything that a worker with these settings needs, and creates what is missing unless `dry_run`.
///
/// A queue of a node with `declare = false` is somebody else's, and is never created.
///
/// # Errors
/// If the connection is of no more use. What the broker refuses is in the list.
pub(crate) async fn declare_all(
    settings: &Settings,
    link: &Link,
    dry_run: bool,
) -> Result<Vec<Declared>, BrokerError> {
    let mut walk = Walk {
        link,
        dry_run,
        found: Vec::new(),
    };
    if settings.status.enabled {
        let status = &settings.status;
        walk.exchange(&status.exchange, Purpose::Status).await?;
        walk.exchange(&status.control, Purpose::Control).await?;
    }
    for node in &settings.nodes {
        walk.node(node).await?;
    }
    Ok(walk.found)
}

/// What stands there, and whether this command may create it if nothing does.
struct Item<'n> {
    kind: Kind,
    name: &'n str,
    node: Option<&'n NodeSettings>,
    purpose: Purpose,
}

struct Walk<'l> {
    link: &'l Link,
    dry_run: bool,
    found: Vec<Declared>,
}

impl Walk<'_> {
    async fn exchange(&mut self, name: &str, purpose: Purpose) -> Result<(), BrokerError> {
        let item = Item {
            kind: Kind::Exchange,
            name,
            node: None,
            purpose,
        };
        let is_there = exists(find_exchange(self.link, name).await);
        let create = declare_topic_exchange(self.link, name);
        self.item(&item, is_there, create).await
    }

    async fn node(&mut self, node: &NodeSettings) -> Result<(), BrokerError> {
        let link = self.link;
        let item = Item {
            kind: Kind::Queue,
            name: &node.queue,
            node: Some(node),
            purpose: Purpose::Work,
        };
        let is_there = exists(find_queue(link, &node.queue).await.map(drop));
        let missing = matches!(is_there, Ok(false));
        if missing && !node.declare {
            let error = "is missing, and declare = false: create it first";
            self.note(&item, State::Failed, Some(error.to_owned()));
            return Ok(());
        }
        let create = async { ensure_queue(link, node).await.map(drop) };
        self.item(&item, is_there, create).await?;
        let kind = match queue_type(link, &node.queue).await {
            Ok(kind) => kind.unwrap_or(node.kind),
            Err(error) if error.code() == Some(404) => node.kind,
            Err(error) => {
                self.replace_last(refusal(error)?);
                return Ok(());
            }
        };
        for companion in Companion::all(node, node.delayed_retry) {
            self.companion(node, kind, &companion).await?;
        }
        Ok(())
    }

    async fn companion(
        &mut self,
        node: &NodeSettings,
        queue_kind: QueueType,
        companion: &Companion,
    ) -> Result<(), BrokerError> {
        let (kind, purpose) = match companion {
            Companion::DeadQueue(_) => (Kind::Queue, Purpose::DeadLetters),
            Companion::DeadExchange(_) => (Kind::Exchange, Purpose::DeadLetters),
            Companion::DelayQueue { .. } => (Kind::Queue, Purpose::Retries),
        };
        let item = Item {
            kind,
            name: companion.name(),
            node: Some(node),
            purpose,
        };
        let is_there = companion.is_there(self.link).await;
        if kind == Kind::Exchange && matches!(is_there, Ok(false)) {
            let error = "is missing, and nothing tells of what type it is to be: create it first";
            self.note(&item, State::Failed, Some(error.to_owned()));
            return Ok(());
        }
        let create = companion.create(self.link, node, queue_kind);
        self.item(&item, is_there, create).await
    }

    /// Creates `item` unless it is there or nothing may change, and notes what came of it.
    async fn item(
        &mut self,
        item: &Item<'_>,
        is_there: Result<bool, BrokerError>,
        create: impl Future<Output = Result<(), BrokerError>>,
    ) -> Result<(), BrokerError> {
        let (state, error) = match is_there {
            Ok(true) => (State::Exists, None),
            Ok(false) if self.dry_run => (State::Missing, None),
            Ok(false) => match create.await {
                Ok(()) => (State::Created, None),
                Err(error) => (State::Failed, Some(refusal(error)?)),
            },
            Err(error) => (State::Failed, Some(refusal(error)?)),
        };
        self.note(item, state, error);
        Ok(())
    }

    fn note(&mut self, item: &Item<'_>, state: State, error: Option<String>) {
        self.found.push(Declared {
            kind: item.kind,
            name: item.name.to_owned(),
            node: item.node.map(|node| node.queue.clone()),
            purpose: item.purpose,
            state,
            error,
        });
    }

    /// The item that was noted last is there, but cannot be used.
    fn replace_last(&mut self, error: String) {
        if let Some(last) = self.found.last_mut() {
            last.state = State::Failed;
            last.error = Some(error);
        }
    }
}

fn exists(found: Result<(), BrokerError>) -> Result<bool, BrokerError> {
    match found {
        Ok(()) => Ok(true),
        Err(error) if error.code() == Some(404) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The text of a refusal after which the connection still works.
///
/// # Errors
/// Every other error.
pub(crate) fn refusal(error: BrokerError) -> Result<String, BrokerError> {
    match error {
        BrokerError::Refused { .. }
        | BrokerError::NotAccepted { .. }
        | BrokerError::Stream { .. }
        | BrokerError::Unworkable { .. } => Ok(error.to_string()),
        _ => Err(error),
    }
}

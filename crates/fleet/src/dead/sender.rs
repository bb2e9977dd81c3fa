//! The sender publishes dead letters again, and keeps the journal.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::warn;
use ulid::Ulid;

use super::journal::{INTENT_TYPE, MARK};
use super::{Destination, Journal, Republish};
use tidegate::delivery::Properties;
use tidegate::internal::broker::{
    BrokerError, Confirm, Link, Message, Publisher, PullChannel, declare_kept_for, lock,
};

/// How long the broker may take to confirm a message.
const CONFIRM_LIMIT: Duration = Duration::from_secs(30);
/// How long the broker keeps an unused journal.
const JOURNAL_KEPT: Duration = Duration::from_hours(30 * 24);
/// How many entries of a journal are read. An interrupted pass leaves one.
const JOURNAL_LIMIT: u32 = 10_000;
/// How long an entry may take to be in the journal after its message is confirmed or refused.
const ENTRY_LIMIT: Duration = Duration::from_secs(5);
/// How often we look for it.
const ENTRY_INTERVAL: Duration = Duration::from_millis(20);
/// How long a pass waits for another pass to end, or for the broker to notice that it has ended.
const LOCK_LIMIT: Duration = Duration::from_secs(10);
/// How often it tries meanwhile.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// The result of publishing a message.
pub(super) enum Sent {
    /// The broker has it.
    Taken,
    /// The broker does not want it, but works on.
    Refused {
        /// Why.
        error: BrokerError,
        /// Whether the journal has an entry for it.
        has_entry: bool,
    },
}

/// Publishes letters, and writes the journal.
pub(super) struct Sender {
    pub(super) id: Ulid,
    link: Link,
    publisher: Publisher,
    name: Arc<str>,
    pub(super) journal: Journal,
}

impl Sender {
    /// Locks the journal, and reads the entries of earlier passes on `channel`.
    pub(super) async fn begin(
        link: &Link,
        name: &str,
        channel: &PullChannel,
    ) -> Result<Self, BrokerError> {
        lock_journal(link, name).await?;
        let entries = declare_kept_for(link, name, JOURNAL_KEPT).await?;
        let name: Arc<str> = name.into();
        let mut journal = Journal::default();
        for _ in 0..entries.min(JOURNAL_LIMIT) {
            let Some((tag, delivery)) = channel.get(&name).await? else {
                break;
            };
            if !journal.enter(tag, &delivery) {
                warn!(
                    queue = &*name,
                    "the journal holds a message that is not an entry"
                );
            }
        }
        Ok(Self {
            id: Ulid::new(),
            link: link.clone(),
            publisher: Publisher::open(link).await?,
            name,
            journal,
        })
    }

    /// Publishes `again`, with an entry in the journal under `mark`, and awaits the confirm.
    ///
    /// A message with a time to live gets an intent, because its receipt would expire too.
    ///
    /// # Errors
    /// It is unknown whether the broker has the message.
    pub(super) async fn send(
        &mut self,
        again: &Republish,
        mark: &str,
    ) -> Result<Sent, BrokerError> {
        let publisher = &self.publisher;
        let (sent, has_intent) = match &again.destination {
            Destination::Queue(queue) if again.message.properties.expiration.is_none() => {
                let message = again.clone().with_receipt(&self.name, mark).message;
                let sent = confirmed(publisher.publish_if_there(queue, &message)).await;
                (sent, false)
            }
            destination => {
                confirmed(publisher.publish(&intent(&self.name, mark))).await?;
                let sent = match destination {
                    Destination::Queue(queue) => {
                        confirmed(publisher.publish_if_there(queue, &again.message)).await
                    }
                    Destination::Exchange { .. } => {
                        confirmed(publisher.publish(&again.message)).await
                    }
                };
                (sent, true)
            }
        };
        match sent {
            Ok(()) => Ok(Sent::Taken),
            // Its receipt came with it.
            Err(error @ BrokerError::NotAccepted { .. }) => Ok(Sent::Refused {
                error,
                has_entry: true,
            }),
            // The broker closed the channel on this message alone: its destination is gone or forbidden, or a property of it
            // is invalid.
            Err(error) if error.is_refusal() || matches!(error, BrokerError::TooLarge { .. }) => {
                if !publisher.is_open() {
                    self.publisher = Publisher::open(&self.link).await?;
                }
                Ok(Sent::Refused {
                    error,
                    has_entry: has_intent,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the entry under `mark`, which has just been published, on `channel`, and returns its tag. Every entry before
    /// it is held by now.
    ///
    /// # Errors
    /// If the entry does not come. If the message was refused, the entry may come a moment after the refusal.
    pub(super) async fn entry(
        &self,
        mark: &str,
        channel: &PullChannel,
    ) -> Result<u64, BrokerError> {
        let found = timeout(ENTRY_LIMIT, async {
            loop {
                if let Some((tag, delivery)) = channel.get(&self.name).await? {
                    let found = delivery.properties.headers.get(MARK);
                    if found.and_then(|value| value.as_str()) == Some(mark) {
                        return Ok(tag);
                    }
                } else {
                    sleep(ENTRY_INTERVAL).await;
                }
            }
        });
        found.await.unwrap_or(Err(BrokerError::TimedOut {
            what: "finding the entry in the journal",
            limit: ENTRY_LIMIT,
        }))
    }
}

/// Lets one pass run at a time: two passes would take each other's entries.
async fn lock_journal(link: &Link, name: &str) -> Result<(), BrokerError> {
    let lock_name = format!("{name}.lock");
    let locked = timeout(LOCK_LIMIT, async {
        loop {
            match lock(link, &lock_name).await {
                Err(BrokerError::Refused { code: 405, .. }) => {
                    sleep(LOCK_INTERVAL).await;
                }
                other => return other,
            }
        }
    });
    locked.await.unwrap_or_else(|_elapsed| {
        Err(BrokerError::Refused {
            what: "waiting for another replay of this queue to end",
            code: 405,
            text: format!("another connection has {lock_name:?}"),
        })
    })
}

async fn confirmed(
    publish: impl Future<Output = Result<Confirm, BrokerError>>,
) -> Result<(), BrokerError> {
    let answer = timeout(CONFIRM_LIMIT, async { publish.await?.accepted().await }).await;
    answer.unwrap_or(Err(BrokerError::TimedOut {
        what: "awaiting a confirm",
        limit: CONFIRM_LIMIT,
    }))
}

fn intent(journal: &str, mark: &str) -> Message {
    Message {
        exchange: String::new(),
        routing_key: journal.to_owned(),
        mandatory: true,
        properties: Properties {
            kind: Some(INTENT_TYPE.to_owned()),
            headers: [(MARK.to_owned(), mark.into())].into(),
            delivery_mode: Some(2),
            ..Properties::default()
        },
        body: bytes::Bytes::new(),
    }
}

//! Publishes parts of bundles and dead letters, on the worker's connection for publishing.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesOrdered;
use tidegate::config::NodeSettings;
use tidegate::delivery::Properties;
use tidegate::internal::broker::{
    BrokerError, Link, Message, Publisher as Channel, SessionState, ensure_queue,
};
use tokio::sync::{Mutex, watch};

use crate::dead_letter;

/// How many messages may wait for their confirms.
const WINDOW: usize = 100;

/// The state of the connection, once the worker has one.
pub type PublishSession = watch::Receiver<SessionState>;

/// Publishes with confirms. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    session: watch::Sender<Option<PublishSession>>,
    open: Arc<Mutex<Option<Open>>>,
}

struct Open {
    link: Link,
    channel: Channel,
    dead_queue: bool,
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

impl Publisher {
    /// A publisher that waits for its connection.
    pub fn new() -> Self {
        Self {
            session: watch::Sender::new(None),
            open: Arc::default(),
        }
    }

    /// Gives it the worker's connection for publishing.
    pub fn connect(&self, session: PublishSession) {
        self.session.send_replace(Some(session));
    }

    /// Declares the queue of our own dead letters.
    ///
    /// # Errors
    /// The connection was lost, or the broker refuses the queue.
    pub async fn declare_dead_queue(&self) -> Result<(), BrokerError> {
        self.channel(true).await.map(drop)
    }

    /// Publishes `messages` in their order, and counts in `confirmed` those that the broker has taken, from the first
    /// one on. After an error the rest can be published anew; a message whose confirm was lost is there twice then,
    /// and its mark tells the consumer so.
    ///
    /// # Errors
    /// The connection was lost, or the broker did not take a message. [`BrokerError::TooLarge`] means the first one that is
    /// not confirmed.
    pub async fn publish(
        &self,
        messages: &[Message],
        confirmed: &mut usize,
    ) -> Result<(), BrokerError> {
        let (link, channel) = self.channel(false).await?;
        send(&link, &channel, &messages[*confirmed..], confirmed).await
    }

    /// Publishes one dead letter; its queue is declared first if it is our own.
    ///
    /// # Errors
    /// The connection was lost, or the broker did not take the letter.
    pub async fn publish_letter(&self, letter: &Message) -> Result<(), BrokerError> {
        let (link, channel) = self
            .channel(letter.routing_key == dead_letter::QUEUE)
            .await?;
        let sent = send(&link, &channel, std::slice::from_ref(letter), &mut 0).await;
        if sent.is_err()
            && let Some(open) = &mut *self.open.lock().await
        {
            // Its queue may be gone.
            open.dead_queue = false;
        }
        sent
    }

    async fn channel(&self, dead_queue: bool) -> Result<(Link, Channel), BrokerError> {
        let lost = || BrokerError::Lost {
            what: "publishing",
            cause: "the worker ends".into(),
        };
        let mut given = self.session.subscribe();
        let session = given.wait_for(Option::is_some).await;
        let mut session = session
            .ok()
            .and_then(|given| given.clone())
            .ok_or_else(lost)?;
        let connected = session.wait_for(|state| state.link().is_some()).await;
        let link = connected.ok().and_then(|state| state.link().cloned());
        let link = link.ok_or_else(lost)?;
        let mut open = self.open.lock().await;
        let usable =
            |open: &Open| open.link.generation() == link.generation() && open.channel.is_open();
        if !open.as_ref().is_some_and(usable) {
            *open = Some(Open {
                channel: Channel::open(&link).await?,
                link: link.clone(),
                dead_queue: false,
            });
        }
        let open = open.as_mut().expect("it was opened above");
        if dead_queue && !open.dead_queue {
            ensure_queue(&link, &NodeSettings::new(dead_letter::QUEUE)).await?;
            open.dead_queue = true;
        }
        Ok((link, open.channel.clone()))
    }
}

async fn send(
    link: &Link,
    channel: &Channel,
    messages: &[Message],
    confirmed: &mut usize,
) -> Result<(), BrokerError> {
    let sending = async {
        let mut window = FuturesOrdered::new();
        let mut failed = Ok(());
        for message in messages {
            if window.len() == WINDOW
                && let Some(taken) = window.next().await
            {
                taken?;
                *confirmed += 1;
            }
            match channel.publish(message).await {
                Ok(confirm) => window.push_back(confirm.accepted()),
                Err(error) => {
                    failed = Err(error);
                    break;
                }
            }
        }
        while let Some(taken) = window.next().await {
            taken?;
            *confirmed += 1;
        }
        failed
    };
    tokio::select! {
        sent = sending => sent,
        cause = link.lost() => Err(BrokerError::Lost { what: "publishing", cause }),
    }
}

/// A message for an exchange of the platform, as the platform's worker publishes it.
pub(crate) fn platform_message(exchange: &str, routing_key: &str, body: Bytes) -> Message {
    Message {
        exchange: exchange.to_owned(),
        routing_key: routing_key.to_owned(),
        mandatory: true,
        properties: Properties {
            content_encoding: Some("utf-8".into()),
            delivery_mode: Some(2),
            ..Properties::default()
        },
        body,
    }
}

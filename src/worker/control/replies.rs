//! Replies to commands, on their way.

use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;
use tracing::warn;

use crate::broker::{BrokerError, Link, Message, Publisher, Taken};
use crate::delivery::Properties;
use crate::status::control::{REPLY_TYPE, Reply};
use crate::status::wire::APP_ID;

/// How long a reply may take to be confirmed.
const LIMIT: Duration = Duration::from_secs(5);
/// Replies on their way; with more than that, the next are left out.
const MOST: usize = 16;

/// A reply on its way; it yields the channel that it went out on.
type Replying = Pin<Box<dyn Future<Output = Result<Publisher, BrokerError>> + Send>>;

/// Sends replies, and waits for none.
#[derive(Default)]
pub(super) struct Replies {
    /// Their channel: not the queue's, for the broker closes the channel of what it refuses.
    publisher: Option<Publisher>,
    on_their_way: FuturesUnordered<Replying>,
}

impl Replies {
    /// Sends a reply where one is wanted and can be sent now. One to a queue that is gone is dropped by the broker.
    pub(super) fn send(&mut self, link: &Link, to: Taken, reply: &Reply) {
        let Some(queue) = to.reply_to else { return };
        if link.is_blocked() || self.on_their_way.len() >= MOST {
            let command = &reply.command;
            warn!(command, "a reply is left out: the broker does not read");
            return;
        }
        let body = serde_json::to_vec(reply).expect("replies are plain data");
        let message = Message {
            exchange: String::new(),
            routing_key: queue,
            mandatory: false,
            properties: Properties {
                content_type: Some("application/json".to_owned()),
                delivery_mode: Some(1),
                correlation_id: to.correlation_id,
                kind: Some(REPLY_TYPE.to_owned()),
                app_id: Some(APP_ID.to_owned()),
                ..Properties::default()
            },
            body: body.into(),
        };
        let open = self.publisher.clone().filter(Publisher::is_open);
        let link = link.clone();
        self.on_their_way.push(Box::pin(async move {
            let sent = async {
                let publisher = match open {
                    Some(publisher) => publisher,
                    None => Publisher::open(&link).await?,
                };
                publisher.publish(&message).await?.accepted().await?;
                Ok(publisher)
            };
            let what = "publishing a reply";
            let limit = LIMIT;
            let timed_out = |_elapsed| BrokerError::TimedOut { what, limit };
            timeout(limit, sent).await.map_err(timed_out)?
        }));
    }

    /// Moves the replies on; resolves when one has arrived or failed, never where there is none. Cancel safe.
    pub(super) async fn progress(&mut self) {
        match self.on_their_way.next().await {
            Some(Ok(publisher)) => self.publisher = Some(publisher),
            Some(Err(error)) => {
                self.publisher = None;
                warn!(%error, "a reply to a command could not be sent");
            }
            None => std::future::pending().await,
        }
    }

    /// Resolves when all replies have arrived or failed.
    pub(super) async fn sent(&mut self) {
        while !self.on_their_way.is_empty() {
            self.progress().await;
        }
    }
}

//! Messages on their way, and what was sent.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::timeout;
use tracing::warn;

use super::{StatusMessage, Totals};
use tidegate::delivery::Properties;
use tidegate::internal::broker::{BrokerError, Message, Publisher, Taken};
use tidegate::internal::status::control::{REPLY_TYPE, Reply};
use tidegate::internal::status::wire::APP_ID;

/// Messages under way.
const WINDOW: usize = 2_000;
/// The time limit for the broker to confirm a message.
const CONFIRM_LIMIT: Duration = Duration::from_secs(30);

/// Publishes, and counts.
pub(super) struct Outgoing {
    publisher: Publisher,
    under_way: FuturesUnordered<BoxFuture<'static, Result<(), BrokerError>>>,
    /// The messages that were sent.
    pub(super) totals: Totals,
    /// Messages that the broker has not confirmed.
    pub(super) unconfirmed: u64,
}

impl Outgoing {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            under_way: FuturesUnordered::new(),
            totals: Totals::default(),
            unconfirmed: 0,
        }
    }

    /// Whether more may be sent now.
    pub(super) fn has_room(&self) -> bool {
        self.under_way.len() < WINDOW
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Sends status messages.
    pub(super) fn send_all(&mut self, messages: Vec<StatusMessage>) {
        for (kind, message) in messages {
            self.totals.count(kind, message.body.len());
            self.publish(message);
        }
    }

    /// Sends the answer to a command, if one is wanted.
    pub(super) fn answer(&mut self, command: &Taken, reply: &Reply) {
        let Some(reply_to) = &command.reply_to else {
            return;
        };
        let body = serde_json::to_vec(reply).expect("an answer is plain data");
        self.totals.answered(body.len());
        self.publish(Message {
            exchange: String::new(),
            routing_key: reply_to.clone(),
            mandatory: false,
            properties: Properties {
                content_type: Some("application/json".to_owned()),
                kind: Some(REPLY_TYPE.to_owned()),
                app_id: Some(APP_ID.to_owned()),
                correlation_id: command.correlation_id.clone(),
                ..Properties::default()
            },
            body: body.into(),
        });
    }

    fn publish(&self, message: Message) {
        let publisher = self.publisher.clone();
        self.under_way.push(Box::pin(async move {
            let sent = async { publisher.publish(&message).await?.accepted().await };
            let what = "awaiting a confirm";
            let limit = CONFIRM_LIMIT;
            let timed_out = |_elapsed| BrokerError::TimedOut { what, limit };
            timeout(limit, sent).await.map_err(timed_out)?
        }));
    }

    /// Takes note of one answer of the broker's. Cancel safe.
    pub(super) async fn sent(&mut self) {
        if let Some(Err(error)) = self.under_way.next().await {
            if self.unconfirmed == 0 {
                warn!(%error, "the broker has not confirmed a message");
            }
            self.unconfirmed += 1;
        }
    }
}

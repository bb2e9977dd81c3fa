//! Who commands workers: publishes commands as the protocol says, and listens to the replies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use serde_json::Value;
use tidegate::internal::status::control::{COMMAND_TYPE, REPLY_TYPE, Reply};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::vhost::{Vhost, connect};
use super::wait::{eventually, within};

/// The exchange that commands go to.
const EXCHANGE: &str = "tidegate.control";
/// The broker's own queue for replies.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";

type Replies = Arc<Mutex<HashMap<String, Vec<Reply>>>>;

/// Commands workers of a virtual host.
pub(crate) struct Commander {
    channel: Channel,
    replies: Replies,
    _listening: AbortOnDropHandle<()>,
    _connection: Connection,
}

fn locked(replies: &Replies) -> MutexGuard<'_, HashMap<String, Vec<Reply>>> {
    replies.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Commander {
    /// Commands with the user of the virtual host's own URL.
    pub(crate) async fn new(vhost: &Vhost) -> Self {
        Self::connect(vhost.url()).await
    }

    /// Commands with the user of `url`.
    pub(crate) async fn connect(url: &Url) -> Self {
        let connection = within("a connection", connect(url, "commander"))
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let channel = within("a channel", connection.create_channel())
            .await
            .expect("the commander's connection works");
        let select = channel.confirm_select(ConfirmSelectOptions::default());
        within("confirm.select", select)
            .await
            .expect("the channel works");
        let no_ack = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consume =
            channel.basic_consume(REPLY_TO.into(), "".into(), no_ack, FieldTable::default());
        let consumer = within("basic.consume", consume)
            .await
            .expect("direct replies need no permission");
        let replies = Replies::default();
        let listening = tokio::spawn(listen(consumer, Arc::clone(&replies)));
        Self {
            channel,
            replies,
            _listening: AbortOnDropHandle::new(listening),
            _connection: connection,
        }
    }

    /// Sends `command`, as JSON, to the worker with this id, and waits for its reply.
    pub(crate) async fn command(&self, worker: &str, command: &Value) -> Reply {
        let key = format!("worker.{worker}");
        let body = command.to_string().into_bytes();
        let sent = self.send(&key, Some(COMMAND_TYPE), body).await;
        let id = sent.unwrap_or_else(|error| panic!("{command} for {worker}: {error}"));
        self.replies(&id, 1).await.remove(0)
    }

    /// Sends a message with the property `type` `kind`, and gives its correlation id once the broker has taken it.
    ///
    /// # Errors
    /// If no queue takes it, or the broker refuses.
    pub(crate) async fn send(
        &self,
        key: &str,
        kind: Option<&str>,
        body: Vec<u8>,
    ) -> Result<String, String> {
        let id = ulid::Ulid::new().to_string();
        let mut properties = BasicProperties::default()
            .with_reply_to(REPLY_TO.into())
            .with_correlation_id(id.as_str().into());
        if let Some(kind) = kind {
            properties = properties.with_type(kind.into());
        }
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let published = async {
            self.channel
                .basic_publish(EXCHANGE.into(), key.into(), options, &body, properties)
                .await?
                .await
        };
        match within("a confirm", published).await {
            Ok(Confirmation::Ack(None)) => Ok(id),
            Ok(Confirmation::Ack(Some(returned))) => Err(returned.reply_text.to_string()),
            Ok(other) => Err(format!("{other:?}")),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Waits for `count` replies with a correlation id.
    pub(crate) async fn replies(&self, id: &str, count: usize) -> Vec<Reply> {
        eventually(format_args!("{count} replies come"), async || {
            let replies = locked(&self.replies).get(id).cloned().unwrap_or_default();
            if replies.len() >= count {
                return Ok(replies);
            }
            Err(format!("{replies:?}"))
        })
        .await
    }
}

async fn listen(mut consumer: lapin::Consumer, replies: Replies) {
    while let Some(Ok(delivery)) = consumer.next().await {
        let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
        let properties = &delivery.properties;
        assert_eq!(text(properties.kind()).as_deref(), Some(REPLY_TYPE));
        let reply: Reply = serde_json::from_slice(&delivery.data).expect("it is a reply");
        let id = text(properties.correlation_id()).expect("replies say what they answer");
        locked(&replies).entry(id).or_default().push(reply);
    }
}

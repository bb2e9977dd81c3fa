//! Everything that workers of a virtual host say of themselves.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::StreamExt as _;
use lapin::options::{
    BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Connection, ExchangeKind};
use serde_json::Value;
use tidegate::internal::status::wire::Kind;
use tokio_util::task::AbortOnDropHandle;

use super::vhost::{Vhost, connect};
use super::wait::{eventually, within};

/// Tables of a configuration with which a worker beats every second, or nearly so.
pub(crate) const BEATS: &str = "[heartbeat]\nbusy = \"1s\"\nidle = \"1s\"";
/// The exchange that status messages go to.
const EXCHANGE: &str = "tidegate.status";

/// One status message.
#[derive(Debug, Clone)]
pub(crate) struct StatusMessage {
    /// Routing key: `<kind>.<worker id>`.
    pub routing_key: String,
    /// Properties.
    pub properties: BasicProperties,
    /// The JSON.
    pub json: Value,
}

impl StatusMessage {
    /// `state`, `beat` or `drain`: the routing key's first word.
    pub(crate) fn kind(&self) -> &str {
        self.routing_key.split('.').next().unwrap_or_default()
    }

    /// Checks it against its kind's schema and rules.
    ///
    /// # Panics
    /// Where it breaks one.
    pub(crate) fn obeys_its_schema(&self) {
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == self.kind());
        let kind = kind.unwrap_or_else(|| panic!("an unknown kind: {}", self.kind()));
        let schema = serde_json::to_value(kind.schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let errors: Vec<_> = validator
            .iter_errors(&self.json)
            .map(|e| e.to_string())
            .collect();
        assert!(errors.is_empty(), "{errors:?} in {}", self.json);
        let properties = &self.properties;
        let text =
            |value: &Option<lapin::types::ShortString>| value.as_ref().map(ToString::to_string);
        assert_eq!(
            text(properties.content_type()).as_deref(),
            Some("application/json")
        );
        assert_eq!(text(properties.app_id()).as_deref(), Some("tidegate"));
        assert_eq!(
            text(properties.kind()).as_deref(),
            Some(kind.message_type())
        );
        let lease = self.json["lease_ms"].to_string();
        let (mode, expiration) = match kind {
            Kind::Beat => (1, Some(lease.as_str())),
            // They outlive a restart of the broker.
            Kind::State | Kind::Drain => (2, None),
        };
        assert_eq!(*properties.delivery_mode(), Some(mode));
        assert_eq!(text(properties.expiration()).as_deref(), expiration);
        let worker = self.json["worker"].as_str().unwrap();
        assert_eq!(self.routing_key, format!("{}.{worker}", kind.as_str()));
    }

    /// The phase of a `state`; empty in others.
    pub(crate) fn phase(&self) -> &str {
        self.json["phase"].as_str().unwrap_or_default()
    }
}

/// Listens to the status exchange of a virtual host, which it declares, from before any worker is there.
pub(crate) struct StatusTap {
    messages: Arc<Mutex<Vec<StatusMessage>>>,
    _listening: AbortOnDropHandle<()>,
    _connection: Connection,
}

impl StatusTap {
    /// Begins to listen; what is published after this has returned is seen.
    pub(crate) async fn start(vhost: &Vhost) -> Self {
        let connection = within("a connection", connect(vhost.url(), "status tap"))
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let consumer = within("the status exchange", subscribe(&connection))
            .await
            .unwrap_or_else(|error| panic!("the status exchange cannot be listened to: {error}"));
        let messages = Arc::default();
        let listening = tokio::spawn(listen(consumer, Arc::clone(&messages)));
        Self {
            messages,
            _listening: AbortOnDropHandle::new(listening),
            _connection: connection,
        }
    }

    /// Every message so far, in the order they came.
    pub(crate) fn messages(&self) -> Vec<StatusMessage> {
        locked(&self.messages).clone()
    }

    /// The messages of a kind: `state`, `beat` or `drain`.
    pub(crate) fn of_kind(&self, kind: &str) -> Vec<StatusMessage> {
        let mut messages = self.messages();
        messages.retain(|message| message.kind() == kind);
        messages
    }

    /// The phases of all states so far, in the order they came.
    pub(crate) fn phases(&self) -> Vec<String> {
        let states = self.of_kind("state");
        states
            .iter()
            .map(|state| state.phase().to_owned())
            .collect()
    }

    /// Waits for the first message for which `wanted` holds.
    pub(crate) async fn seen(
        &self,
        what: &str,
        wanted: impl Fn(&StatusMessage) -> bool,
    ) -> StatusMessage {
        eventually(format_args!("{what} is published"), async || {
            let messages = locked(&self.messages);
            let found = messages.iter().find(|message| wanted(message)).cloned();
            found.ok_or_else(|| {
                let keys = messages.iter().map(|message| message.routing_key.as_str());
                format!("{:?}", keys.collect::<Vec<_>>())
            })
        })
        .await
    }

    /// Waits for the first state with `phase`.
    pub(crate) async fn state(&self, phase: &str) -> StatusMessage {
        self.seen(phase, |message| message.phase() == phase).await
    }

    /// Waits for the first state `running`, and gives the id of the worker that is in it.
    pub(crate) async fn running_id(&self) -> String {
        let running = self.state("running").await;
        let id = running.json["worker"].as_str();
        id.expect("every state names its worker").to_owned()
    }

    /// Waits for the first drain report.
    pub(crate) async fn drain(&self) -> StatusMessage {
        self.seen("a drain report", |message| message.kind() == "drain")
            .await
    }
}

impl Drop for StatusTap {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for message in self.messages() {
                eprintln!("status: {} {}", message.routing_key, message.json);
            }
        }
    }
}

async fn subscribe(connection: &Connection) -> lapin::Result<lapin::Consumer> {
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let none = FieldTable::default;
    channel
        .exchange_declare(EXCHANGE.into(), ExchangeKind::Topic, durable, none())
        .await?;
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        auto_delete: true,
        ..QueueDeclareOptions::default()
    };
    let queue = channel.queue_declare("".into(), exclusive, none()).await?;
    let bind = QueueBindOptions::default();
    let name = queue.name().clone();
    channel
        .queue_bind(name.clone(), EXCHANGE.into(), "#".into(), bind, none())
        .await?;
    let no_ack = BasicConsumeOptions {
        no_ack: true,
        ..BasicConsumeOptions::default()
    };
    channel.basic_consume(name, "".into(), no_ack, none()).await
}

async fn listen(mut consumer: lapin::Consumer, messages: Arc<Mutex<Vec<StatusMessage>>>) {
    while let Some(Ok(delivery)) = consumer.next().await {
        let text = || Value::String(String::from_utf8_lossy(&delivery.data).into_owned());
        let message = StatusMessage {
            routing_key: delivery.routing_key.to_string(),
            json: serde_json::from_slice(&delivery.data).unwrap_or_else(|_not_json| text()),
            properties: delivery.properties,
        };
        locked(&messages).push(message);
    }
}

fn locked(messages: &Mutex<Vec<StatusMessage>>) -> MutexGuard<'_, Vec<StatusMessage>> {
    messages.lock().unwrap_or_else(PoisonError::into_inner)
}

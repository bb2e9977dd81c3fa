//! A worker that does what the test wants: it says any status message, and answers commands or does not.

use futures_util::StreamExt as _;
use jiff::Timestamp;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ExchangeKind};
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::vhost::{Vhost, connect};
use super::wait::within;

/// How far the puppet's clock is ahead of the true time, in milliseconds.
type Skew = i64;

/// A worker in the test's hands.
pub(crate) struct Puppet {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its lease, in milliseconds.
    pub lease: u64,
    /// How wrong its clock is.
    pub skew: Skew,
    channel: Channel,
    connection: Connection,
    answering: Option<AbortOnDropHandle<()>>,
}

impl Puppet {
    /// A worker that says nothing yet, and answers whatever it is asked.
    pub(crate) async fn new(vhost: &Vhost, id: &str) -> Self {
        let connection = connect(vhost.url(), "puppet").await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let durable = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        for exchange in ["tidegate.status", "tidegate.control"] {
            let kind = ExchangeKind::Topic;
            let declare = channel.exchange_declare(exchange.into(), kind, durable, none());
            within("exchange.declare", declare).await.unwrap();
        }
        let select = channel.confirm_select(ConfirmSelectOptions::default());
        within("confirm.select", select).await.unwrap();
        let mut puppet = Self {
            id: id.to_owned(),
            name: id.to_owned(),
            lease: 60_000,
            skew: 0,
            channel,
            connection,
            answering: None,
        };
        puppet.listen().await;
        puppet
    }

    /// Makes its control queue, and answers by it that it is running.
    async fn listen(&mut self) {
        let name = format!("tidegate.control.{}", self.id);
        let exclusive = QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.connection.create_channel().await.unwrap();
        let declare = channel.queue_declare(name.as_str().into(), exclusive, none());
        within("queue.declare", declare).await.unwrap();
        for key in [format!("worker.{}", self.id), "all".to_owned()] {
            let options = QueueBindOptions::default();
            let queue = name.as_str().into();
            let exchange = "tidegate.control".into();
            let bind = channel.queue_bind(queue, exchange, key.as_str().into(), options, none());
            within("queue.bind", bind).await.unwrap();
        }
        let no_ack = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consume = channel.basic_consume(name.as_str().into(), "".into(), no_ack, none());
        let mut consumer = within("basic.consume", consume).await.unwrap();
        let id = self.id.clone();
        let answering = tokio::spawn(async move {
            while let Some(Ok(command)) = consumer.next().await {
                let asked: Value = serde_json::from_slice(&command.data).unwrap();
                let Some(reply_to) = command.properties.reply_to().clone() else {
                    continue;
                };
                let reply = json!({"v": 1, "worker": id, "command": asked["command"], "ok": true,
                                   "phase": "running"});
                let mut properties = BasicProperties::default();
                if let Some(correlation) = command.properties.correlation_id() {
                    properties = properties.with_correlation_id(correlation.clone());
                }
                let body = reply.to_string().into_bytes();
                let options = BasicPublishOptions::default();
                // Who asked may be gone.
                let _ = channel
                    .basic_publish("".into(), reply_to, options, &body, properties)
                    .await;
            }
        });
        self.answering = Some(AbortOnDropHandle::new(answering));
    }

    /// Answers nothing from now on; its queue stays.
    pub(crate) fn hang(&mut self) {
        self.answering = None;
    }

    /// Ends without a word.
    pub(crate) async fn crash(self) {
        let closed = self.connection.close(200, "crash".into());
        within("connection.close", closed).await.unwrap();
    }

    /// What every message begins with, and `more`.
    pub(crate) fn message(&self, seq: u64, more: &Value) -> Value {
        let now = Timestamp::now().as_millisecond() + self.skew;
        let at = Timestamp::from_millisecond(now).unwrap().to_string();
        let mut message = json!({"v": 1, "worker": self.id, "name": self.name, "seq": seq, "at": at,
                                 "lease_ms": self.lease});
        let fields = message.as_object_mut().unwrap();
        fields.extend(more.as_object().unwrap().clone());
        message
    }

    /// A state.
    pub(crate) fn state(&self, seq: u64, phase: &str) -> Value {
        self.message(
            seq,
            &json!({"phase": phase, "host": "h", "pid": 7, "version": "0.1.0",
                    "started_at": "2026-11-23T09:00:00.000Z", "nodes": [
                        {"queue": "orders", "type": "quorum", "handler": "http", "slots": 8, "prefetch": 16,
                         "phase": phase}]}),
        )
    }

    /// A full beat.
    pub(crate) fn beat(&self, seq: u64, done: u64) -> Value {
        self.message(
            seq,
            &json!({"load": 0.5, "full": true, "nodes": [
                {"queue": "orders", "in_flight": 4, "oldest_ms": 10, "done": done, "retried": 0, "dead": 0,
                 "handed_back": 0, "interrupted": 0}]}),
        )
    }

    /// The report of a clean drain.
    pub(crate) fn drain(&self, seq: u64) -> Value {
        self.message(
            seq,
            &json!({"reason": "SIGTERM", "outcome": "clean", "duration_ms": 12, "steps": {"cancel_ms": 1,
                    "hand_back_ms": 1, "finish_ms": 1, "interrupt_ms": 1, "settle_ms": 1, "release_ms": 1},
                    "finished": 3, "handed_back": 2, "interrupted": 0, "unconfirmed": 0, "interrupted_ids": []}),
        )
    }

    /// Says a message of a kind: `state`, `beat` or `drain`.
    pub(crate) async fn say(&self, kind: &str, message: &Value) {
        let key = format!("{kind}.{}", self.id);
        self.say_raw(&key, message.to_string().as_bytes()).await;
    }

    /// Says whatever it is, and awaits the broker's confirm.
    pub(crate) async fn say_raw(&self, key: &str, body: &[u8]) {
        let options = BasicPublishOptions::default();
        let properties = BasicProperties::default().with_delivery_mode(2);
        let exchange = "tidegate.status".into();
        let publish = self
            .channel
            .basic_publish(exchange, key.into(), options, body, properties);
        let said = async { publish.await?.await };
        within("a confirm", said).await.unwrap();
    }
}

fn none() -> FieldTable {
    FieldTable::default()
}

//! Dead letters as workers leave them, and the program that looks at them.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use tidegate::delivery::{HeaderValue, Properties};
use tidegate::internal::retry::{Purpose, seal};
use tokio::process::Child;
use url::Url;

use crate::harness::run::{self, Run, ended};
use crate::harness::vhost::Vhost;
use crate::harness::wait::within;

/// A virtual host with queues `orders` and `orders.dead` of a kind.
pub(super) async fn scene(kind: &str) -> Vhost {
    let vhost = Vhost::new().await;
    furnish(&vhost, kind).await;
    vhost
}

/// Declares queues `orders` and `orders.dead` of a kind.
pub(crate) async fn furnish(vhost: &Vhost, kind: &str) {
    vhost.declare("orders", kind).await;
    vhost.declare("orders.dead", kind).await;
}

/// A message as a worker publishes it to the dead letters of `orders`.
pub(crate) struct Letter {
    id: String,
    reason: String,
    at: String,
    exchange: String,
    routing_key: String,
    copy: String,
    body: Vec<u8>,
}

impl Letter {
    /// One that came straight to `orders`, and died just now.
    pub(crate) fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            reason: "handler".to_owned(),
            at: jiff::Timestamp::now().to_string(),
            exchange: String::new(),
            routing_key: "orders".to_owned(),
            copy: ulid::Ulid::new().to_string(),
            body: format!("body of {id}").into_bytes(),
        }
    }

    /// What it died of.
    pub(super) fn reason(mut self, reason: &str) -> Self {
        reason.clone_into(&mut self.reason);
        self
    }

    /// When.
    pub(super) fn at(mut self, at: &str) -> Self {
        at.clone_into(&mut self.at);
        self
    }

    /// Where it came from.
    pub(super) fn exchange(mut self, exchange: &str, routing_key: &str) -> Self {
        exchange.clone_into(&mut self.exchange);
        routing_key.clone_into(&mut self.routing_key);
        self
    }

    /// What is in it.
    pub(super) fn body(mut self, body: &[u8]) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    /// What its twins have, too.
    pub(super) fn copy(mut self, copy: &str) -> Self {
        copy.clone_into(&mut self.copy);
        self
    }

    /// Its properties and body.
    pub(crate) fn message(self) -> (BasicProperties, Vec<u8>) {
        let texts = [
            ("tenant", "north"),
            ("x-tidegate-reason", &self.reason),
            ("x-tidegate-error", "no such customer"),
            ("x-tidegate-worker", "web-1-01K"),
            ("x-tidegate-queue", "orders"),
            ("x-tidegate-exchange", &self.exchange),
            ("x-tidegate-routing-key", &self.routing_key),
            ("x-tidegate-at", &self.at),
            ("x-tidegate-copy", &self.copy),
        ];
        let texts = texts.map(|(name, value)| (name.to_owned(), value.into()));
        let attempts = ("x-tidegate-attempts".to_owned(), HeaderValue::I64(3));
        let mut sealed = Properties {
            message_id: Some(self.id.clone()),
            delivery_mode: Some(2),
            priority: Some(3),
            headers: texts.into_iter().chain([attempts]).collect(),
            ..Properties::default()
        };
        seal(Purpose::Dead, &mut sealed, &self.body);
        let mut headers = FieldTable::default();
        for (name, value) in sealed.headers {
            let value = match value {
                HeaderValue::I64(number) => AMQPValue::LongLongInt(number),
                text => AMQPValue::LongString(text.to_text().into()),
            };
            headers.insert(name.into(), value);
        }
        let properties = BasicProperties::default()
            .with_message_id(self.id.as_str().into())
            .with_delivery_mode(2)
            .with_priority(3)
            .with_headers(headers);
        (properties, self.body)
    }
}

/// Starts `tidegate dead` on the broker at `url`.
pub(super) fn spawn(url: &Url, arguments: &[&str]) -> Child {
    run::spawn(&[&["dead"], arguments, &["--url", url.as_str()]].concat())
}

/// Runs `tidegate dead` as it is.
pub(super) async fn run(arguments: &[&str]) -> Run {
    ended(run::spawn(&[&["dead"], arguments].concat())).await
}

/// Runs `tidegate dead` on the virtual host.
pub(crate) async fn dead(vhost: &Vhost, arguments: &[&str]) -> Run {
    ended(spawn(vhost.url(), arguments)).await
}

/// The ids of what is in `queue`, which is empty then.
pub(crate) async fn taken_ids(vhost: &Vhost, queue: &str) -> Vec<String> {
    let taken = vhost.take_all(queue).await;
    taken.into_iter().map(|message| message.id).collect()
}

/// An exchange `shop`, bound to queues `orders` and `audit`.
pub(super) async fn shop(vhost: &Vhost) {
    let channel = vhost.channel().await;
    let durable = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let declared = channel.exchange_declare(
        "shop".into(),
        ExchangeKind::Topic,
        durable,
        FieldTable::default(),
    );
    within("exchange.declare", declared).await.unwrap();
    vhost.declare("audit", "classic").await;
    for queue in ["orders", "audit"] {
        let options = QueueBindOptions::default();
        let bound = channel.queue_bind(
            queue.into(),
            "shop".into(),
            "order.*".into(),
            options,
            FieldTable::default(),
        );
        within("queue.bind", bound).await.unwrap();
    }
}

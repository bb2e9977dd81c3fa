//! A virtual host for each test: nothing in it is anybody else's.

mod message;

use std::collections::VecDeque;
use std::time::Duration;

use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use serde_json::json;
use url::Url;

use super::broker::Server;
use super::management::{Management, segment};
use super::wait::{eventually, expect_that, within};

pub(crate) use message::Taken;

/// The name of a virtual host's own connection.
const CLIENT_NAME: &str = "test";
/// Confirms that may be outstanding.
const WINDOW: usize = 500;
/// How long the end of a test waits for the virtual host's removal.
const REMOVAL_LIMIT: Duration = Duration::from_secs(20);

/// Opens a connection called `name`. Without `frame_max` the client library may reserve 4 GiB.
pub(crate) async fn connect(url: &Url, name: &str) -> Result<Connection, String> {
    let mut url = url.clone();
    url.set_query(Some("frame_max=131072&heartbeat=60"));
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    Connection::connect(url.as_str(), properties)
        .await
        .map_err(|error| format!("{}: {error}", url.host_str().unwrap_or_default()))
}

/// A virtual host of a test's own, and the test's connection to it. It is deleted when this is dropped.
pub(crate) struct Vhost {
    name: String,
    url: Url,
    server: Server,
    connection: Connection,
}

impl Vhost {
    /// A new virtual host on the shared broker.
    pub(crate) async fn new() -> Self {
        Self::create(Server::shared().await).await
    }

    /// A new virtual host on the shared broker, with a queue and its dead letters as [`declare`](Self::declare) makes
    /// them.
    pub(crate) async fn with_queue(queue: &str, kind: &str) -> Self {
        let vhost = Self::new().await;
        vhost.declare(queue, kind).await;
        vhost
    }

    /// A new virtual host on `server`.
    pub(crate) async fn create(server: &Server) -> Self {
        let name = format!("it-{}", ulid::Ulid::new());
        let management = server.management();
        let user = match server.amqp.username() {
            "" => "guest",
            user => user,
        };
        let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
        within("a new virtual host", async {
            management
                .put(&format!("/api/vhosts/{name}"), &json!({}))
                .await?;
            let permissions = format!("/api/permissions/{name}/{}", segment(user));
            management.put(&permissions, &all).await
        })
        .await
        .unwrap_or_else(|error| panic!("a virtual host cannot be made: {error}"));
        let mut url = server.amqp.clone();
        url.set_path(&name);
        let connection = eventually("the new virtual host takes a connection", async || {
            connect(&url, CLIENT_NAME).await
        })
        .await;
        Self {
            name,
            url,
            server: server.clone(),
            connection,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its AMQP URL, with user and password.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// The HTTP API.
    pub(crate) fn management(&self) -> Management {
        self.server.management()
    }

    /// Connects anew, after the server was gone.
    pub(crate) async fn reconnect(&mut self) {
        self.connection = eventually("the virtual host takes a connection again", async || {
            connect(&self.url, CLIENT_NAME).await
        })
        .await;
    }

    /// A channel of the test's own connection. Operations that the broker may refuse close it.
    pub(crate) async fn channel(&self) -> Channel {
        within("a channel", self.connection.create_channel())
            .await
            .expect("the test's own connection works")
    }

    /// Declares a durable queue, and the queue of its dead letters; `kind` is `quorum` or `classic`.
    pub(crate) async fn declare(&self, queue: &str, kind: &str) {
        for queue in [queue, &format!("{queue}.dead")] {
            let kind = AMQPValue::LongString(kind.into());
            self.declare_with(queue, [("x-queue-type", kind)]).await;
        }
    }

    /// Declares a durable queue with `arguments`.
    pub(crate) async fn declare_with<const N: usize>(
        &self,
        queue: &str,
        arguments: [(&str, AMQPValue); N],
    ) {
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert(name.into(), value);
        }
        let options = QueueDeclareOptions {
            durable: true,
            ..QueueDeclareOptions::default()
        };
        let channel = self.channel().await;
        let declared = channel.queue_declare(queue.into(), options, table);
        within("queue.declare", declared)
            .await
            .unwrap_or_else(|error| panic!("{queue} cannot be declared: {error}"));
        self.done(channel).await;
    }

    /// Binds a queue to an exchange.
    pub(crate) async fn bind(&self, queue: &str, exchange: &str, key: &str) {
        let channel = self.channel().await;
        let options = QueueBindOptions::default();
        let none = FieldTable::default();
        let bound = channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none);
        within("queue.bind", bound)
            .await
            .unwrap_or_else(|error| panic!("{queue} cannot be bound: {error}"));
        self.done(channel).await;
    }

    /// Whether the broker is of this version or a newer one.
    pub(crate) async fn broker_is_at_least(&self, major: u32, minor: u32) -> bool {
        let overview = self.management().get("/api/overview").await;
        let overview = overview.unwrap_or_else(|error| panic!("{error}"));
        let version = overview["rabbitmq_version"].as_str().unwrap_or_default();
        let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
    }

    /// Deletes a queue and what is in it.
    pub(crate) async fn delete(&self, queue: &str) {
        let channel = self.channel().await;
        let deleted = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
        within("queue.delete", deleted)
            .await
            .unwrap_or_else(|error| panic!("{queue} cannot be deleted: {error}"));
        self.done(channel).await;
    }

    /// Publishes `count` persistent messages, with ids and bodies `0`, `1`, …, and awaits their confirms.
    pub(crate) async fn publish(&self, queue: &str, count: usize) {
        self.publish_all(queue, (0..count).map(|number| number.to_string()))
            .await;
    }

    /// Publishes one persistent message for each of `ids`, which is its body too, and awaits their confirms.
    pub(crate) async fn publish_all(&self, queue: &str, ids: impl IntoIterator<Item = String>) {
        let messages = ids.into_iter().map(|id| {
            let properties = BasicProperties::default()
                .with_message_id(id.as_str().into())
                .with_delivery_mode(2);
            (properties, id.into_bytes())
        });
        self.publish_messages(queue, messages).await;
    }

    /// Publishes messages to `queue` by the default exchange and awaits their confirms.
    pub(crate) async fn publish_messages(
        &self,
        queue: &str,
        messages: impl IntoIterator<Item = (BasicProperties, Vec<u8>)>,
    ) {
        let channel = self.channel().await;
        within(
            "confirm.select",
            channel.confirm_select(ConfirmSelectOptions::default()),
        )
        .await
        .expect("the test's own channel works");
        let options = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let mut confirms = VecDeque::<lapin::PublisherConfirm>::new();
        let mut messages = messages.into_iter();
        loop {
            let next = messages.next();
            if confirms.len() >= WINDOW || next.is_none() {
                let Some(confirm) = confirms.pop_front() else {
                    break;
                };
                let confirm = within("a confirm", confirm).await;
                let confirm = confirm.expect("the channel works");
                let taken = matches!(confirm, lapin::Confirmation::Ack(None));
                assert!(taken, "{queue} does not take a message: {confirm:?}");
            }
            if let Some((properties, body)) = next {
                let confirm =
                    channel.basic_publish("".into(), queue.into(), options, &body, properties);
                confirms.push_back(confirm.await.expect("the channel works"));
            }
        }
        self.done(channel).await;
    }

    /// Messages ready in `queue`, and its consumers (`queue.declare` passive: the queue itself answers, at once).
    pub(crate) async fn facts(&self, queue: &str) -> Option<(u32, u32)> {
        let channel = self.channel().await;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let declared = channel.queue_declare(queue.into(), options, FieldTable::default());
        let facts = within("queue.declare", declared).await.ok()?;
        let facts = (facts.message_count(), facts.consumer_count());
        self.done(channel).await;
        Some(facts)
    }

    /// Messages ready in `queue`.
    pub(crate) async fn ready(&self, queue: &str) -> u32 {
        let facts = self.facts(queue).await;
        facts
            .unwrap_or_else(|| panic!("there is no queue {queue}"))
            .0
    }

    /// Consumers of `queue`.
    pub(crate) async fn consumers(&self, queue: &str) -> u32 {
        let facts = self.facts(queue).await;
        facts
            .unwrap_or_else(|| panic!("there is no queue {queue}"))
            .1
    }

    /// Waits until `queue` has `count` messages ready.
    pub(crate) async fn until_ready(&self, queue: &str, count: u32) {
        eventually(format_args!("{queue} has {count} ready"), async || {
            let facts = self.facts(queue).await;
            let ready = facts.map(|(ready, _)| ready);
            expect_that(ready == Some(count), || format!("{ready:?}"))
        })
        .await;
    }

    /// Waits until `queue` has `count` messages ready, and takes them.
    pub(crate) async fn take_once_ready(&self, queue: &str, count: u32) -> Vec<Taken> {
        self.until_ready(queue, count).await;
        self.take_all(queue).await
    }

    /// Waits until `queue` has `count` consumers.
    pub(crate) async fn until_consumers(&self, queue: &str, count: u32) {
        eventually(format_args!("{queue} has {count} consumers"), async || {
            let consumers = self.facts(queue).await.map(|(_, consumers)| consumers);
            expect_that(consumers == Some(count), || format!("{consumers:?}"))
        })
        .await;
    }

    /// Waits until the management plugin counts `count` unacknowledged messages in `queue`; its figures lag by
    /// up to five seconds.
    pub(crate) async fn until_unacked(&self, queue: &str, count: u64) {
        let path = format!("/api/queues/{}/{}", self.name, segment(queue));
        let management = self.management();
        eventually(
            format_args!("{queue} has {count} unacknowledged"),
            async || {
                let found = management.get(&path).await?;
                let unacked = found["messages_unacknowledged"].as_u64();
                expect_that(unacked == Some(count), || format!("{unacked:?}"))
            },
        )
        .await;
    }

    /// Takes everything that is ready out of `queue`.
    pub(crate) async fn take_all(&self, queue: &str) -> Vec<Taken> {
        self.take(queue, usize::MAX).await
    }

    /// Takes everything that is ready out of `queue`, and gives the message ids in their order.
    pub(crate) async fn take_ids(&self, queue: &str) -> Vec<String> {
        let taken = self.take_all(queue).await;
        taken.into_iter().map(|message| message.id).collect()
    }

    /// Takes what is ready out of `queue`, at most `count` messages.
    pub(crate) async fn take(&self, queue: &str, count: usize) -> Vec<Taken> {
        let channel = self.channel().await;
        let mut taken = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while taken.len() < count
            && let Some(message) = within("basic.get", channel.basic_get(queue.into(), options))
                .await
                .unwrap_or_else(|error| panic!("nothing can be got from {queue}: {error}"))
        {
            taken.push(Taken::from(message.delivery));
        }
        self.done(channel).await;
        taken
    }

    /// Closes the connections to this virtual host whose names contain `part`, as an administrator would,
    /// and says how many. The management plugin learns of a connection up to five seconds late.
    pub(crate) async fn close_connections(&self, part: &str) -> usize {
        let management = self.management();
        let path = format!("/api/vhosts/{}/connections", self.name);
        let found = management
            .get(&path)
            .await
            .unwrap_or_else(|error| panic!("{error}"));
        let mut closed = 0;
        for connection in found.as_array().into_iter().flatten() {
            let own_name = connection["user_provided_name"].as_str();
            if let Some(name) = connection["name"].as_str()
                && own_name.unwrap_or_default().contains(part)
            {
                // It may have ended by itself.
                let path = format!("/api/connections/{}", segment(name));
                closed += usize::from(management.delete(&path).await.is_ok());
            }
        }
        closed
    }

    async fn done(&self, channel: Channel) {
        within("channel.close", channel.close(200, "OK".into()))
            .await
            .expect("the test's own channel works");
    }
}

impl Drop for Vhost {
    /// Best effort: a virtual host that stays is removed with its broker.
    fn drop(&mut self) {
        let management = self.server.management();
        let path = format!("/api/vhosts/{}", self.name);
        // The test's runtime may be ending; this waits outside it.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .ok()?;
            let deleted =
                async { tokio::time::timeout(REMOVAL_LIMIT, management.delete(&path)).await };
            runtime.block_on(deleted).ok()?.ok()
        });
        let _ = removal.join();
    }
}

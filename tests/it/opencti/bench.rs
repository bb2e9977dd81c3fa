//! What the tests of OpenCTI's worker stand on.

use std::ops::Range;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::options::{BasicPublishOptions, ExchangeDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, ExchangeKind};
use serde_json::{Value, json};
use tidegate_platform_stub::Platform;
use tokio::process::Command;

use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, eventually_within, expect_that, limit, within};
use crate::harness::worker::Worker;

/// Where parts of a split bundle are published.
const EXCHANGE: &str = "amqp.worker.exchange";

/// A platform, a broker with the queues of its connectors, and a Python with pycti.
pub(crate) struct Bench {
    pub platform: Platform,
    pub vhost: Vhost,
    /// The platform's URL, as the worker is told.
    pub url: String,
    python: PathBuf,
}

impl Bench {
    /// A platform with these connectors; `None` after saying loudly that there is no pycti.
    pub(crate) async fn new(connectors: &[&str]) -> Option<Self> {
        let python = std::env::var_os("TIDEGATE_TEST_PYCTI").map_or_else(
            || {
                let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
                home.join(".cache/tidegate/pycti-7.261026.0/bin/python3")
            },
            PathBuf::from,
        );
        if !python.exists() {
            let python = python.display();
            eprintln!("SKIPPED: no Python with pycti at {python}; run scripts/pycti");
            return None;
        }
        let platform = Platform::start().await;
        let vhost = Vhost::new().await;
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        let channel = vhost.channel().await;
        let declared = channel.exchange_declare(
            EXCHANGE.into(),
            ExchangeKind::Direct,
            options,
            FieldTable::default(),
        );
        within("exchange.declare", declared).await.unwrap();
        let bench = Self {
            url: platform.url(),
            platform,
            vhost,
            python,
        };
        for connector in connectors {
            bench.declare(connector).await;
        }
        bench.connectors(connectors, None);
        Some(bench)
    }

    /// Declares a connector's queue as the platform does.
    pub(crate) async fn declare(&self, connector: &str) {
        let queue = format!("push_{connector}");
        self.vhost.declare_with(&queue, []).await;
        let key = format!("push_routing_{connector}");
        self.vhost.bind(&queue, EXCHANGE, &key).await;
    }

    /// Lets the platform list these connectors, and `more`.
    pub(crate) fn connectors(&self, connectors: &[&str], more: Option<Value>) {
        let url = self.vhost.url();
        let listed = connectors.iter().map(|id| {
            json!({"id": id, "name": format!("Connector {id}"), "connector_priority_group": "DEFAULT",
                "config": {"connection": {"host": url.host_str(), "vhost": self.vhost.name(), "use_ssl": false,
                    "port": url.port().unwrap_or(5672), "user": user(url.username()),
                    "pass": url.password().unwrap_or("guest")},
                "listen": format!("listen_{id}"), "listen_exchange": "amqp.connector.exchange",
                "listen_callback_uri": null, "push": format!("push_{id}"), "push_exchange": EXCHANGE,
                "push_routing": format!("push_routing_{id}"), "dead_letter_routing": null}})
        });
        self.platform.set_connectors(listed.chain(more).collect());
    }

    /// Starts a worker as an operator would: with nothing but variables.
    pub(crate) fn worker(&self, more: &[(&str, &str)]) -> Worker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .args(["--log-format", "json", "worker"])
            .env("OPENCTI_URL", &self.url)
            .env("OPENCTI_TOKEN", "token")
            .env("TIDEGATE__OPENCTI__PYTHON", &self.python)
            .env("TIDEGATE__WORKER__HTTP", "127.0.0.1:0")
            .envs(more.iter().copied());
        Worker::run(command)
    }

    /// Waits until the first connector's queue is consumed.
    pub(crate) async fn until_consumed(&self, worker: &Worker) {
        worker.until_ready().await;
        self.vhost.until_consumers("push_a", 1).await;
    }

    /// Publishes messages on a connector's queue as pycti does, without a message id.
    pub(crate) async fn send(&self, connector: &str, messages: &[Value]) {
        let channel = self.vhost.channel().await;
        for message in messages {
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_content_encoding("utf-8".into());
            let body = message.to_string();
            let published = channel.basic_publish(
                EXCHANGE.into(),
                format!("push_routing_{connector}").as_str().into(),
                BasicPublishOptions::default(),
                body.as_bytes(),
                properties,
            );
            within("basic.publish", published).await.unwrap();
        }
    }

    /// Waits until the platform knows this many works, all of them complete.
    pub(crate) async fn until_works_complete(&self, count: usize) {
        eventually_within(limit() * 3, "all works are complete", async || {
            let works = self.platform.works();
            let complete = works
                .values()
                .filter(|work| work.expected > 0 && work.processed >= work.expected);
            expect_that(works.len() == count && complete.count() == count, || {
                format!("{works:?}")
            })
        })
        .await;
    }

    /// How often each object was imported.
    pub(crate) fn imports(&self) -> Vec<usize> {
        self.platform.imports().into_values().collect()
    }

    /// The broker's connections of the worker.
    pub(crate) async fn connections(&self) -> usize {
        let path = format!("/api/vhosts/{}/connections", self.vhost.name());
        eventually("the broker lists its connections", async || {
            let listed = self.vhost.management().get(&path).await?;
            let names = listed.as_array().cloned().unwrap_or_default();
            let ours = names.iter().filter(|connection| {
                let name = connection["client_properties"]["connection_name"].as_str();
                name.is_some_and(|name| name.starts_with("tidegate "))
            });
            let ours = ours.count();
            // The list lags behind.
            expect_that(ours > 1, || format!("{ours} of {}", names.len())).map(|()| ours)
        })
        .await
    }
}

fn user(name: &str) -> &str {
    if name.is_empty() { "guest" } else { name }
}

pub(crate) fn encoded(content: &str) -> String {
    STANDARD.encode(content)
}

/// An object to import.
pub(crate) fn identity(number: u32) -> Value {
    let id = format!("identity--00000000-0000-4000-8000-{number:012}");
    json!({"type": "identity", "spec_version": "2.1", "id": id, "name": format!("Identity {number}"),
        "identity_class": "organization"})
}

/// A message with these objects.
pub(crate) fn message(objects: &[Value], more: &Value) -> Value {
    let bundle = json!({"type": "bundle", "id": "bundle--1", "objects": objects});
    let mut message = json!({"type": "bundle", "content": encoded(&bundle.to_string())});
    let keys = message.as_object_mut().unwrap();
    keys.extend(more.as_object().unwrap().clone());
    message
}

/// Messages of one object each.
pub(crate) fn messages(numbers: Range<u32>, more: &Value) -> Vec<Value> {
    numbers
        .map(|number| message(&[identity(number)], more))
        .collect()
}

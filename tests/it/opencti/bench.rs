//! What the tests of OpenCTI's worker stand on.

use std::ffi::OsString;
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
use url::Url;

use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, eventually_within, expect_that, limit, within};
use crate::harness::worker::Worker;

/// Where parts of a split bundle are published.
const EXCHANGE: &str = "amqp.worker.exchange";
/// Where messages for connectors are published.
pub(crate) const CONNECTOR_EXCHANGE: &str = "amqp.connector.exchange";

/// A platform, a broker with the queues of its connectors, and a Python with pycti.
pub(crate) struct Bench {
    pub platform: Platform,
    pub vhost: Vhost,
    /// The broker, as the platform names it.
    pub broker: Url,
    /// The platform's URL, as the worker is told.
    pub url: String,
    python: PathBuf,
}

impl Bench {
    /// A platform with these connectors; `None` after saying loudly that there is no pycti.
    pub(crate) async fn new(connectors: &[&str]) -> Option<Self> {
        Self::on(Vhost::new(), connectors).await
    }

    /// As [`new`](Self::new), on a virtual host that is made for it.
    pub(crate) async fn on(
        vhost: impl Future<Output = Vhost>,
        connectors: &[&str],
    ) -> Option<Self> {
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
        let vhost = vhost.await;
        for exchange in [EXCHANGE, CONNECTOR_EXCHANGE] {
            declare_exchange(&vhost, exchange, ExchangeKind::Direct).await;
        }
        let bench = Self {
            url: platform.url(),
            broker: vhost.url().clone(),
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
        let listed = connectors.iter().map(|id| self.listed(id));
        self.platform.set_connectors(listed.chain(more).collect());
    }

    /// Lets the platform list one connector, with the routing key of its own dead letters.
    pub(crate) fn connector_with_dead_letters(&self, id: &str, routing_key: &str) {
        let mut connector = self.listed(id);
        connector["config"]["dead_letter_routing"] = routing_key.into();
        self.platform.set_connectors(json!([connector]));
    }

    /// A connector as the platform lists it.
    pub(crate) fn listed(&self, id: &str) -> Value {
        let url = &self.broker;
        json!({"id": id, "name": format!("Connector {id}"), "connector_priority_group": "DEFAULT",
            "config": {"connection": {"host": url.host_str(), "vhost": self.vhost.name(), "use_ssl": false,
                "port": url.port().unwrap_or(5672), "user": user(url.username()),
                "pass": url.password().unwrap_or("guest")},
            "listen": format!("listen_{id}"), "listen_exchange": CONNECTOR_EXCHANGE,
            "listen_callback_uri": null, "push": format!("push_{id}"), "push_exchange": EXCHANGE,
            "push_routing": format!("push_routing_{id}"), "dead_letter_routing": null}})
    }

    /// The variables that an operator sets, and where this test's Python is.
    pub(crate) fn variables(&self) -> [(&'static str, OsString); 3] {
        [
            ("OPENCTI_URL", self.url.clone().into()),
            ("OPENCTI_TOKEN", "token".into()),
            ("TIDEGATE__OPENCTI__PYTHON", self.python.clone().into()),
        ]
    }

    /// Runs another command of the program with those variables, and gives its exit code and standard output.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .args(arguments)
            .envs(self.variables())
            .kill_on_drop(true);
        let output = within(format_args!("tidegate {arguments:?}"), command.output())
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        if text.is_empty() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        }
        (output.status.code(), text)
    }

    /// Starts a worker as an operator would: with nothing but variables.
    pub(crate) fn worker(&self, more: &[(&str, &str)]) -> Worker {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .args(["--log-format", "json", "worker"])
            .envs(self.variables())
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
        let key = format!("push_routing_{connector}");
        self.publish(EXCHANGE, &key, messages).await;
    }

    /// Publishes messages for a connector on its listen queue.
    pub(crate) async fn send_to(&self, queue: &str, messages: &[Value]) {
        self.publish(CONNECTOR_EXCHANGE, queue, messages).await;
    }

    async fn publish(&self, exchange: &str, key: &str, messages: &[Value]) {
        let channel = self.vhost.channel().await;
        for message in messages {
            let properties = BasicProperties::default()
                .with_delivery_mode(2)
                .with_content_encoding("utf-8".into());
            let body = message.to_string();
            let published = channel.basic_publish(
                exchange.into(),
                key.into(),
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

    /// Waits until `count` objects are imported in all.
    pub(crate) async fn until_imported(&self, count: usize) {
        eventually_within(
            limit() * 2,
            format_args!("{count} objects are imported"),
            async || {
                let found = self.imports().len();
                expect_that(found >= count, || found.to_string())
            },
        )
        .await;
    }

    /// Expects that each work was told of exactly what it expects, and of no error.
    pub(crate) fn expect_exact_reports(&self) {
        for (name, work) in self.platform.works() {
            let told = (work.processed, work.errors.len());
            assert_eq!(told, (work.expected, 0), "{name}");
        }
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

pub(crate) async fn declare_exchange(vhost: &Vhost, name: &str, kind: ExchangeKind) {
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let channel = vhost.channel().await;
    let declared = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
    within("exchange.declare", declared).await.unwrap();
}

/// A number that a variable gives: a longer form of a test.
pub(crate) fn times(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

fn user(name: &str) -> &str {
    if name.is_empty() { "guest" } else { name }
}

pub(crate) fn encoded(content: &str) -> String {
    STANDARD.encode(content)
}

/// The JSON in a message's content.
pub(crate) fn decoded(content: &str) -> Value {
    let bytes = STANDARD.decode(content).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// An object to import.
pub(crate) fn identity(number: u32) -> Value {
    let id = format!("identity--00000000-0000-4000-8000-{number:012}");
    json!({"type": "identity", "spec_version": "2.1", "id": id, "name": format!("Identity {number}"),
        "identity_class": "organization"})
}

/// A report of three identities.
pub(crate) fn report() -> Value {
    let references = [1, 2, 3].map(|number| identity(number)["id"].clone());
    json!({"type": "report", "spec_version": "2.1", "name": "R", "published": "2026-01-01T00:00:00Z",
        "id": "report--00000000-0000-4000-8000-000000000009", "object_refs": references})
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

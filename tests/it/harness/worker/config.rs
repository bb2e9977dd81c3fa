//! A worker's configuration, put together.

use url::Url;

use crate::harness::gate::Gate;

/// A worker's configuration in TOML. Without more it is: the broker, a free port for HTTP, and a drain
/// long enough for a slow machine.
#[derive(Debug, Clone)]
pub(crate) struct WorkerConfig {
    broker: String,
    name: String,
    grace: String,
    tables: String,
    nodes: Vec<String>,
}

/// `text` as a TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

impl WorkerConfig {
    /// A worker on the virtual host of `broker`.
    pub(crate) fn new(broker: &Url) -> Self {
        Self {
            broker: format!("url = {}", quoted(broker.as_str())),
            name: "test".to_owned(),
            grace: "60s".to_owned(),
            tables: String::new(),
            nodes: Vec::new(),
        }
    }

    /// A worker on the virtual host of `broker` that posts to `gate` what is in the queue `orders`, as
    /// [`http_node`](Self::http_node) says; `lines` are other keys of its node.
    pub(crate) fn for_orders(broker: &Url, gate: &Gate, lines: &str) -> Self {
        Self::new(broker).http_node("orders", &gate.url(), lines)
    }

    /// More lines of `[broker]`.
    pub(crate) fn broker(mut self, lines: &str) -> Self {
        self.broker = format!("{}\n{lines}", self.broker);
        self
    }

    /// The worker's name; `test` without this.
    pub(crate) fn name(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// `drain.grace`, with a unit.
    pub(crate) fn grace(mut self, grace: &str) -> Self {
        grace.clone_into(&mut self.grace);
        self
    }

    /// More tables, as they stand in the file: `[status]`, `[pool.x]`.
    pub(crate) fn tables(mut self, toml: &str) -> Self {
        self.tables.push_str(toml);
        self.tables.push('\n');
        self
    }

    /// A node that consumes `queue`; `lines` are its other keys (`concurrency = 2`, `handler = …`).
    pub(crate) fn node(mut self, queue: &str, lines: &str) -> Self {
        let queue = quoted(queue);
        self.nodes
            .push(format!("[[node]]\nqueue = {queue}\n{lines}\n"));
        self
    }

    /// A node that consumes the classic or quorum queue `queue`, declared by the test, and posts to `url`. Unless
    /// `lines` say something of `retry`, a message is run once: a failure goes to the dead letters.
    pub(crate) fn http_node(self, queue: &str, url: &Url, lines: &str) -> Self {
        let url = quoted(url.as_str());
        let retry = if lines.contains("retry") {
            ""
        } else {
            "retry = { max_attempts = 1 }\n"
        };
        let lines =
            format!("handler = {{ http = {{ url = {url} }} }}\ndeclare = false\n{retry}{lines}");
        self.node(queue, &lines)
    }

    /// A node that declares the queue `queue` of type `kind`, and what stands beside it, and posts to `url`.
    pub(crate) fn declaring_node(self, queue: &str, kind: &str, url: &Url, lines: &str) -> Self {
        let (kind, url) = (quoted(kind), quoted(url.as_str()));
        let lines = format!("type = {kind}\nhandler = {{ http = {{ url = {url} }} }}\n{lines}");
        self.node(queue, &lines)
    }

    /// The file's text.
    pub(crate) fn toml(&self) -> String {
        format!(
            "[broker]\n{}\n\n[worker]\nname = {}\nhttp = \"127.0.0.1:0\"\n\n[drain]\ngrace = {}\n\n{}\n{}",
            self.broker,
            quoted(&self.name),
            quoted(&self.grace),
            self.tables,
            self.nodes.join("\n"),
        )
    }
}

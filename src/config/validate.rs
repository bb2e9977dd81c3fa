//! Checks settings that were made in code against the rules that settings from a file keep.

use std::fmt::Debug;
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretString};

use super::broker::BrokerSettings;
use super::error::{ConfigError, ConfigErrors, Rule};
use super::fleet::FleetSettings;
use super::handler::{ChildPoolSettings, ExecSettings, HandlerSettings, HttpSettings};
use super::node::{NodeSettings, RetrySettings, Slots};
use super::rules;
use super::settings::{Settings, StatusSettings, WorkerSettings};

impl Settings {
    /// Checks every rule. A worker does this before it opens a socket; settings from a file have passed.
    ///
    /// ```
    /// use std::time::Duration;
    /// use tidegate::config::{BrokerSettings, NodeSettings, Settings};
    ///
    /// let mut settings = Settings::new(BrokerSettings::from_url("amqp://localhost")?);
    /// settings.nodes.push(NodeSettings::new("orders"));
    /// assert!(settings.validate().is_ok());
    ///
    /// settings.nodes[0].retry.min = Duration::ZERO;
    /// let errors = settings.validate().unwrap_err();
    /// assert_eq!(
    ///     errors.errors()[0].to_string(),
    ///     r#"node["orders"].retry.min = 0ns: must be from 10ms to 24h"#
    /// );
    /// # Ok::<(), tidegate::config::UrlError>(())
    /// ```
    ///
    /// # Errors
    /// [`ConfigErrors`] holds everything that is wrong, and no secret.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let mut check = Check::default();
        check.within("broker", |check| check.broker(&self.broker));
        check.within("worker", |check| check.worker(&self.worker));
        let grace = self.drain.grace;
        check.value("drain.grace", grace, rules::GRACE.duration(grace));
        check.within("heartbeat", |check| {
            let (busy, idle) = (self.heartbeat.busy, self.heartbeat.idle);
            check.value("busy", busy, rules::HEARTBEAT.duration(busy));
            check.value("idle", idle, rules::HEARTBEAT.duration(idle));
            let order = rules::order(("busy", busy), ("idle", idle));
            check.value("busy", busy, order.map_err(|[rule, _]| rule));
        });
        check.within("status", |check| check.status(&self.status));
        check.pools(self);
        check.nodes(self);
        check.within("fleet", |check| check.fleet(&self.fleet));
        check.finish()
    }
}

impl NodeSettings {
    /// Checks every rule for a node by itself; [`Settings::validate`] does so for each of its nodes.
    ///
    /// # Errors
    /// As [`Settings::validate`].
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let mut check = Check::default();
        check.within(&node_path(self), |check| check.node(self));
        check.finish()
    }
}

fn node_path(node: &NodeSettings) -> String {
    format!("node[{:?}]", node.queue)
}

/// The errors found so far, and the place of the check.
#[derive(Debug, Default)]
struct Check {
    path: String,
    errors: Vec<ConfigError>,
}

impl Check {
    fn finish(self) -> Result<(), ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(());
        }
        Err(ConfigErrors::new(Path::new("settings"), self.errors))
    }

    fn within(&mut self, part: &str, check: impl FnOnce(&mut Self)) {
        let before = self.path.len();
        if !self.path.is_empty() {
            self.path.push('.');
        }
        self.path.push_str(part);
        check(self);
        self.path.truncate(before);
    }

    /// Notes the rule that the value breaks, if it does.
    fn value<T>(&mut self, key: &str, value: impl Debug, result: Result<T, Rule>) {
        if let Err(error) = self.error(key, result) {
            self.errors.push(error.showing(format!("{value:?}")));
        }
    }

    /// As [`Check::value`], for a value that no error may show.
    fn unshown<T>(&mut self, key: &str, result: Result<T, Rule>) {
        if let Err(error) = self.error(key, result) {
            self.errors.push(error);
        }
    }

    fn error<T>(&self, key: &str, result: Result<T, Rule>) -> Result<T, ConfigError> {
        let dot = if self.path.is_empty() { "" } else { "." };
        result.map_err(|rule| ConfigError::at(format!("{}{dot}{key}", self.path), rule, 0))
    }

    fn broker(&mut self, broker: &BrokerSettings) {
        let own = std::iter::once((broker.host.as_str(), broker.port));
        let others = broker.other_hosts.iter();
        let others = others.map(|(host, port)| (host.as_str(), *port));
        for (key, (host, port)) in std::iter::once("host")
            .chain(std::iter::repeat("other_hosts"))
            .zip(own.chain(others))
        {
            self.value(key, host, rules::broker_host(host, port));
        }
        let others = broker.other_hosts.len();
        self.value("other_hosts", others, rules::other_hosts(others));
        let vhost = rules::NAME_OR_EMPTY.text(broker.vhost.clone());
        self.value("vhost", &broker.vhost, vhost.and_then(rules::without_nul));
        let username = rules::without_nul(broker.username.clone());
        self.value("username", &broker.username, username);
        let password = broker.password.expose_secret().to_owned();
        self.unshown("password", rules::without_nul(password));
        let (ca, identity) = (broker.ca.is_some(), broker.identity.is_some());
        self.unshown("ca", rules::needs_amqps(ca, broker.tls));
        self.unshown("identity", rules::needs_amqps(identity, broker.tls));
        let (timeout, heartbeat) = (broker.connect_timeout, broker.heartbeat);
        let timeouts = rules::CONNECT_TIMEOUT.duration(timeout);
        self.value("connect_timeout", timeout, timeouts);
        let heartbeats = rules::broker_heartbeat(heartbeat);
        self.value("heartbeat", heartbeat, heartbeats);
    }

    fn worker(&mut self, worker: &WorkerSettings) {
        let name = rules::worker_name(worker.name.clone());
        self.value("name", &worker.name, name);
        if let Some(address) = worker.http {
            self.value("http", address, rules::endpoints());
        }
    }

    fn status(&mut self, status: &StatusSettings) {
        for (key, name) in [("exchange", &status.exchange), ("control", &status.control)] {
            self.value(key, name, rules::status_exchange(name.clone()));
        }
        let differ = rules::exchanges_differ(status, "exchange");
        self.value("control", &status.control, differ);
    }

    fn pools(&mut self, settings: &Settings) {
        let names: Vec<&str> = settings.pools.keys().map(String::as_str).collect();
        for (name, pool) in &settings.pools {
            self.within(&format!("pool[{name:?}]"), |check| {
                let slots = rules::POOL_SLOTS.number(pool.slots);
                check.value("slots", pool.slots, slots);
                if let Some(other) = &pool.overflow {
                    check.value("overflow", other, rules::overflow(name, other, &names));
                }
            });
        }
    }

    fn nodes(&mut self, settings: &Settings) {
        let pools: Vec<&str> = settings.pools.keys().map(String::as_str).collect();
        for (place, node) in settings.nodes.iter().enumerate() {
            self.within(&node_path(node), |check| {
                check.node(node);
                if let Slots::Pool(pool) = &node.slots {
                    check.value("pool", pool, rules::pool(pool, &pools));
                }
                let mut before = settings.nodes[..place].iter();
                if before.any(|other| other.queue == node.queue) {
                    let rule = "another node consumes it already".to_owned();
                    check.value("queue", &node.queue, Err::<(), _>(rule));
                }
            });
        }
    }

    fn node(&mut self, node: &NodeSettings) {
        let queue = rules::queue(node.queue.clone(), node.declare);
        self.value("queue", &node.queue, queue);
        if let Some(length) = node.max_length {
            self.value("max_length", length, rules::QUEUE_LENGTH.number(length));
        }
        for name in node.arguments.keys() {
            self.value("arguments", name, rules::queue_argument(name));
        }
        for binding in &node.bind {
            let exchange = rules::NAME.text(&binding.exchange);
            self.value("bind.exchange", &binding.exchange, exchange);
            let key = rules::NAME_OR_EMPTY.text(&binding.key);
            self.value("bind.key", &binding.key, key);
        }
        if let Slots::Own(slots) = node.slots {
            self.value("concurrency", slots, rules::CONCURRENCY.number(slots));
        }
        let prefetch = rules::PREFETCH.number(node.prefetch);
        self.value("prefetch", node.prefetch, prefetch);
        let timeout = rules::TIMEOUT.duration(node.timeout);
        self.value("timeout", node.timeout, timeout);
        let hold = rules::HOLD.duration(node.hold_max);
        self.value("hold_max", node.hold_max, hold);
        self.value("max_body", node.max_body, rules::BODY.size(node.max_body));
        self.within("retry", |check| check.retry(&node.retry));
        let delayed = rules::delayed_retry(node);
        self.value("delayed_retry", node.delayed_retry, delayed);
        let dead_letter = &node.dead_letter;
        self.within("dead_letter", |check| {
            for (key, name) in [
                ("exchange", &dead_letter.exchange),
                ("routing_key", &dead_letter.routing_key),
            ] {
                check.value(key, name, rules::NAME_OR_EMPTY.text(name));
            }
            let key = &dead_letter.routing_key;
            check.value("routing_key", key, rules::dead_letter_key(dead_letter));
            let own = rules::dead_letter(dead_letter, &node.queue);
            check.value("routing_key", key, own);
        });
        if let Some(handler) = &node.handler {
            self.within("handler", |check| check.handler(handler));
        }
    }

    fn retry(&mut self, retry: &RetrySettings) {
        let attempts = rules::ATTEMPTS.number(retry.max_attempts);
        self.value("max_attempts", retry.max_attempts, attempts);
        let (min, max) = (retry.min, retry.max);
        self.value("min", min, rules::RETRY_DELAY.duration(min));
        self.value("max", max, rules::RETRY_DELAY.duration(max));
        let order = rules::order(("min", min), ("max", max));
        self.value("min", min, order.map_err(|[rule, _]| rule));
    }

    fn handler(&mut self, handler: &HandlerSettings) {
        self.within(handler.kind(), |check| match handler {
            HandlerSettings::Http(http) => check.http(http),
            HandlerSettings::Exec(exec) => check.exec(exec),
            HandlerSettings::Pool(pool) => check.child_pool(pool),
            HandlerSettings::Log(_) => {}
        });
    }

    fn http(&mut self, http: &HttpSettings) {
        self.unshown("url", rules::http_url(&http.url));
        for (place, (name, value)) in http.headers.iter().enumerate() {
            let others = http.headers.keys().take(place);
            self.value("headers", name, rules::header_name(name, others));
            let value = value.expose_secret().to_owned();
            self.value("headers", name, rules::header_value(value));
        }
    }

    fn exec(&mut self, exec: &ExecSettings) {
        if exec.command.is_empty() {
            self.unshown("command", rules::argument(String::new(), 0));
        }
        for (index, argument) in exec.command.iter().enumerate() {
            let key = format!("command[{index}]");
            self.unshown(&key, rules::argument(argument.clone(), index));
        }
        for (name, value) in &exec.env {
            self.value("env", name, rules::variable(name));
            let value = value.expose_secret().to_owned();
            self.value("env", name, rules::without_nul(value));
        }
    }

    fn child_pool(&mut self, pool: &ChildPoolSettings) {
        self.exec(&pool.command);
        if let Some(size) = pool.size {
            self.value("size", size, rules::CHILDREN.number(size));
        }
        let warm = rules::warm(pool.warm, pool.size.is_some());
        self.value("warm", pool.warm, warm);
        if let Some(count) = pool.max_deliveries {
            let count_rule = rules::MAX_DELIVERIES.number(count);
            self.value("max_deliveries", count, count_rule);
        }
        if let Some(size) = pool.max_rss {
            self.value("max_rss", size, rules::MAX_RSS.size(size));
        }
    }

    fn fleet(&mut self, fleet: &FleetSettings) {
        for host in &fleet.hosts {
            self.value("hosts", host, rules::host_name(host.clone()));
        }
        self.token("token", fleet.token.as_ref());
        self.token("read_token", fleet.read_token.as_ref());
        if let Some(vhost) = &fleet.events_vhost {
            self.value("events_vhost", vhost, rules::NAME.text(vhost));
        }
        let retention = rules::KEPT.duration(fleet.retention);
        self.value("retention", fleet.retention, retention);
        let age = rules::KEPT.duration(fleet.log_max_age);
        self.value("log_max_age", fleet.log_max_age, age);
        let workers = rules::MAX_WORKERS.number(fleet.max_workers);
        self.value("max_workers", fleet.max_workers, workers);
        let bytes = rules::LOG_BYTES.size(fleet.log_max_bytes);
        self.value("log_max_bytes", fleet.log_max_bytes, bytes);
        let beats = rules::BEATS_PER_SECOND.number(fleet.beats_per_second);
        self.value("beats_per_second", fleet.beats_per_second, beats);
        if let Some(forward) = &fleet.forward {
            self.within("forward", |check| {
                check.http(&forward.http);
                let window = rules::FORWARD_WINDOW.duration(forward.window);
                check.value("window", forward.window, window);
            });
        }
    }

    fn token(&mut self, key: &str, token: Option<&SecretString>) {
        if let Some(token) = token {
            self.unshown(key, rules::token(token.expose_secret().to_owned()));
        }
    }
}

#[cfg(test)]
mod tests;

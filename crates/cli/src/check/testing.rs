//! Settings for tests.

use std::time::Duration;

use tidegate::config::{BrokerSettings, NodeSettings, Settings, Slots};

/// A node whose deliveries fit in the grace of [`settings`].
pub(super) fn node(queue: &str) -> NodeSettings {
    let mut node = NodeSettings::new(queue);
    node.slots = Slots::Own(2);
    node.prefetch = 4;
    node.timeout = Duration::from_secs(20);
    node.max_body = 1024;
    node
}

/// Settings with a grace of 25 s, and a broker that does not exist.
pub(super) fn settings(nodes: Vec<NodeSettings>) -> Settings {
    let broker = BrokerSettings::from_url("amqp://guest:hunter2@127.0.0.1:1");
    let mut settings = Settings::new(broker.expect("a URL"));
    settings.worker.name = "checked".to_owned();
    settings.worker.http = None;
    settings.heartbeat.busy = Duration::from_secs(10);
    settings.heartbeat.idle = Duration::from_secs(60);
    settings.nodes = nodes;
    settings
}

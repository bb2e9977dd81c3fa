//! Settings for tests.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate::config::{
    BrokerSettings, DrainSettings, HeartbeatSettings, NodeSettings, Settings, Slots,
    StatusSettings, WorkerSettings,
};

/// A node whose deliveries fit in the grace of [`settings`].
pub(super) fn node(queue: &str) -> NodeSettings {
    NodeSettings {
        slots: Slots::Own(2),
        prefetch: 4,
        timeout: Duration::from_secs(20),
        max_body: 1024,
        ..NodeSettings::new(queue)
    }
}

/// Settings with a grace of 25 s, and a broker that does not exist.
pub(super) fn settings(nodes: Vec<NodeSettings>) -> Settings {
    Settings {
        broker: BrokerSettings {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port: 1,
            other_hosts: Vec::new(),
            vhost: "/".to_owned(),
            username: "guest".to_owned(),
            password: "hunter2".to_owned().into(),
            url_file: None,
            password_file: None,
            ca: None,
            identity: None,
            connect_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
        },
        worker: WorkerSettings {
            name: "checked".to_owned(),
            http: None,
        },
        drain: DrainSettings {
            grace: Duration::from_secs(25),
        },
        heartbeat: HeartbeatSettings {
            busy: Duration::from_secs(10),
            idle: Duration::from_secs(60),
        },
        status: StatusSettings {
            enabled: true,
            exchange: "tidegate.status".to_owned(),
            control: "tidegate.control".to_owned(),
        },
        fleet: tidegate::config::FleetSettings::default(),
        pools: BTreeMap::new(),
        nodes,
    }
}

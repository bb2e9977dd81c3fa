//! From the platform's answer to the queues that are consumed.
//!
//! The platform always lists its own background-task queues, so an empty answer is a fault and changes nothing.
//! A connector that cannot be read costs only itself: it keeps what it had.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::broker_group::{Broker, BrokerKey};

mod selection;
#[cfg(test)]
mod tests;

pub use selection::Selection;

/// Port of a broker when the answer names none.
const PORT: (u16, u16) = (5672, 5671);

/// A queue that is consumed.
#[derive(Debug, Clone)]
pub struct WantedNode {
    /// The queue's name.
    pub queue: String,
    /// What its messages are.
    pub role: Role,
    /// The connector that it belongs to.
    pub connector: Connector,
    /// The broker that it is on.
    pub broker: Broker,
}

/// What the messages of a queue are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// Bundles and events to import.
    Push {
        /// Where the parts of a split bundle are published.
        exchange: String,
        /// With which routing key.
        routing_key: String,
        /// Where rejected objects are published: exchange and routing key.
        dead_letter: Option<(String, String)>,
    },
    /// Bodies that are posted to a URL.
    Listen {
        /// The URL.
        callback: url::Url,
    },
}

/// What is known of a connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connector {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its type, if it was asked for.
    pub kind: Option<String>,
    /// Whether its priority group is `REALTIME`.
    pub realtime: bool,
}

impl PartialEq for WantedNode {
    /// Passwords count, too: a node with a new one has to connect anew.
    fn eq(&self, other: &Self) -> bool {
        use secrecy::ExposeSecret as _;
        let secret = |node: &Self| node.broker.password.expose_secret().to_owned();
        self.queue == other.queue
            && self.role == other.role
            && self.connector == other.connector
            && self.broker.key == other.broker.key
            && secret(self) == secret(other)
    }
}

/// Why an answer changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// `connectorsForWorker` is not a list.
    #[error("the answer has no list of connectors")]
    NoList,
    /// The list is empty.
    #[error("the answer lists no connector; the platform always has some")]
    Empty,
    /// No connector of the list can be read.
    #[error("none of the {count} connectors can be read; the first: {first}")]
    AllBroken {
        /// How many there are.
        count: usize,
        /// What is wrong with the first.
        first: String,
    },
}

/// The queues to consume, and what was wrong with the answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Discovered {
    /// The queues, by name.
    pub nodes: BTreeMap<String, WantedNode>,
    /// One line for each connector that could not be read.
    pub broken: Vec<String>,
    /// Names in `only` and `except` that no connector has.
    pub unmatched: Vec<String>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    name: Option<String>,
    connector_type: Option<String>,
    connector_priority_group: Option<String>,
    config: Option<Config>,
}

#[derive(Deserialize)]
struct Config {
    connection: Connection,
    listen: Option<String>,
    listen_exchange: Option<String>,
    listen_callback_uri: Option<String>,
    push: String,
    push_exchange: String,
    push_routing: Option<String>,
    dead_letter_routing: Option<String>,
}

#[derive(Deserialize)]
struct Connection {
    host: String,
    vhost: Option<String>,
    use_ssl: Option<bool>,
    port: Option<Value>,
    user: String,
    pass: Option<String>,
}

/// Reads the answer's `connectorsForWorker`, given what was consumed before.
///
/// # Errors
/// The answer is of no use as a whole; what is consumed stays.
pub fn discover(
    connectors: &Value,
    selection: &Selection,
    before: &BTreeMap<String, WantedNode>,
) -> Result<Discovered, DiscoveryError> {
    let list = connectors.as_array().ok_or(DiscoveryError::NoList)?;
    if list.is_empty() {
        return Err(DiscoveryError::Empty);
    }
    let mut found = Discovered::default();
    let mut seen = Vec::new();
    for (index, entry) in list.iter().enumerate() {
        match nodes_of(entry) {
            Ok(listed) => {
                let connector = listed.connector;
                let mut nodes = listed.nodes;
                if let Some(reason) = listed.bad_callback {
                    found
                        .broken
                        .push(format!("connector {}: {reason}", connector.id));
                    let listens = |node: &&WantedNode| {
                        node.connector.id == connector.id
                            && matches!(node.role, Role::Listen { .. })
                    };
                    nodes.extend(before.values().filter(listens).cloned());
                }
                if selection.takes(&connector) {
                    for node in nodes {
                        found.nodes.insert(node.queue.clone(), node);
                    }
                }
                seen.push(connector);
            }
            Err(reason) => {
                let id = entry.get("id").and_then(Value::as_str);
                let name = id.map_or_else(
                    || format!("connector {index}"),
                    |id| format!("connector {id}"),
                );
                found.broken.push(format!("{name}: {reason}"));
                // It keeps what it had; if we cannot tell which one it is, all keep what they had.
                let kept = before
                    .iter()
                    .filter(|(_, node)| id.is_none_or(|id| node.connector.id == id));
                for (queue, node) in kept {
                    found
                        .nodes
                        .entry(queue.clone())
                        .or_insert_with(|| node.clone());
                }
            }
        }
    }
    if seen.is_empty() {
        return Err(DiscoveryError::AllBroken {
            count: list.len(),
            first: found.broken.swap_remove(0),
        });
    }
    found.unmatched = selection.unmatched(&seen);
    Ok(found)
}

/// A connector of the answer.
struct Listed {
    connector: Connector,
    nodes: Vec<WantedNode>,
    /// Why its listen queue is not among the nodes, although it has one.
    bad_callback: Option<String>,
}

/// The connector that `entry` describes, and its queues.
fn nodes_of(entry: &Value) -> Result<Listed, String> {
    let entry: Entry = serde_json::from_value(entry.clone()).map_err(|error| error.to_string())?;
    let config = entry.config.ok_or("it has no config")?;
    let connector = Connector {
        name: entry.name.unwrap_or_else(|| entry.id.clone()),
        id: entry.id,
        kind: entry.connector_type,
        realtime: entry.connector_priority_group.as_deref() == Some("REALTIME"),
    };
    let broker = broker(config.connection)?;
    let mut nodes = Vec::new();
    if config.push.is_empty() {
        return Err("it has no push queue".into());
    }
    let dead_letter = config
        .listen_exchange
        .zip(config.dead_letter_routing)
        .filter(|(_, key)| !key.is_empty());
    nodes.push(WantedNode {
        role: Role::Push {
            exchange: config.push_exchange,
            routing_key: config.push_routing.unwrap_or_default(),
            dead_letter,
        },
        queue: config.push,
        connector: connector.clone(),
        broker: broker.clone(),
    });
    let callback = config.listen_callback_uri.filter(|uri| !uri.is_empty());
    let mut bad_callback = None;
    if let (Some(queue), Some(uri)) = (config.listen.filter(|name| !name.is_empty()), callback) {
        let parsed = url::Url::parse(&uri).ok();
        match parsed.filter(|url| matches!(url.scheme(), "http" | "https")) {
            Some(callback) => nodes.push(WantedNode {
                role: Role::Listen { callback },
                queue,
                connector: connector.clone(),
                broker,
            }),
            None => bad_callback = Some(format!("its callback {uri:?} is not an http URL")),
        }
    }
    Ok(Listed {
        connector,
        nodes,
        bad_callback,
    })
}

fn broker(connection: Connection) -> Result<Broker, String> {
    let tls = connection.use_ssl.unwrap_or(false);
    let port = match connection.port {
        None | Some(Value::Null) => Some(if tls { PORT.1 } else { PORT.0 }),
        Some(Value::Number(port)) => port.as_u64().and_then(|port| port.try_into().ok()),
        Some(Value::String(port)) => port.parse().ok(),
        Some(_) => None,
    };
    if !BrokerKey::accepts(&connection.host) {
        return Err(format!(
            "its broker's host {:?} is no host",
            connection.host
        ));
    }
    Ok(Broker {
        key: BrokerKey {
            host: connection.host,
            port: port.ok_or("its broker's port is no port")?,
            vhost: connection.vhost.unwrap_or_else(|| "/".into()),
            user: connection.user,
            tls,
        },
        password: connection.pass.unwrap_or_default().into(),
    })
}

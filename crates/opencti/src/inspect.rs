//! What a worker would find, for those who ask before one is started.

use std::collections::BTreeMap;

use tidegate::config::{BrokerSettings, NodeSettings};

use crate::broker_tls::broker_settings;
use crate::discovery::{Discovered, WantedNode, discover};
use crate::engine::{Engine, EngineError};
use crate::gate::excerpt;
use crate::graphql::GraphQl;
use crate::hosted::main_broker;
use crate::node::node_settings;
use crate::python::Versions;
use crate::settings::Settings;

/// What was found. Each part that cannot be had says why.
#[derive(Debug)]
pub struct Inspection {
    /// The versions of Python and of pycti.
    pub python: Result<Versions, String>,
    /// The platform's version.
    pub platform: Result<String, String>,
    /// The queues that the platform names.
    pub discovered: Result<Discovered, String>,
}

/// A broker that the platform names, and the nodes on it.
#[derive(Debug)]
pub struct InspectedBroker {
    /// How to reach it.
    pub broker: BrokerSettings,
    /// The nodes.
    pub nodes: Vec<NodeSettings>,
    /// The connector of each queue, by the queue's name.
    pub connectors: BTreeMap<String, String>,
    /// Whether a worker would serve it.
    pub is_served: bool,
}

/// Asks Python and the platform what a worker of these settings would ask them.
///
/// # Errors
/// A file or a setting cannot be used.
pub async fn inspect(settings: Settings) -> Result<Inspection, EngineError> {
    let engine = Engine::new(settings)?;
    let (python, platform, discovered) = tokio::join!(
        engine.python.versions(),
        engine.platform.version(),
        ask(&engine.platform, &engine.settings)
    );
    engine.python.close().await;
    Ok(Inspection {
        python: python.map_err(|error| error.into_sign().text),
        platform: platform.map_err(|sign| excerpt(&sign)),
        discovered,
    })
}

/// The broker that a worker of these settings would serve.
///
/// # Errors
/// In words: the platform does not answer, or names no broker that can be used.
pub async fn broker_of(settings: &Settings) -> Result<BrokerSettings, String> {
    let platform = GraphQl::new(settings).map_err(|error| error.to_string())?;
    let found = ask(&platform, settings).await?;
    let main = main_broker(&found.nodes).ok_or("the platform names no queue that is selected")?;
    broker_settings(&main.broker, &settings.broker_tls).map_err(|error| error.to_string())
}

async fn ask(platform: &GraphQl, settings: &Settings) -> Result<Discovered, String> {
    let selection = &settings.selection;
    let answer = platform.connectors(!selection.is_all()).await;
    let answer = answer.map_err(|sign| excerpt(&sign))?;
    discover(&answer, selection, &BTreeMap::new()).map_err(|error| error.to_string())
}

/// The brokers of `nodes`.
///
/// # Errors
/// In words: one of them cannot be reached at the address that the platform gives.
pub fn brokers(
    nodes: &BTreeMap<String, WantedNode>,
    settings: &Settings,
) -> Result<Vec<InspectedBroker>, String> {
    let served = main_broker(nodes).map(|node| node.broker.key.clone());
    let mut groups: BTreeMap<_, InspectedBroker> = BTreeMap::new();
    for (queue, node) in nodes {
        let key = node.broker.key.clone();
        if !groups.contains_key(&key) {
            let broker = broker_settings(&node.broker, &settings.broker_tls)
                .map_err(|error| error.to_string())?;
            let group = InspectedBroker {
                broker,
                nodes: Vec::new(),
                connectors: BTreeMap::new(),
                is_served: served.as_ref() == Some(&key),
            };
            groups.insert(key.clone(), group);
        }
        if let Some(group) = groups.get_mut(&key) {
            group.nodes.push(node_settings(node, settings));
            group
                .connectors
                .insert(queue.clone(), node.connector.name.clone());
        }
    }
    Ok(groups.into_values().collect())
}

//! From the queues that the platform names to the nodes that the worker hosts.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegate::handler::AnyHandler;
use tidegate::worker::Node;
use tracing::warn;

use crate::broker_group::BrokerKey;
use crate::discovery::WantedNode;
use crate::engine::Engine;
use crate::handler::OpenCtiHandler;
use crate::node::node_settings;

/// What is hosted now. A queue keeps its handler until something about it changes.
pub(crate) struct Hosted {
    engine: Arc<Engine>,
    /// The worker has one broker; what is on another one is left out.
    broker: BrokerKey,
    handlers: BTreeMap<String, (WantedNode, AnyHandler)>,
    left_out: Vec<String>,
}

impl Hosted {
    pub(crate) fn new(engine: Arc<Engine>, broker: BrokerKey) -> Self {
        Self {
            engine,
            broker,
            handlers: BTreeMap::new(),
            left_out: Vec::new(),
        }
    }

    /// The nodes of `wanted`.
    ///
    /// # Errors
    /// Every queue is on another broker now: in words.
    pub(crate) fn nodes(
        &mut self,
        wanted: &BTreeMap<String, WantedNode>,
    ) -> Result<Vec<Node>, String> {
        let elsewhere: Vec<_> = wanted
            .values()
            .filter(|node| node.broker.key != self.broker)
            .map(|node| format!("{} ({})", node.queue, address(&node.broker.key)))
            .collect();
        if !wanted.is_empty() && elsewhere.len() == wanted.len() {
            let (before, now) = (address(&self.broker), elsewhere.join(", "));
            return Err(format!(
                "the platform has moved all queues from the broker {before}: {now}"
            ));
        }
        if elsewhere != self.left_out {
            for queue in &elsewhere {
                let broker = address(&self.broker);
                warn!(
                    queue,
                    broker, "a queue on another broker is left out; one worker serves one broker"
                );
            }
            self.left_out = elsewhere;
        }
        let mut before = std::mem::take(&mut self.handlers);
        let mut nodes = Vec::with_capacity(wanted.len());
        for (queue, node) in wanted {
            if node.broker.key != self.broker {
                continue;
            }
            let known = before.remove(queue).filter(|(known, _)| known == node);
            let (known, handler) = known.unwrap_or_else(|| {
                let handler = OpenCtiHandler::new(Arc::clone(&self.engine), node.clone());
                (node.clone(), AnyHandler::new("opencti", handler))
            });
            let settings = node_settings(node, &self.engine.settings);
            nodes.push(Node::from_settings(settings).any_handler(handler.clone()));
            self.handlers.insert(queue.clone(), (known, handler));
        }
        Ok(nodes)
    }

    /// The queues that are hosted.
    pub(crate) fn hosted(&self) -> BTreeMap<String, WantedNode> {
        let nodes = self.handlers.iter();
        nodes
            .map(|(queue, (node, _))| (queue.clone(), node.clone()))
            .collect()
    }
}

/// The broker that most of the queues are on; of several with as many, the first by address.
pub(crate) fn main_broker(wanted: &BTreeMap<String, WantedNode>) -> Option<&WantedNode> {
    let mut counts: BTreeMap<&BrokerKey, (usize, &WantedNode)> = BTreeMap::new();
    for node in wanted.values() {
        counts.entry(&node.broker.key).or_insert((0, node)).0 += 1;
    }
    // `max_by_key` takes the last of equals.
    let most = counts.into_values().rev().max_by_key(|(count, _)| *count);
    most.map(|(_, node)| node)
}

fn address(key: &BrokerKey) -> String {
    format!("{}:{}/{}", key.host, key.port, key.vhost)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::discovery::{Selection, discover};
    use crate::settings::{Settings, Sources};

    fn wanted(hosts: &[(&str, &str)]) -> BTreeMap<String, WantedNode> {
        let connectors: Vec<Value> = hosts
            .iter()
            .map(|(id, host)| {
                json!({"id": id, "config": {"connection": {"host": host, "user": "u", "pass": "p"},
                    "push": format!("push_{id}"), "push_exchange": "e"}})
            })
            .collect();
        let found = discover(
            &Value::from(connectors),
            &Selection::default(),
            &BTreeMap::new(),
        );
        found.unwrap().nodes
    }

    fn hosted(wanted: &BTreeMap<String, WantedNode>) -> Hosted {
        let variables = BTreeMap::from([("OPENCTI_URL", "http://o"), ("OPENCTI_TOKEN", "t")]);
        let settings = Settings::read(&Sources {
            environment: &|name| variables.get(name).map(|&value| value.to_owned()),
            platform: None,
            section: None,
        });
        let engine = Engine::new(settings.unwrap()).unwrap();
        Hosted::new(engine, main_broker(wanted).unwrap().broker.key.clone())
    }

    #[test]
    fn the_broker_of_most_queues_is_served_and_the_rest_is_left_out() {
        let wanted = wanted(&[("a", "x"), ("b", "y"), ("c", "y")]);
        let mut hosted = hosted(&wanted);
        let nodes = hosted.nodes(&wanted).unwrap();
        let queues: Vec<_> = nodes.iter().map(Node::queue).collect();
        assert_eq!(queues, ["push_b", "push_c"]);
        assert_eq!(hosted.hosted().len(), 2);
    }

    #[test]
    fn a_broker_that_moved_ends_the_worker_instead_of_leaving_it_without_queues() {
        let before = wanted(&[("a", "x")]);
        let mut hosted = hosted(&before);
        assert_eq!(hosted.nodes(&before).unwrap().len(), 1);
        let moved = hosted.nodes(&wanted(&[("a", "new"), ("b", "new")]));
        let why = moved.unwrap_err();
        assert!(why.contains("from the broker x:5672//"), "{why}");
        assert!(why.contains("push_a (new:5672//)"), "{why}");
        // A platform that lists nothing that is selected takes the queues away, and nothing more.
        assert_eq!(hosted.nodes(&BTreeMap::new()).unwrap().len(), 0);
    }
}

//! The nodes that a worker hosts: how they start, and how one of them goes while the others work on.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{info, warn};

use super::{Node, WorkerError};
use crate::broker::{AmqpRuntime, Isolation, SessionState};
use crate::config::{NodeSettings, PoolSettings, Slots};
use crate::handler::{self, AnyHandler};
use crate::lifecycle::Phase;
use crate::metrics::{Metrics, NodeMetrics};
use crate::node::{self, NodeDrain, NodeParts, NodeState, SlotPool};
use crate::retry;
use crate::status::NodeInfo;
use crate::status::wire::millis;

/// A node that the worker hosts.
#[derive(Debug)]
pub(super) struct Hosted {
    /// The node as it was requested.
    pub wanted: Node,
    pub node: node::Node,
    pub state: watch::Receiver<NodeState>,
    pub handler: AnyHandler,
    /// Its part of state messages.
    pub info: NodeInfo,
}

/// A node that is draining by itself, and what comes of it.
pub(super) struct Leaving {
    pub queue: String,
    pub commands: watch::Sender<node::Command>,
    pub drained: Pin<Box<dyn Future<Output = (String, NodeDrain)> + Send>>,
    pub handler: AnyHandler,
}

/// Makes nodes.
#[derive(Debug)]
pub(super) struct Host {
    pub worker: String,
    pub amqp: Arc<AmqpRuntime>,
    pub consume: Isolation,
    pub publish: watch::Receiver<SessionState>,
    pub work: Handle,
    pub metrics: Metrics,
    pub pools: Pools,
}

impl Host {
    /// Starts a node; it consumes as soon as there is a connection.
    ///
    /// # Errors
    /// When it names no pool that is there.
    pub(super) fn start(&self, wanted: Node, handler: AnyHandler) -> Result<Hosted, WorkerError> {
        let settings = &wanted.settings;
        let (slots, count) = self.pools.slots(&wanted)?;
        let figures = self.metrics.node(&settings.queue.as_str().into(), count);
        let info = NodeInfo {
            queue: settings.queue.clone(),
            kind: settings.declare.then(|| settings.kind.as_str()),
            handler: handler.kind(),
            slots: count,
            prefetch: settings.prefetch,
            retry_ms: retry_ms(settings),
            phase: Phase::Starting,
            refusal: None,
            figures: figures.clone(),
        };
        let prepared = handler.clone();
        self.work.spawn(async move { prepared.prepare().await });
        let parts = self.parts(&wanted, &handler, slots, figures);
        let node = node::Node::start(parts, self.consume.clone(), &self.amqp);
        Ok(Hosted {
            state: node.state(),
            wanted,
            node,
            handler,
            info,
        })
    }

    /// Starts nodes in their order.
    ///
    /// # Errors
    /// As [`Host::start`].
    pub(super) fn start_all(
        &self,
        nodes: Vec<(Node, AnyHandler)>,
    ) -> Result<Vec<Hosted>, WorkerError> {
        let nodes = nodes.into_iter();
        nodes
            .map(|(node, handler)| self.start(node, handler))
            .collect()
    }

    fn parts(
        &self,
        wanted: &Node,
        handler: &AnyHandler,
        slots: SlotPool,
        metrics: NodeMetrics,
    ) -> NodeParts {
        NodeParts {
            settings: wanted.settings.clone(),
            handler: handler.clone(),
            slots,
            worker: self.worker.clone(),
            publish: self.publish.clone(),
            metrics,
            work: self.work.clone(),
        }
    }
}

impl Hosted {
    /// Has the node go over to other settings. What runs goes on with those that it began with.
    pub(super) fn renew(&mut self, wanted: Node, host: &Host) {
        let queue = wanted.queue();
        let slots = host.pools.slots(&wanted).map(|(_, count)| count);
        let valid = wanted.settings.validate().map_err(WorkerError::from);
        match valid.and(slots) {
            Ok(slots) => {
                info!(queue, "the node goes on with other settings");
                host.metrics.set_slots(&queue.into(), slots);
                self.info.slots = slots;
                self.info.prefetch = wanted.settings.prefetch;
                self.info.retry_ms = retry_ms(&wanted.settings);
                self.node.renew(wanted.settings.clone());
                self.wanted = wanted;
            }
            Err(error) => warn!(queue, %error, "a node cannot go over to other settings"),
        }
    }

    /// Drains this node alone.
    pub(super) fn leave(self, deadline: tokio::time::Instant) -> Leaving {
        let queue = self.info.queue;
        let name = queue.clone();
        let commands = self.node.commander();
        let drained = self.node.drained();
        commands.send_replace(node::Command::Drain { deadline });
        Leaving {
            commands,
            drained: Box::pin(async move { (name, drained.await) }),
            handler: self.handler,
            queue,
        }
    }
}

/// The handler of a node: what the program registered, else what its settings name.
pub(super) fn handler_of(wanted: &Node) -> Result<AnyHandler, WorkerError> {
    let queue = || wanted.settings.queue.clone();
    match (&wanted.handler, &wanted.settings.handler) {
        (Some(handler), _) => Ok(handler.clone()),
        (None, Some(settings)) => {
            handler::from_settings(settings).map_err(|cause| WorkerError::Handler {
                queue: queue(),
                cause,
            })
        }
        (None, None) => Err(WorkerError::NoHandler { queue: queue() }),
    }
}

/// The pools of slots, by name, each with its overflow partner.
#[derive(Debug, Default)]
pub(super) struct Pools {
    pools: HashMap<String, (SlotPool, usize)>,
    overflow: HashMap<String, String>,
}

impl Pools {
    pub(super) fn new(settings: &BTreeMap<String, PoolSettings>) -> Self {
        let own: HashMap<&str, SlotPool> = settings
            .iter()
            .map(|(name, pool)| (name.as_str(), SlotPool::new(pool.slots)))
            .collect();
        let pools = settings.iter().map(|(name, pool)| {
            let slots = own[name.as_str()].clone();
            let overflow = pool.overflow.as_deref();
            let slots = match overflow.and_then(|other| own.get(other)) {
                Some(other) => slots.overflowing_into(other),
                None => slots,
            };
            (name.clone(), (slots, pool.slots))
        });
        let overflow = settings.iter().filter_map(|(name, pool)| {
            let other = pool.overflow.clone()?;
            Some((name.clone(), other))
        });
        Self {
            pools: pools.collect(),
            overflow: overflow.collect(),
        }
    }

    /// The slots of a node, and how many they are.
    pub(super) fn slots(&self, node: &Node) -> Result<(SlotPool, usize), WorkerError> {
        match &node.settings.slots {
            Slots::Own(count) => Ok((SlotPool::new(*count), *count)),
            Slots::Pool(pool) => {
                let found = self.pools.get(pool).cloned();
                found.ok_or_else(|| WorkerError::NoPool {
                    queue: node.settings.queue.clone(),
                    pool: pool.clone(),
                })
            }
        }
    }

    /// All slots that these nodes can use. Those of a pool count once, also if it is only the partner of another.
    pub(super) fn slots_in_all<'n>(&self, nodes: impl Iterator<Item = &'n Node>) -> usize {
        let mut own = 0;
        let mut used = std::collections::BTreeSet::new();
        for node in nodes {
            match &node.settings.slots {
                Slots::Own(count) => own += count,
                Slots::Pool(pool) => {
                    used.insert(pool.as_str());
                    used.extend(self.overflow.get(pool).map(String::as_str));
                }
            }
        }
        let pools = used.into_iter().filter_map(|name| self.pools.get(name));
        own + pools.map(|(_, count)| count).sum::<usize>()
    }
}

/// The delays of a node's retries, in milliseconds.
fn retry_ms(settings: &NodeSettings) -> Vec<u64> {
    let retry = &settings.retry;
    if retry.max_attempts <= 1 {
        return Vec::new();
    }
    retry::delays(retry).into_iter().map(millis).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_names_the_delays_of_what_is_retried() {
        let node = Node::new("q");
        assert_eq!(retry_ms(&node.settings)[0], 1_000);
        let once = node.configure(|node| node.retry.max_attempts = 1);
        assert_eq!(retry_ms(&once.settings), [0; 0]);
    }

    #[test]
    fn the_slots_of_a_pool_count_once_and_those_of_its_partner_too() {
        let pool = |slots, overflow: Option<&str>| PoolSettings {
            slots,
            overflow: overflow.map(str::to_owned),
        };
        let settings = BTreeMap::from([
            ("a".to_owned(), pool(2, Some("b"))),
            ("b".to_owned(), pool(3, None)),
            ("idle".to_owned(), pool(50, None)),
        ]);
        let pools = Pools::new(&settings);
        let in_pool = |queue: &str, name: &str| {
            let slots = Slots::Pool(name.to_owned());
            Node::new(queue).configure(|node| node.slots = slots)
        };
        let nodes = [
            in_pool("x", "a"),
            in_pool("y", "a"),
            Node::new("z").slots(10),
        ];
        assert_eq!(pools.slots_in_all(nodes.iter()), 15);
        let wrong = pools.slots(&in_pool("x", "c")).map(|_| ());
        assert!(matches!(wrong, Err(WorkerError::NoPool { .. })));
    }
}

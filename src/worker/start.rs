//! The start, in order: handlers, HTTP port, connections, nodes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::info;
use ulid::Ulid;

use super::control::{Control, ControlParts};
use super::supervise::Supervisor;
use super::{COMMANDS, RunningWorker, WorkerError, WorkerHandle};
use crate::broker::{AmqpRuntime, Session};
use crate::config::{NodeSettings, Settings, Slots};
use crate::handler::{self, AnyHandler};
#[cfg(feature = "endpoints")]
use crate::http;
use crate::lifecycle::{DrainTrigger, Phase};
use crate::metrics::Metrics;
use crate::node::{Node, NodeParts, SlotPool};
use crate::status::{NodeInfo, Snapshot, Status, StatusParts};

pub(super) async fn start(
    settings: Settings,
    mut registered: HashMap<String, AnyHandler>,
) -> Result<RunningWorker, WorkerError> {
    validate(&settings.nodes)?;
    if settings.worker.http.is_some() && cfg!(not(feature = "endpoints")) {
        return Err(WorkerError::Settings {
            subject: "worker.http".to_owned(),
            rule: "needs the crate's feature `endpoints`",
        });
    }
    let slots = slots(&settings)?;
    let slots_in_all = slots_in_all(&settings);
    let mut handlers = Vec::with_capacity(settings.nodes.len());
    for node in &settings.nodes {
        handlers.push(make_handler(node, registered.remove(&node.queue))?);
    }
    let amqp = Arc::new(AmqpRuntime::start().map_err(WorkerError::Runtime)?);
    let listener = match settings.worker.http {
        Some(address) => Some(listen(address, &amqp).await?),
        None => None,
    };
    let address = listener
        .as_ref()
        .and_then(|listener| listener.local_addr().ok());

    let id = format!("{}-{}", settings.worker.name, Ulid::new());
    let metrics = Metrics::new();
    let broker = Arc::new(settings.broker);
    let session =
        |purpose| Session::start(Arc::clone(&broker), &id, purpose, &amqp, metrics.clone());
    info!(worker = id, nodes = settings.nodes.len(), "worker starting");
    let consume = session("consume");
    let publish = session("publish");
    let drain = DrainTrigger::new();

    let mut nodes = Vec::with_capacity(settings.nodes.len());
    let mut infos = Vec::with_capacity(settings.nodes.len());
    for ((node, handler), (slots, count)) in settings.nodes.into_iter().zip(&handlers).zip(slots) {
        let node_metrics = metrics.node(&node.queue.as_str().into(), count);
        infos.push(NodeInfo {
            queue: node.queue.clone(),
            kind: node.declare.then(|| node.kind.as_str()),
            handler: handler.kind(),
            slots: count,
            prefetch: node.prefetch,
            phase: Phase::Starting,
            figures: node_metrics.clone(),
        });
        let parts = NodeParts {
            metrics: node_metrics,
            consumer_tag: id.clone(),
            settings: node,
            handler: handler.clone(),
            slots,
            session: consume.state(),
            publish: publish.state(),
            drain: drain.signal(),
            work: Handle::current(),
        };
        nodes.push(Node::start(parts, &amqp));
    }

    let snapshot = watch::Sender::new(Snapshot {
        phase: Phase::Starting,
        reason: None,
        deadline: None,
        slots: slots_in_all,
        nodes: infos,
    });
    let control_exchange = settings.status.control.clone();
    let status = settings.status.enabled.then(|| {
        let parts = StatusParts {
            worker: id.clone(),
            name: settings.worker.name.clone(),
            host: gethostname::gethostname().to_string_lossy().into_owned(),
            settings: settings.status,
            heartbeat: settings.heartbeat,
            session: publish.state(),
            snapshot: snapshot.subscribe(),
            metrics: metrics.clone(),
        };
        Status::start(parts, &amqp)
    });

    let phase = watch::Sender::new(Phase::Starting);
    let readiness = watch::Sender::new(Err(format!("the worker is {}", Phase::Starting)));
    let (commands, receiver) = mpsc::channel(COMMANDS);
    let control = status.as_ref().map(|status| {
        let parts = ControlParts {
            worker: id.clone(),
            exchange: control_exchange,
            session: publish.state(),
            requests: commands.downgrade(),
            status: status.handle(),
            phase: phase.subscribe(),
        };
        Control::start(parts, &amqp)
    });
    #[cfg(feature = "endpoints")]
    let server = listener.map(|listener| {
        let health = http::Health {
            readiness: readiness.subscribe(),
            tasks: amqp.tasks().clone(),
            metrics: metrics.clone(),
        };
        http::serve(listener, health, &amqp)
    });
    if let Some(address) = address {
        info!(%address, "http server is listening");
    }

    let observed = phase.subscribe();
    let supervisor = Supervisor {
        amqp: Arc::clone(&amqp),
        work: Handle::current(),
        grace: settings.drain.grace,
        phase,
        readiness,
        snapshot,
        commands: receiver,
        drain,
        nodes,
        handlers,
        consume,
        publish,
        status,
        control,
        metrics,
        #[cfg(feature = "endpoints")]
        _server: server,
    };
    Ok(RunningWorker {
        id,
        http: address,
        phase: observed,
        handle: WorkerHandle(commands),
        // On the AMQP thread, so that handlers that block theirs cannot delay a drain.
        task: amqp.handle().spawn(supervisor.supervise()),
        _amqp: amqp,
    })
}

/// What configuration rules out, a program may still put into settings of its own making.
fn validate(nodes: &[NodeSettings]) -> Result<(), WorkerError> {
    let wrong = |node: &NodeSettings, rule| WorkerError::Settings {
        subject: format!("node {:?}", node.queue),
        rule,
    };
    if nodes.is_empty() {
        let subject = "the worker".to_owned();
        let rule = "has no node: there is nothing to work on";
        return Err(WorkerError::Settings { subject, rule });
    }
    for (place, node) in nodes.iter().enumerate() {
        if node.slots == Slots::Own(0) {
            return Err(wrong(node, "has no slot: nothing would ever run"));
        }
        if node.prefetch == 0 {
            return Err(wrong(node, "has prefetch 0, which AMQP takes for no limit"));
        }
        if nodes[..place].iter().any(|other| other.queue == node.queue) {
            return Err(wrong(node, "is there twice: a queue is one node's"));
        }
    }
    Ok(())
}

/// Listens on the thread that will serve.
async fn listen(address: SocketAddr, amqp: &AmqpRuntime) -> Result<TcpListener, WorkerError> {
    let listening = amqp.handle().spawn(TcpListener::bind(address));
    let listening = listening
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    listening.map_err(|cause| WorkerError::Http { address, cause })
}

fn make_handler(
    node: &NodeSettings,
    registered: Option<AnyHandler>,
) -> Result<AnyHandler, WorkerError> {
    let queue = || node.queue.clone();
    match (registered, &node.handler) {
        (Some(handler), _) => Ok(handler),
        (None, Some(settings)) => {
            handler::from_settings(settings).map_err(|cause| WorkerError::Handler {
                queue: queue(),
                cause,
            })
        }
        (None, None) => Err(WorkerError::NoHandler { queue: queue() }),
    }
}

/// All slots; those of a pool count once, where a node has it.
fn slots_in_all(settings: &Settings) -> usize {
    let nodes = || settings.nodes.iter();
    let own = nodes().map(|node| match node.slots {
        Slots::Own(count) => count,
        Slots::Pool(_) => 0,
    });
    let named = |name: &str| nodes().any(|node| node.slots == Slots::Pool(name.to_owned()));
    let overflown_into = |name: &str| {
        let mut pools = settings.pools.iter();
        pools.any(|(other, pool)| named(other) && pool.overflow.as_deref() == Some(name))
    };
    let used = |name: &str| named(name) || overflown_into(name);
    let pools = settings.pools.iter().filter(|(name, _)| used(name));
    own.sum::<usize>() + pools.map(|(_, pool)| pool.slots).sum::<usize>()
}

/// The slots of each node, in their order, and how many they are.
fn slots(settings: &Settings) -> Result<Vec<(SlotPool, usize)>, WorkerError> {
    let named: HashMap<&str, SlotPool> = settings
        .pools
        .iter()
        .map(|(name, pool)| (name.as_str(), SlotPool::new(pool.slots)))
        .collect();
    let pools: HashMap<&str, (SlotPool, usize)> = settings
        .pools
        .iter()
        .map(|(name, pool)| {
            let own = named[name.as_str()].clone();
            let overflow = pool.overflow.as_deref();
            let slots = match overflow.and_then(|other| named.get(other)) {
                Some(other) => own.overflowing_into(other),
                None => own,
            };
            (name.as_str(), (slots, pool.slots))
        })
        .collect();
    settings
        .nodes
        .iter()
        .map(|node| match &node.slots {
            Slots::Own(count) => Ok((SlotPool::new(*count), *count)),
            Slots::Pool(pool) => {
                pools
                    .get(pool.as_str())
                    .cloned()
                    .ok_or_else(|| WorkerError::NoPool {
                        queue: node.queue.clone(),
                        pool: pool.clone(),
                    })
            }
        })
        .collect()
}

//! The start, in order: handlers, HTTP port, connections, nodes.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::info;
use ulid::Ulid;

use super::control::{Control, ControlParts};
use super::host::{Host, Pools, handler_of};
use super::supervise::Supervisor;
use super::{COMMANDS, Node, RunningWorker, WorkerError, WorkerHandle};
use crate::broker::{AmqpRuntime, Isolation, Session};
use crate::config::{Settings, Slots};
#[cfg(feature = "endpoints")]
use crate::http;
use crate::lifecycle::{DrainTrigger, Phase};
use crate::metrics::Metrics;
use crate::status::{Snapshot, Status, StatusParts};

pub(super) async fn start(
    settings: Settings,
    fixed: Vec<Node>,
    source: Option<watch::Receiver<Vec<Node>>>,
) -> Result<RunningWorker, WorkerError> {
    validate(&settings, &fixed, source.is_some())?;
    let pools = Pools::new(&settings.pools);
    let mut nodes = Vec::with_capacity(fixed.len());
    for node in fixed {
        // What is wrong with a node that is fixed is said before anything is opened.
        pools.slots(&node)?;
        let handler = handler_of(&node)?;
        nodes.push((node, handler));
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
    info!(worker = id, nodes = nodes.len(), "worker starting");
    let consume = session("consume");
    let publish = session("publish");
    let drain = DrainTrigger::new();
    let host = Host {
        worker: id.clone(),
        amqp: Arc::clone(&amqp),
        consume: Isolation::new(&consume, Arc::clone(&broker), &id, &amqp, metrics.clone()),
        publish: publish.state(),
        drain: drain.signal(),
        work: Handle::current(),
        metrics: metrics.clone(),
        pools,
    };
    let nodes = nodes.into_iter();
    let nodes = nodes.map(|(node, handler)| host.start(node, handler));
    let nodes = nodes.collect::<Result<Vec<_>, _>>()?;

    let snapshot = watch::Sender::new(Snapshot {
        phase: Phase::Starting,
        reason: None,
        deadline: None,
        slots: host
            .pools
            .slots_in_all(nodes.iter().map(|node| &node.wanted)),
        nodes: nodes.iter().map(|node| node.info.clone()).collect(),
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
    let publish_state = publish.state();
    let supervisor = Supervisor {
        amqp: Arc::clone(&amqp),
        grace: settings.drain.grace,
        phase,
        readiness,
        snapshot,
        commands: receiver,
        drain,
        host,
        fixed: nodes.iter().map(|node| node.wanted.clone()).collect(),
        nodes,
        source,
        leaving: Vec::new(),
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
        publish: publish_state,
        phase: observed,
        handle: WorkerHandle(commands),
        // On the AMQP thread, so that handlers that block theirs cannot delay a drain.
        task: amqp.handle().spawn(supervisor.supervise()),
        _amqp: amqp,
    })
}

/// What configuration rules out, a program may still put into settings of its own making.
fn validate(settings: &Settings, nodes: &[Node], comes_and_goes: bool) -> Result<(), WorkerError> {
    let wrong = |subject: String, rule| Err(WorkerError::Settings { subject, rule });
    if settings.worker.http.is_some() && cfg!(not(feature = "endpoints")) {
        let rule = "needs the crate's feature `endpoints`";
        return wrong("worker.http".to_owned(), rule);
    }
    if nodes.is_empty() && !comes_and_goes {
        let rule = "has no node: there is nothing to work on";
        return wrong("the worker".to_owned(), rule);
    }
    for (place, node) in nodes.iter().enumerate() {
        let subject = format!("node {:?}", node.queue());
        if node.settings.slots == Slots::Own(0) {
            return wrong(subject, "has no slot: nothing would ever run");
        }
        if node.settings.prefetch == 0 {
            return wrong(subject, "has prefetch 0, which AMQP takes for no limit");
        }
        if nodes[..place]
            .iter()
            .any(|other| other.queue() == node.queue())
        {
            return wrong(subject, "is there twice: a queue is one node's");
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

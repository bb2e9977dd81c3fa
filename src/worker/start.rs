//! The start, in order: handlers, HTTP port, connections, nodes.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tracing::info;
use ulid::Ulid;

use super::builder::Additions;
use super::control::{Control, ControlParts};
use super::host::{Host, Hosted, Pools, handler_of};
use super::supervise::Supervisor;
use super::{COMMANDS, Node, Request, RunningWorker, WorkerError, WorkerHandle};
use crate::broker::{AmqpRuntime, CONSUME, Isolation, Session};
use crate::config::Settings;
use crate::handler::AnyHandler;
#[cfg(feature = "endpoints")]
use crate::http;
use crate::lifecycle::Phase;
#[cfg(feature = "endpoints")]
use crate::lifecycle::WatchedTask;
use crate::metrics::Metrics;
use crate::status::{Snapshot, Status, StatusParts};

/// The parts of a worker that need no broker.
struct Prepared {
    nodes: Vec<(Node, AnyHandler)>,
    pools: Pools,
    amqp: Arc<AmqpRuntime>,
    listener: Option<TcpListener>,
}

pub(super) async fn start(
    mut settings: Settings,
    fixed: Vec<Node>,
    source: Option<watch::Receiver<Vec<Node>>>,
    mut additions: Additions,
) -> Result<RunningWorker, WorkerError> {
    settings.nodes = fixed.iter().map(|node| node.settings.clone()).collect();
    settings.validate()?;
    if fixed.is_empty() && source.is_none() {
        return Err(WorkerError::NoNode);
    }
    let prepared = prepare(&settings, fixed, additions.listener.take()).await?;
    let listener = prepared.listener.as_ref();
    let address = listener.and_then(|listener| listener.local_addr().ok());
    let amqp = Arc::clone(&prepared.amqp);
    let id = format!("{}-{}", settings.worker.name, Ulid::new());
    let (commands, receiver) = mpsc::channel(COMMANDS);
    let supervisor = supervisor(
        settings, prepared, source, additions, &id, &commands, receiver,
    )?;
    if let Some(address) = address {
        info!(%address, "http server is listening");
    }
    Ok(RunningWorker {
        id,
        http: address,
        publish: supervisor.publish.state(),
        phase: supervisor.phase.subscribe(),
        handle: WorkerHandle(commands),
        // On the AMQP thread, so that handlers that block theirs cannot delay a drain.
        task: amqp.spawn_unwatched(supervisor.supervise()),
        amqp,
    })
}

/// Does what can fail without a broker: makes handlers, starts the AMQP thread, binds the HTTP port.
async fn prepare(
    settings: &Settings,
    fixed: Vec<Node>,
    bound: Option<std::net::TcpListener>,
) -> Result<Prepared, WorkerError> {
    let pools = Pools::new(&settings.pools);
    let mut nodes = Vec::with_capacity(fixed.len());
    for node in fixed {
        pools.slots(&node)?;
        let handler = handler_of(&node)?;
        nodes.push((node, handler));
    }
    let amqp = Arc::new(AmqpRuntime::start().map_err(WorkerError::Runtime)?);
    let listener = match settings.worker.http {
        Some(address) => Some(listen(address, bound, &amqp).await?),
        None => None,
    };
    Ok(Prepared {
        nodes,
        pools,
        amqp,
        listener,
    })
}

/// Begins to connect, starts the nodes and what tells of them.
fn supervisor(
    settings: Settings,
    prepared: Prepared,
    source: Option<watch::Receiver<Vec<Node>>>,
    additions: Additions,
    id: &str,
    commands: &mpsc::Sender<Request>,
    receiver: mpsc::Receiver<Request>,
) -> Result<Supervisor, WorkerError> {
    let amqp = prepared.amqp;
    let metrics = Metrics::new();
    let broker = Arc::new(settings.broker);
    let session =
        |purpose| Session::start(Arc::clone(&broker), id, purpose, &amqp, metrics.clone());
    info!(worker = id, nodes = prepared.nodes.len(), "worker starting");
    let (consume, publish) = (session(CONSUME), session("publish"));
    let host = Host {
        worker: id.to_owned(),
        amqp: Arc::clone(&amqp),
        consume: Isolation::new(&consume, Arc::clone(&broker), id, &amqp, metrics.clone()),
        publish: publish.state(),
        work: Handle::current(),
        metrics: metrics.clone(),
        pools: prepared.pools,
    };
    let nodes = host.start_all(prepared.nodes)?;
    let snapshot = watch::Sender::new(first_snapshot(&host, &nodes));
    let parts = StatusParts {
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        worker: id.to_owned(),
        name: settings.worker.name,
        settings: settings.status,
        heartbeat: settings.heartbeat,
        session: publish.state(),
        snapshot: snapshot.subscribe(),
        remarks: additions.remarks.clone(),
        metrics: metrics.clone(),
    };
    let phase = watch::Sender::new(Phase::Starting);
    let readiness = watch::Sender::new(Err("the worker is starting".to_owned()));
    let (status, control) = start_status(parts, commands, phase.subscribe(), &amqp).unzip();
    #[cfg(feature = "endpoints")]
    let server = prepared
        .listener
        .map(|listener| serve(listener, &readiness, &metrics, additions, &amqp));
    Ok(Supervisor {
        amqp,
        grace: settings.drain.grace,
        phase,
        readiness,
        snapshot,
        commands: receiver,
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
    })
}

#[cfg(feature = "endpoints")]
fn serve(
    listener: TcpListener,
    readiness: &watch::Sender<Result<(), String>>,
    metrics: &Metrics,
    additions: Additions,
    amqp: &AmqpRuntime,
) -> WatchedTask<()> {
    let health = http::Health {
        readiness: readiness.subscribe(),
        tasks: amqp.tasks().clone(),
        metrics: metrics.clone(),
        more: additions.metrics,
        remarks: additions.remarks,
    };
    http::serve(listener, health, amqp)
}

fn first_snapshot(host: &Host, nodes: &[Hosted]) -> Snapshot {
    let wanted = nodes.iter().map(|node| &node.wanted);
    Snapshot {
        phase: Phase::Starting,
        reason: None,
        deadline: None,
        slots: host.pools.slots_in_all(wanted),
        nodes: nodes.iter().map(|node| node.info.clone()).collect(),
    }
}

/// Starts the status publisher and the listener for commands; nothing if status messages are off.
fn start_status(
    parts: StatusParts,
    commands: &mpsc::Sender<Request>,
    phase: watch::Receiver<Phase>,
    amqp: &AmqpRuntime,
) -> Option<(Status, Control)> {
    if !parts.settings.enabled {
        return None;
    }
    let (worker, session) = (parts.worker.clone(), parts.session.clone());
    let exchange = parts.settings.control.clone();
    let status = Status::start(parts, amqp);
    let control = ControlParts {
        worker,
        exchange,
        session,
        requests: commands.downgrade(),
        status: status.handle(),
        phase,
    };
    Some((status, Control::start(control, amqp)))
}

/// Listens on the thread that will serve.
async fn listen(
    address: SocketAddr,
    bound: Option<std::net::TcpListener>,
    amqp: &AmqpRuntime,
) -> Result<TcpListener, WorkerError> {
    let listening = amqp.spawn_unwatched(async move {
        let Some(bound) = bound else {
            return TcpListener::bind(address).await;
        };
        bound.set_nonblocking(true)?;
        TcpListener::from_std(bound)
    });
    let listening = listening
        .await
        .unwrap_or_else(|error| Err(std::io::Error::other(error)));
    listening.map_err(|cause| WorkerError::Http { address, cause })
}

//! Runs a worker whose queues come from the platform.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tidegate::Worker;
use tidegate::config::{BrokerSettings, Settings as WorkerSettings};
use tidegate::handler::AnyHandler;
use tidegate::internal::worker::{SignalAction, Signals, run_started};
use tidegate::worker::{DrainReport, Node, WorkerError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::broker_group::{Broker, BrokerKey};
use crate::discovery::WantedNode;
use crate::endpoints;
use crate::engine::{Engine, EngineError};
use crate::handler::OpenCtiHandler;
use crate::node::{node_settings, pools};
use crate::schedule::backoff;
use crate::settings::{BrokerTls, Pem, Settings};
use crate::source::{Discovery, Wanted};
use crate::version;

/// How long Python may take to end. It does nothing any more.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Why the worker ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum WorkerFailure {
    /// It could not be put together.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// An address could not be bound.
    #[error("cannot listen on {address}: {cause}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        cause: std::io::Error,
    },
    /// TLS files could not be prepared.
    #[error("MQ_USE_SSL_*: {0}")]
    Tls(std::io::Error),
    /// The worker failed.
    #[error(transparent)]
    Worker(#[from] WorkerError),
    /// The worker was drained because a part of it ended.
    #[error("{0}")]
    Ended(String),
}

/// Runs the worker until a signal has drained it. `None` means that it was stopped before it had a queue.
///
/// # Errors
/// See [`WorkerFailure`].
pub async fn run(
    mut signals: Signals,
    own: WorkerSettings,
    settings: Settings,
) -> Result<Option<DrainReport>, WorkerFailure> {
    let telemetry = settings.telemetry;
    let engine = Engine::new(settings)?;
    let listen = |address| move |cause| WorkerFailure::Listen { address, cause };
    let _telemetry = match telemetry {
        Some(address) => {
            let serving = endpoints::serve_metrics(address, Arc::clone(&engine)).await;
            Some(serving.map_err(listen(address))?)
        }
        None => None,
    };
    let waiting = match own.worker.http {
        Some(address) => {
            let serving = endpoints::serve_waiting(address, Arc::clone(&engine)).await;
            Some(serving.map_err(listen(address))?)
        }
        None => None,
    };
    let discovery = Discovery::new(Arc::clone(&engine));
    let mut wanted = discovery.wanted();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        discovery.run().await;
        "discovery ended".to_owned()
    });
    let probe = engine.gate.clone().probe(engine.platform.clone());
    tasks.spawn(async move {
        probe.await;
        "the probe of the platform ended".to_owned()
    });
    tasks.spawn(version::watch(Arc::clone(&engine)));
    info!(url = %engine.settings.url.origin().ascii_serialization(), "asking the platform for its queues");
    let Some(first) = first(&mut wanted, &mut signals, &mut tasks).await? else {
        close(&engine, &mut tasks).await;
        return Ok(None);
    };
    drop(waiting);
    let report = work(&engine, own, wanted, first, &mut signals, &mut tasks).await;
    close(&engine, &mut tasks).await;
    report.map(Some)
}

/// Ends the tasks, then Python: a task may be waiting for a Python that is still starting.
async fn close(engine: &Engine, tasks: &mut JoinSet<String>) {
    tasks.shutdown().await;
    if timeout(CLOSE_LIMIT, engine.python.close()).await.is_err() {
        warn!("Python did not end in time; the kernel ends it with the worker");
    }
}

/// The queues that the platform names first; `None` if a signal came before.
async fn first(
    wanted: &mut watch::Receiver<Wanted>,
    signals: &mut Signals,
    tasks: &mut JoinSet<String>,
) -> Result<Option<BTreeMap<String, WantedNode>>, WorkerFailure> {
    loop {
        tokio::select! {
            biased;
            action = signals.next() => if action != SignalAction::Ignore {
                info!("stopped before the platform said which queues there are");
                return Ok(None);
            },
            ended = tasks.join_next() => return Err(WorkerFailure::Ended(reason(ended))),
            found = wanted.wait_for(|wanted| wanted.as_ref().is_some_and(|nodes| !nodes.is_empty())) => {
                if let Ok(found) = found {
                    return Ok(found.clone());
                }
            }
        }
    }
}

fn reason(ended: Option<Result<String, tokio::task::JoinError>>) -> String {
    match ended {
        Some(Ok(reason)) => reason,
        Some(Err(error)) => format!("a task of the worker failed: {error}"),
        None => "the worker has no tasks any more".to_owned(),
    }
}

async fn work(
    engine: &Arc<Engine>,
    own: WorkerSettings,
    mut wanted: watch::Receiver<Wanted>,
    first: BTreeMap<String, WantedNode>,
    signals: &mut Signals,
    tasks: &mut JoinSet<String>,
) -> Result<DrainReport, WorkerFailure> {
    let Some(broker) = first.values().map(|node| node.broker.clone()).next() else {
        return Err(WorkerFailure::Ended("there is no queue to consume".into()));
    };
    let key = broker.key.clone();
    let mut settings = own;
    settings.broker = broker_settings(&broker, &engine.settings.broker_tls)?;
    settings.pools = pools(&engine.settings);
    settings.nodes.clear();
    let mut hosted = Hosted::new(Arc::clone(engine), key);
    let (sender, source) = watch::channel(Vec::new());
    let worker = Worker::from_settings(settings)
        .nodes_from(source)
        .start()
        .await?;
    engine.publisher.connect(worker.publish_session());
    let handle = worker.handle();
    let publisher = engine.publisher.clone();
    tasks.spawn(async move {
        // No queue is consumed before there is one for what cannot be imported.
        let mut failures = 0;
        while let Err(error) = publisher.declare_dead_queue().await {
            failures += 1;
            warn!(%error, "the queue of dead letters cannot be declared; trying again");
            tokio::time::sleep(backoff(failures, rand::random())).await;
        }
        sender.send_replace(hosted.nodes(&first));
        while wanted.changed().await.is_ok() {
            let found = wanted.borrow_and_update().clone();
            if let Some(found) = found {
                sender.send_replace(hosted.nodes(&found));
            }
        }
        "discovery ended".to_owned()
    });
    let mut running = std::pin::pin!(run_started(worker, signals));
    let mut ended = None;
    let report = loop {
        tokio::select! {
            biased;
            report = &mut running => break report?,
            task = tasks.join_next(), if ended.is_none() => {
                let why = reason(task);
                error!(why, "the worker drains");
                handle.drain(why.clone()).await;
                ended = Some(why);
            }
        }
    };
    match ended {
        Some(why) => Err(WorkerFailure::Ended(why)),
        None => Ok(report),
    }
}

/// What is hosted now. A queue keeps its handler until something about it changes.
struct Hosted {
    engine: Arc<Engine>,
    /// The worker has one broker; what is on another one is left out.
    broker: BrokerKey,
    handlers: BTreeMap<String, (WantedNode, AnyHandler)>,
}

impl Hosted {
    fn new(engine: Arc<Engine>, broker: BrokerKey) -> Self {
        Self {
            engine,
            broker,
            handlers: BTreeMap::new(),
        }
    }

    /// The nodes of `wanted`.
    fn nodes(&mut self, wanted: &BTreeMap<String, WantedNode>) -> Vec<Node> {
        let mut before = std::mem::take(&mut self.handlers);
        let mut nodes = Vec::with_capacity(wanted.len());
        for (queue, node) in wanted {
            if node.broker.key != self.broker {
                let host = &node.broker.key.host;
                warn!(
                    queue,
                    host,
                    "a queue on another broker is left out; restart the worker if the broker moved"
                );
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
        nodes
    }
}

fn broker_settings(broker: &Broker, tls: &BrokerTls) -> Result<BrokerSettings, WorkerFailure> {
    let mut settings = BrokerSettings::from_url(broker.url().as_str())
        .map_err(|error| WorkerFailure::Worker(WorkerError::Url(error)))?;
    if broker.key.tls {
        let path = |pem: &Pem| file(pem).map_err(WorkerFailure::Tls);
        settings.ca = tls.ca.as_ref().map(path).transpose()?;
        if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
            settings.identity = Some((path(cert)?, path(key)?));
        }
    }
    Ok(settings)
}

/// The path of PEM text. Inline text goes to a file in memory: the file system may be read-only.
fn file(pem: &Pem) -> std::io::Result<PathBuf> {
    match pem {
        Pem::File(path) => Ok(path.clone()),
        Pem::Inline(text) => {
            let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
            let descriptor = nix::sys::memfd::memfd_create("pem", flags)?;
            let mut file = File::from(descriptor);
            file.write_all(text.as_bytes())?;
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            // It has to stay for as long as the worker connects.
            std::mem::forget(file);
            Ok(path)
        }
    }
}

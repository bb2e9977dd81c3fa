//! Runs a worker whose queues come from the platform.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate::Worker;
use tidegate::config::Settings as WorkerSettings;
use tidegate::internal::worker::{SignalAction, Signals, run_started};
use tidegate::worker::{DrainReport, Node, Remarks, WorkerError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::broker_tls::{BrokerSettingsError, broker_settings};
use crate::discovery::WantedNode;
use crate::endpoints;
use crate::engine::{Engine, EngineError};
use crate::hosted::{Hosted, main_broker};
use crate::node::pools;
use crate::schedule::backoff;
use crate::settings::Settings;
use crate::source::{Discovery, Wanted};
use crate::version;

/// How long Python may take to end. It does nothing any more.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// How often what waits is looked at for the remarks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

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
    /// The endpoints cannot be served.
    #[error("worker.http: {0}")]
    Endpoints(std::io::Error),
    /// The broker's address or its TLS cannot be used.
    #[error(transparent)]
    Broker(#[from] BrokerSettingsError),
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
    let _telemetry = telemetry
        .map(|address| {
            let serving = endpoints::bind(address)
                .and_then(|listener| endpoints::serve_metrics(listener, Arc::clone(&engine)));
            serving.map_err(listen(address))
        })
        .transpose()?;
    let bound = own.worker.http.map(|address| {
        let bound = endpoints::bind(address);
        bound.map_err(listen(address))
    });
    let bound = bound.transpose()?;
    let waiting = bound.as_ref().map(|bound| waiting(bound, &engine));
    let waiting = waiting.transpose()?;
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
    let report = work(
        &engine,
        (own, bound),
        wanted,
        first,
        &mut signals,
        &mut tasks,
    )
    .await;
    close(&engine, &mut tasks).await;
    report.map(Some)
}

/// Answers on `bound` until there is a worker that does.
fn waiting(
    bound: &std::net::TcpListener,
    engine: &Arc<Engine>,
) -> Result<AbortOnDropHandle<()>, WorkerFailure> {
    let serve = || {
        let address = bound.local_addr()?;
        info!(%address, "http server is listening");
        endpoints::serve_waiting(bound.try_clone()?, Arc::clone(engine))
    };
    serve().map_err(WorkerFailure::Endpoints)
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
    (own, bound): (WorkerSettings, Option<std::net::TcpListener>),
    wanted: watch::Receiver<Wanted>,
    first: BTreeMap<String, WantedNode>,
    signals: &mut Signals,
    tasks: &mut JoinSet<String>,
) -> Result<DrainReport, WorkerFailure> {
    let Some(main) = main_broker(&first) else {
        return Err(WorkerFailure::Ended("there is no queue to consume".into()));
    };
    let mut settings = own;
    settings.broker = broker_settings(&main.broker, &engine.settings.broker_tls)?;
    settings.pools = pools(&engine.settings);
    settings.nodes.clear();
    let hosted = Hosted::new(Arc::clone(engine), main.broker.key.clone());
    let (nodes, source) = watch::channel(Vec::new());
    let (remarks, remarked) = watch::channel(Remarks::default());
    let counted = engine.metrics.clone();
    let mut worker = Worker::from_settings(settings)
        .nodes_from(source)
        .remarks(remarked)
        .more_metrics(move || counted.encode_own());
    if let Some(bound) = bound {
        worker = worker.listener(bound);
    }
    let worker = worker.start().await?;
    engine.publisher.connect(worker.publish_session());
    let handle = worker.handle();
    tasks.spawn(host(Arc::clone(engine), wanted, hosted, nodes, remarks));
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

/// Has the worker host what discovery finds, and keeps the remarks on it. Resolves with the reason when it cannot go
/// on.
async fn host(
    engine: Arc<Engine>,
    mut wanted: watch::Receiver<Wanted>,
    mut hosted: Hosted,
    nodes: watch::Sender<Vec<Node>>,
    remarks: watch::Sender<Remarks>,
) -> String {
    // No queue is consumed before there is one for what cannot be imported.
    let mut failures = 0;
    while let Err(error) = engine.publisher.declare_dead_queue().await {
        failures += 1;
        if failures == 1 {
            warn!(%error, "the queue of dead letters cannot be declared; trying again");
        }
        tokio::time::sleep(backoff(failures, rand::random())).await;
    }
    wanted.mark_changed();
    let mut breaker = engine.gate.opens();
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = wanted.changed() => {
                if changed.is_err() {
                    return "discovery ended".to_owned();
                }
                let found = wanted.borrow_and_update().clone();
                let Some(found) = found else { continue };
                match hosted.nodes(&found) {
                    Ok(found) => drop(nodes.send_replace(found)),
                    Err(why) => return why,
                }
            }
            // The sender lives as long as the engine.
            _ = breaker.changed() => {}
            _ = look.tick() => {}
        }
        let now = engine.gate.remark();
        let now = engine.holds.remarks(&hosted.hosted(), now, Instant::now());
        remarks.send_if_modified(|told| {
            let changed = *told != now;
            *told = now;
            changed
        });
    }
}

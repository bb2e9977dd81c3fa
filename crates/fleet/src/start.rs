//! The start and the end of the fleet program, in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use ulid::Ulid;

use super::dead::DeadLetters;
use super::forward::Forwarder;
use super::http::{self, Api, ApiParts};
use super::hub::Hub;
use super::listener::{Listener, ListenerParts, Requests, Role, follow_events};
use super::pending::Pending;
use super::queues::QueueWatcher;
use super::rollout::{Commander, RolloutBoard};
use super::shared::Shared;
use super::speaker::Speaker;
use super::state::Limits;
use super::viewers::Viewers;
use tidegate::config::{BrokerSettings, FleetSettings, Settings};
use tidegate::handler::HandlerError;
use tidegate::internal::broker::{AmqpRuntime, BrokerError, Session, SessionState};
use tidegate::internal::metrics::Metrics;
use tidegate::lifecycle::{TaskFailure, Tasks, WatchedTask};

/// The time limit for the broker's answer to the close of a connection.
pub(crate) const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// Why the fleet program could not start, or ended before it was told to.
#[derive(Debug, Error)]
pub enum FleetError {
    /// The HTTP address could not be bound.
    #[error("fleet.http: cannot listen on {address}: {cause}")]
    Http {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: io::Error,
    },
    /// The operating system refused a thread.
    #[error("cannot start the AMQP thread: {0}")]
    Runtime(io::Error),
    /// The client for forwarding could not be made.
    #[error("fleet.forward: {0}")]
    Forward(HandlerError),
    /// The broker refuses for a reason that trying again will not change.
    #[error("the broker refuses the fleet program: {0}")]
    Refused(BrokerError),
    /// A task of the program ended before the program did.
    #[error(transparent)]
    Task(TaskFailure),
}

/// A fleet program that has started.
pub struct RunningFleet {
    http: SocketAddr,
    stop: CancellationToken,
    refusal: oneshot::Receiver<BrokerError>,
    listening: WatchedTask<()>,
    serving: WatchedTask<()>,
    watching: WatchedTask<()>,
    rollouts: Arc<RolloutBoard>,
    others: Vec<WatchedTask<()>>,
    speaker: Arc<Speaker>,
    requests: Arc<Requests>,
    sessions: Vec<Session>,
    amqp: Arc<AmqpRuntime>,
}

/// Starts: binds the HTTP port, begins to connect and to listen. The page and the API are served on the runtime that
/// this is called on; everything that talks to the broker runs on a thread of its own.
///
/// # Errors
/// If something is wrong that does not need the broker to know.
pub async fn start(settings: Settings) -> Result<RunningFleet, FleetError> {
    let settings = Arc::new(settings);
    let fleet = &settings.fleet;
    let address = fleet.http;
    let refused = |cause| FleetError::Http { address, cause };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let http = listener.local_addr().map_err(refused)?;
    let amqp = Arc::new(AmqpRuntime::start().map_err(FleetError::Runtime)?);
    let id = format!("fleet-{}", Ulid::new());
    info!(program = id, "fleet program starting");
    let shared = Arc::new(Shared::new(limits(fleet)));
    let broker = Arc::new(settings.broker.clone());
    let [hear, speak] = ["hear", "speak"]
        .map(|purpose| Session::start(Arc::clone(&broker), &id, purpose, &amqp, Metrics::new()));
    let events = events_session(&settings, &id, &amqp);
    let speaker = Arc::new(Speaker::new(settings.status.control.clone(), speak.state()));
    let viewers = Arc::<Viewers>::default();
    let requests = Arc::new(requests(&id, fleet, &viewers));
    let pending = fleet.forward.as_ref().map(|_| Arc::<Pending>::default());
    let hub = Arc::new(Hub::new(Arc::clone(&shared), fleet, pending.clone()));
    let tasks = amqp.tasks();
    let here = Handle::current();
    let mut others = Vec::new();
    others.extend(forwarding(fleet, &id, &shared, &hub, pending, tasks)?);
    let events_state = events.as_ref().unwrap_or(&hear).state();
    others.push(follow(&settings, &shared, events_state, &id, &amqp));
    others.push(tasks.spawn("hub", &here, Arc::clone(&hub).run()));
    let watcher_id = id.clone();
    let parts = ListenerParts {
        role: Role::Program,
        settings: Arc::clone(&settings),
        id,
        shared: Arc::clone(&shared),
        speaker: Arc::clone(&speaker),
        requests: Arc::clone(&requests),
        session: hear.state(),
    };
    let (listening, refusal) = listen(parts, &amqp);
    let stop = CancellationToken::new();
    let letters = letters(fleet, &broker, &watcher_id, &amqp);
    let queues = QueueWatcher::new(&shared, &viewers);
    let watching = watch_queues(&queues, broker, watcher_id, &amqp, &stop);
    let rollouts = RolloutBoard::new(Commander::new(&shared, &speaker));
    let parts = ApiParts {
        shared,
        hub,
        speaker: Arc::clone(&speaker),
        viewers,
        queues,
        letters,
        rollouts: Arc::clone(&rollouts),
    };
    let api = Api::new(parts, fleet, tasks.clone(), stop.clone());
    let serving = tasks.spawn("http server", &here, http::serve(listener, api));
    info!(address = %http, "http server is listening");
    Ok(RunningFleet {
        http,
        stop,
        refusal,
        listening,
        serving,
        watching,
        rollouts,
        others,
        speaker,
        requests,
        sessions: [hear, speak].into_iter().chain(events).collect(),
        amqp,
    })
}

/// The requests for beats, for those who look.
fn requests(id: &str, fleet: &FleetSettings, viewers: &Arc<Viewers>) -> Requests {
    let (id, viewers) = (id.to_owned(), Arc::clone(viewers));
    Requests::new(id, Role::Program, fleet.beats_per_second, viewers)
}

/// Starts to follow the broker's events.
fn follow(
    settings: &Settings,
    shared: &Arc<Shared>,
    session: watch::Receiver<SessionState>,
    id: &str,
    amqp: &AmqpRuntime,
) -> WatchedTask<()> {
    let vhost = settings.broker.vhost.clone();
    let following = follow_events(Arc::clone(shared), session, id.to_owned(), vhost);
    amqp.spawn("broker events", following)
}

/// Starts to tell the platform, if there is one to tell.
fn forwarding(
    fleet: &FleetSettings,
    id: &str,
    shared: &Arc<Shared>,
    hub: &Arc<Hub>,
    pending: Option<Arc<Pending>>,
    tasks: &Tasks,
) -> Result<Option<WatchedTask<()>>, FleetError> {
    let (Some(forward), Some(pending)) = (&fleet.forward, pending) else {
        return Ok(None);
    };
    let (shared, hub) = (Arc::clone(shared), Arc::clone(hub));
    let forwarder = Forwarder::new(forward, id.to_owned(), shared, hub, pending);
    let forwarder = forwarder.map_err(FleetError::Forward)?;
    Ok(Some(tasks.spawn(
        "forwarder",
        &Handle::current(),
        forwarder.run(),
    )))
}

/// The dead letters, if they may be dealt with.
fn letters(
    fleet: &FleetSettings,
    broker: &Arc<BrokerSettings>,
    id: &str,
    amqp: &Arc<AmqpRuntime>,
) -> Option<DeadLetters> {
    let on = fleet.dead_letters;
    on.then(|| DeadLetters::new(broker, id, amqp))
}

/// Starts to look at queues, which ends with `stop`.
fn watch_queues(
    queues: &Arc<QueueWatcher>,
    broker: Arc<BrokerSettings>,
    id: String,
    amqp: &Arc<AmqpRuntime>,
    stop: &CancellationToken,
) -> WatchedTask<()> {
    let watching = Arc::clone(queues).run(broker, id, Arc::clone(amqp), stop.clone());
    amqp.spawn("queues", watching)
}

fn limits(fleet: &FleetSettings) -> Limits {
    Limits {
        workers: fleet.max_workers,
        retention: fleet.retention,
    }
}

/// Starts the listener. It returns only if the broker refuses the program; then the receiver gets the refusal.
fn listen(
    parts: ListenerParts,
    amqp: &AmqpRuntime,
) -> (WatchedTask<()>, oneshot::Receiver<BrokerError>) {
    let listener = Listener::new(parts);
    let (refused, refusal) = oneshot::channel();
    let listening = amqp.spawn("listener", async {
        // An error says that the program is ending.
        let _ = refused.send(listener.run().await);
    });
    listening.expect_end();
    (listening, refusal)
}

/// The session for the broker's events, if they come from another virtual host.
fn events_session(settings: &Settings, id: &str, amqp: &Arc<AmqpRuntime>) -> Option<Session> {
    let vhost = settings.fleet.events_vhost.clone()?;
    let mut elsewhere = settings.broker.clone();
    elsewhere.vhost = vhost;
    let session = Session::start(Arc::new(elsewhere), id, "events", amqp, Metrics::new());
    Some(session)
}

impl RunningFleet {
    /// The address of the page and the API.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Resolves if the program cannot go on: the broker refuses it, or one of its tasks has ended. Cancel safe.
    pub async fn failed(&mut self) -> FleetError {
        tokio::select! {
            // Without an answer the task has panicked, which the other branch tells.
            Ok(refusal) = &mut self.refusal => FleetError::Refused(refusal),
            failure = self.amqp.tasks().failed() => FleetError::Task(failure),
        }
    }

    /// Ends everything: the page and the API, the requests for beats, and then the connections.
    pub async fn stop(self) {
        self.amqp.tasks().expect_ends();
        self.stop.cancel();
        self.rollouts.end();
        drop((self.listening, self.others));
        if let Err(error) = self.serving.join().await {
            warn!(%error, "the http server failed");
        }
        if let Err(error) = self.watching.join().await {
            warn!(%error, "the queues could not be watched to the end");
        }
        self.requests.end(&self.speaker).await;
        for session in self.sessions {
            if let Err(error) = session.close(CLOSE_LIMIT).await {
                warn!(%error, "a connection did not close cleanly");
            }
        }
        info!("fleet program stopped");
    }
}

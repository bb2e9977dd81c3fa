//! The start and the end of the fleet program, in order.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};
use ulid::Ulid;

use super::forward::{Forwarder, Pending};
use super::http::{self, Api};
use super::hub::Hub;
use super::listener::{Listener, Manner, follow_events};
use super::shared::Shared;
use super::speaker::Speaker;
use super::state::Limits;
use tidegate::config::{BrokerSettings, Settings};
use tidegate::handler::HandlerError;
use tidegate::internal::broker::{AmqpRuntime, BrokerError, Session};
use tidegate::internal::metrics::Metrics;

/// How long the end may wait for a connection to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

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
    /// What forwards could not be made.
    #[error("fleet.forward: {0}")]
    Forward(HandlerError),
    /// The broker refuses for a reason that trying again will not change.
    #[error("the broker refuses the fleet program: {0}")]
    Refused(BrokerError),
    /// A task failed.
    #[error("the fleet program's task ended badly: {0}")]
    Task(String),
}

/// A fleet program that has started.
pub struct RunningFleet {
    http: SocketAddr,
    stop: CancellationToken,
    listening: AbortOnDropHandle<BrokerError>,
    serving: JoinHandle<()>,
    sessions: Vec<Session>,
    _tasks: Vec<AbortOnDropHandle<()>>,
    _amqp: Arc<AmqpRuntime>,
}

/// Starts: binds the HTTP port, begins to connect and to listen. The page and the API are served on the runtime that
/// this is called on; what speaks to the broker runs on a thread of its own.
///
/// # Errors
/// Where something is wrong that does not need the broker to know.
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

    let shared = Arc::new(Shared::new(Limits {
        workers: fleet.max_workers,
        retention: fleet.retention,
    }));
    let broker = Arc::new(settings.broker.clone());
    let session = |broker: &Arc<BrokerSettings>, purpose| {
        Session::start(Arc::clone(broker), &id, purpose, &amqp, Metrics::new())
    };
    let hear = session(&broker, "hear");
    let speak = session(&broker, "speak");
    let events = fleet.events_vhost.clone().map(|vhost| {
        let elsewhere = BrokerSettings {
            vhost,
            ..settings.broker.clone()
        };
        session(&Arc::new(elsewhere), "events")
    });
    let speaker = Arc::new(Speaker::new(settings.status.control.clone(), speak.state()));
    let pending = fleet.forward.as_ref().map(|_| Arc::<Pending>::default());
    let hub = Arc::new(Hub::new(
        Arc::clone(&shared),
        fleet.token.is_some(),
        pending.clone(),
    ));

    let mut tasks = Vec::new();
    if let (Some(forward), Some(pending)) = (&fleet.forward, pending) {
        let forwarder = Forwarder::new(
            forward,
            id.clone(),
            Arc::clone(&shared),
            Arc::clone(&hub),
            pending,
        );
        let forwarder = forwarder.map_err(FleetError::Forward)?;
        tasks.push(AbortOnDropHandle::new(tokio::spawn(forwarder.run())));
    }
    let heard = events.as_ref().unwrap_or(&hear).state();
    let vhost = settings.broker.vhost.clone();
    let following = follow_events(Arc::clone(&shared), heard, id.clone(), vhost);
    tasks.push(AbortOnDropHandle::new(amqp.handle().spawn(following)));
    tasks.push(AbortOnDropHandle::new(tokio::spawn(Arc::clone(&hub).run())));
    let listening = Listener::new(
        Manner::Program,
        Arc::clone(&settings),
        id,
        Arc::clone(&shared),
        Arc::clone(&speaker),
        hear.state(),
    );
    let listening = AbortOnDropHandle::new(amqp.handle().spawn(listening.run()));

    let stop = CancellationToken::new();
    let api = Api::new(shared, hub, speaker, fleet, stop.clone());
    let serving = tokio::spawn(http::serve(listener, api));
    info!(address = %http, "http server is listening");
    Ok(RunningFleet {
        http,
        stop,
        listening,
        serving,
        sessions: [Some(hear), Some(speak), events]
            .into_iter()
            .flatten()
            .collect(),
        _tasks: tasks,
        _amqp: amqp,
    })
}

impl RunningFleet {
    /// Where the page and the API are.
    pub fn http(&self) -> SocketAddr {
        self.http
    }

    /// Resolves where the program cannot go on. Cancel safe.
    pub async fn failed(&mut self) -> FleetError {
        match (&mut self.listening).await {
            Ok(refusal) => FleetError::Refused(refusal),
            Err(error) => FleetError::Task(error.to_string()),
        }
    }

    /// Ends everything: the page and the API, and then the connections, each within about a second.
    pub async fn stop(self) {
        self.stop.cancel();
        drop(self.listening);
        if let Err(error) = self.serving.await {
            warn!(%error, "the http server ended badly");
        }
        for session in self.sessions {
            if let Err(error) = session.close(CLOSE_LIMIT).await {
                warn!(%error, "a connection did not close in order");
            }
        }
        info!("fleet program stopped");
    }
}

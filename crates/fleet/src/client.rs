//! A client of the fleet for commands in a terminal: it sees what the fleet program sees, and commands workers. It
//! declares nothing but queues of its own.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::api::Queues;
use super::clock::Moment;
use super::listener::{Listener, ListenerParts, Requests, Role, has_log};
use super::queues::look_once;
use super::rollout::Commander;
use super::shared::Shared;
use super::speaker::Speaker;
use super::start::CLOSE_LIMIT;
use super::state::{ALL_LIMIT, Fleet, Limits};
use super::viewers::{Viewer, Viewers};
use tidegate::config::{BrokerSettings, Settings};
use tidegate::internal::broker::{self, AmqpRuntime, BrokerError, Link, Session, SessionState};
use tidegate::internal::metrics::Metrics;
use tidegate::internal::status::control::{Command, Reply};

pub use super::speaker::{CommandError, Obstacle};

/// The interval at which the client checks whether everything is known.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Workers have this long to send the beats that were requested. Those that have not are asked for a report: workers
/// of an older version do not speed up on request.
const BEATS_LIMIT: Duration = Duration::from_secs(2);
/// Workers of a fleet that are asked for reports, at most.
const REPORTS_LIMIT: usize = 250;
/// The time limit for figures to come in all.
const FIGURES_LIMIT: Duration = Duration::from_secs(3);
/// Figures that are older than this were not sent because of this client.
const FRESH: Duration = Duration::from_secs(3);

/// The purpose of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientMode {
    /// One command to workers. A connection that is lost is an error.
    Command,
    /// One look at the fleet, with figures. A connection that is lost is an error.
    Look,
    /// A look that lasts until the client leaves. Lost connections are made anew.
    Watch,
}

/// The connections of a client.
enum Connections {
    Links(Vec<Link>, Vec<watch::Sender<SessionState>>),
    Sessions(Vec<Session>),
}

/// A client of the fleet.
pub struct FleetClient {
    shared: Arc<Shared>,
    speaker: Arc<Speaker>,
    requests: Arc<Requests>,
    viewers: Arc<Viewers>,
    _looker: Option<Viewer>,
    listening: AbortOnDropHandle<BrokerError>,
    mode: ClientMode,
    connections: Connections,
    has_log: bool,
    id: String,
    amqp: Arc<AmqpRuntime>,
}

impl FleetClient {
    /// Connects and begins to listen.
    ///
    /// # Errors
    /// If the broker cannot be reached or refuses; with 404 if there is no status exchange, because no worker has ever
    /// published its state on this virtual host.
    pub async fn start(
        settings: Settings,
        mode: ClientMode,
        amqp: Arc<AmqpRuntime>,
    ) -> Result<Self, BrokerError> {
        let id = format!("client-{}", Ulid::new());
        let client = id.clone();
        let hear = broker::connect(&settings.broker, &format!("tidegate {id} hear"), &amqp).await?;
        let has_log = has_log(&hear, &settings.status.exchange).await?;
        let settings = Arc::new(settings);
        let (connections, [hear, speak]) = match mode {
            ClientMode::Command | ClientMode::Look => {
                let name = format!("tidegate {id} speak");
                let speak = broker::connect(&settings.broker, &name, &amqp).await?;
                let state = |link: &Link| watch::channel(SessionState::Connected(link.clone()));
                let (hear_sender, hear_state) = state(&hear);
                let (speak_sender, speak_state) = state(&speak);
                let senders = vec![hear_sender, speak_sender];
                let links = Connections::Links(vec![hear, speak], senders);
                (links, [hear_state, speak_state])
            }
            ClientMode::Watch => {
                // It has shown that the broker is there.
                let _ = hear.close(CLOSE_LIMIT).await;
                let broker = Arc::new(settings.broker.clone());
                let session = |purpose| {
                    Session::start(Arc::clone(&broker), &id, purpose, &amqp, Metrics::new())
                };
                let (hear, speak) = (session("hear"), session("speak"));
                let states = [hear.state(), speak.state()];
                (Connections::Sessions(vec![hear, speak]), states)
            }
        };
        let shared = Arc::new(Shared::new(Limits::default()));
        let speaker = Arc::new(Speaker::new(settings.status.control.clone(), speak));
        let viewers = Arc::<Viewers>::default();
        let viewer = (mode != ClientMode::Command).then(|| viewers.stream());
        let requests = Arc::new(Requests::new(
            id.clone(),
            Role::Client,
            settings.fleet.beats_per_second,
            Arc::clone(&viewers),
        ));
        let listener = Listener::new(ListenerParts {
            role: Role::Client,
            settings,
            id,
            shared: Arc::clone(&shared),
            speaker: Arc::clone(&speaker),
            requests: Arc::clone(&requests),
            session: hear,
        });
        let listening = AbortOnDropHandle::new(amqp.spawn_unwatched(listener.run()));
        Ok(Self {
            shared,
            speaker,
            requests,
            viewers,
            _looker: viewer,
            listening,
            mode,
            connections,
            has_log,
            id: client,
            amqp,
        })
    }

    /// Whether the broker has a log of states. Without one, only workers that live are known.
    pub fn has_log(&self) -> bool {
        self.has_log
    }

    /// Whether everything that workers publish now is received.
    pub fn is_connected(&self) -> bool {
        self.shared.broker().connected
    }

    /// What keeps the fleet from being known as it is now: nobody can be asked, so that a worker that is not known may run
    /// all the same.
    pub fn obstacle(&self) -> Option<Obstacle> {
        if self.is_connected() {
            return None;
        }
        Some(self.speaker.obstacle().unwrap_or(Obstacle::NotCaughtUp))
    }

    /// The state of the fleet, for a moment.
    pub fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.shared.fleet()
    }

    /// The time by the fleet's clock.
    pub fn now(&self) -> Moment {
        self.shared.now()
    }

    /// These workers are on the screen: in a large fleet their figures come first.
    pub fn show(&self, workers: impl IntoIterator<Item = Arc<str>>) {
        self.viewers.watch(false, workers);
    }

    /// Waits until the log is read, and every worker has answered, is known to be gone, or has had the time to answer;
    /// for at most `limit`. A client that looks also waits for figures. Returns what has kept the workers from being asked,
    /// if they could not be. Cancel safe.
    ///
    /// # Errors
    /// If the broker refuses what is needed, or the connection is lost for good.
    pub async fn settled(&mut self, limit: Duration) -> Result<Option<Obstacle>, BrokerError> {
        let end = Instant::now() + limit;
        let mut connected: Option<Instant> = None;
        let mut reports_asked = false;
        loop {
            self.check_lost()?;
            let now = Instant::now();
            if self.is_connected() {
                let since = *connected.get_or_insert(now);
                let answered = now >= since + ALL_LIMIT && !self.fleet().is_asking();
                let missing = self.without_figures();
                if answered && (missing.is_empty() || now >= since + FIGURES_LIMIT) {
                    return Ok(None);
                }
                if now >= since + BEATS_LIMIT && !reports_asked {
                    reports_asked = true;
                    self.ask_for_reports(&missing).await;
                }
            }
            if now >= end {
                return Ok(self.obstacle());
            }
            tokio::select! {
                refusal = &mut self.listening => {
                    return Err(refusal.unwrap_or_else(|error| BrokerError::Lost {
                        what: "listening to the fleet",
                        cause: error.to_string(),
                    }));
                }
                () = sleep(CHECK_INTERVAL) => {}
            }
        }
    }

    /// Workers that beat, and have sent no figures of late.
    fn without_figures(&self) -> Vec<Arc<str>> {
        if self.mode == ClientMode::Command {
            return Vec::new();
        }
        self.fleet().without_figures_since(self.now().before(FRESH))
    }

    async fn ask_for_reports(&self, workers: &[Arc<str>]) {
        // In a large fleet the budget makes workers slow, not their age.
        if self.fleet().living() > REPORTS_LIMIT {
            return;
        }
        for worker in workers {
            // If it cannot be asked, its figures stay as old as they are.
            let _ = self.speaker.ask(Some(worker), &Command::Report).await;
        }
    }

    /// A client that does not stay ends with its connections.
    fn check_lost(&self) -> Result<(), BrokerError> {
        let Connections::Links(links, _) = &self.connections else {
            return Ok(());
        };
        for link in links {
            if let broker::LinkState::Lost { cause, .. } = link.state() {
                let what = "listening to the fleet";
                return Err(BrokerError::Lost { what, cause });
            }
        }
        Ok(())
    }

    /// Sends commands to the workers of this fleet.
    pub fn commander(&self) -> Commander {
        Commander::new(&self.shared, &self.speaker)
    }

    /// Sends a command to a worker and awaits its reply, which says whether it obeys.
    ///
    /// # Errors
    /// If no reply comes.
    pub async fn command(&self, worker: &str, command: &Command) -> Result<Reply, CommandError> {
        self.speaker.command(worker, command).await
    }

    /// Every queue that the fleet works. The broker is asked for their depths on a connection of its own.
    ///
    /// # Errors
    /// If that connection cannot be made.
    pub async fn queues(&self, settings: &BrokerSettings) -> Result<Queues, BrokerError> {
        let name = format!("tidegate {} queues", self.id);
        let link = broker::connect(settings, &name, &self.amqp).await?;
        let queues = look_once(&link, &self.shared).await;
        // A close that fails loses nothing.
        let _ = link.close(CLOSE_LIMIT).await;
        Ok(queues)
    }

    /// Ends the client's requests for beats, and its connections.
    pub async fn leave(self) {
        drop(self.listening);
        self.requests.end(&self.speaker).await;
        // A close that fails loses nothing: the queues are exclusive.
        match self.connections {
            Connections::Links(links, _states) => {
                for link in links {
                    let _ = link.close(CLOSE_LIMIT).await;
                }
            }
            Connections::Sessions(sessions) => {
                for session in sessions {
                    let _ = session.close(CLOSE_LIMIT).await;
                }
            }
        }
    }
}

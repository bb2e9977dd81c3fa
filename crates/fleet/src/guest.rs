//! Looks at the fleet from a terminal, for a while, and commands workers. It declares nothing but queues of its own, and
//! sees what the fleet program sees: the log, beats, answers.

use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;
use ulid::Ulid;

use super::api::WorkerState;
use super::clock::Moment;
use super::listener::{Listener, Manner, has_log};
use super::shared::Shared;
use super::speaker::Speaker;
use super::state::{ALL_LIMIT, Fleet, Limits};
use tidegate::config::Settings;
use tidegate::internal::broker::{self, AmqpRuntime, BrokerError, Link, Session, SessionState};
use tidegate::internal::metrics::Metrics;
use tidegate::internal::status::control::{Command, Reply};

pub use super::speaker::CommandError;

/// How often it is looked whether the picture is whole.
const LOOK: Duration = Duration::from_millis(50);
/// How long beats may take that workers have been asked for.
const BEATS_LIMIT: Duration = Duration::from_secs(2);
/// How long the broker has to answer a goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// How long a guest stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// For one command: a connection that is lost is an error.
    Command,
    /// For one look, the same, with what beats tell.
    Look,
    /// Until told to go: lost connections are made anew.
    Long,
}

/// What holds the connections.
enum Connections {
    Links(Vec<Link>, Vec<watch::Sender<SessionState>>),
    Sessions(Vec<Session>),
}

/// A guest of the fleet.
pub struct Guest {
    shared: Arc<Shared>,
    speaker: Arc<Speaker>,
    listening: AbortOnDropHandle<BrokerError>,
    stay: Stay,
    connections: Connections,
    has_log: bool,
    _amqp: Arc<AmqpRuntime>,
}

impl Guest {
    /// Connects and begins to listen.
    ///
    /// # Errors
    /// Where the broker cannot be reached or refuses; with 404 where there is no status exchange: no worker has ever
    /// said anything on this virtual host.
    pub async fn start(
        settings: Settings,
        stay: Stay,
        amqp: Arc<AmqpRuntime>,
    ) -> Result<Self, BrokerError> {
        let id = format!("guest-{}", Ulid::new());
        let hear = broker::connect(&settings.broker, &format!("tidegate {id} hear"), &amqp).await?;
        let has_log = has_log(&hear, &settings.status.exchange).await?;
        let settings = Arc::new(settings);
        let (connections, states) = match stay {
            Stay::Command | Stay::Look => {
                let name = format!("tidegate {id} speak");
                let speak = broker::connect(&settings.broker, &name, &amqp).await?;
                let links = vec![hear, speak];
                let channels = links
                    .iter()
                    .map(|link| watch::channel(SessionState::Connected(link.clone())));
                let (senders, states): (Vec<_>, Vec<_>) = channels.unzip();
                (Connections::Links(links, senders), states)
            }
            Stay::Long => {
                // It has shown that the broker is there.
                let _ = hear.close(CLOSE_LIMIT).await;
                let broker = Arc::new(settings.broker.clone());
                let session = |purpose| {
                    Session::start(Arc::clone(&broker), &id, purpose, &amqp, Metrics::new())
                };
                let sessions = vec![session("hear"), session("speak")];
                let states = sessions.iter().map(Session::state).collect();
                (Connections::Sessions(sessions), states)
            }
        };
        let [hear, speak] =
            <[_; 2]>::try_from(states).unwrap_or_else(|_| unreachable!("there are two"));
        let shared = Arc::new(Shared::new(Limits::default()));
        let speaker = Arc::new(Speaker::new(settings.status.control.clone(), speak));
        let listener = Listener::new(
            Manner::Guest {
                curious: stay != Stay::Command,
            },
            settings,
            id,
            Arc::clone(&shared),
            Arc::clone(&speaker),
            hear,
        );
        let listening = AbortOnDropHandle::new(amqp.handle().spawn(listener.run()));
        Ok(Self {
            shared,
            speaker,
            listening,
            stay,
            connections,
            has_log,
            _amqp: amqp,
        })
    }

    /// Whether the broker has a log of states: without one, only workers that live are known.
    pub fn has_log(&self) -> bool {
        self.has_log
    }

    /// Whether everything that is said now is heard.
    pub fn is_connected(&self) -> bool {
        self.shared.broker().connected
    }

    /// The state of the fleet, for a moment.
    pub fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.shared.fleet()
    }

    /// The clock that it counts by.
    pub fn now(&self) -> Moment {
        self.shared.now()
    }

    /// Waits until the log is read and everybody has answered, is known to be gone, or has had the time to answer; for
    /// at most `limit`. Cancel safe.
    ///
    /// # Errors
    /// Where the broker refuses what is needed, or the connection is lost for good.
    pub async fn settled(&mut self, limit: Duration) -> Result<(), BrokerError> {
        let end = Instant::now() + limit;
        let mut connected: Option<Instant> = None;
        loop {
            self.check_lost()?;
            let now = Instant::now();
            if self.is_connected() {
                let since = *connected.get_or_insert(now);
                let answered = now >= since + ALL_LIMIT && !self.fleet().is_asking();
                let told = self.stay == Stay::Command
                    || now >= since + BEATS_LIMIT
                    || self.all_have_told();
                if answered && told {
                    return Ok(());
                }
            }
            if now >= end {
                return Ok(());
            }
            tokio::select! {
                refusal = &mut self.listening => {
                    return Err(refusal.unwrap_or_else(|error| BrokerError::Lost {
                        what: "listening to the fleet",
                        cause: error.to_string(),
                    }));
                }
                () = sleep(LOOK) => {}
            }
        }
    }

    /// A short stay ends with its connections.
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

    fn all_have_told(&self) -> bool {
        let now = self.now();
        let fleet = self.fleet();
        let silent = |state: WorkerState| state == WorkerState::Draining || !state.is_live();
        fleet
            .all(now)
            .all(|worker| silent(worker.state) || worker.load.is_some())
    }

    /// Says a command to a worker and awaits its answer, which says whether it obeys.
    ///
    /// # Errors
    /// Where there is no answer.
    pub async fn command(&self, worker: &str, command: &Command) -> Result<Reply, CommandError> {
        self.speaker.command(worker, command).await
    }

    /// Says goodbye.
    pub async fn leave(self) {
        drop(self.listening);
        // Nothing is lost by a goodbye that fails: the queues are exclusive.
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

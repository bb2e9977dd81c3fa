//! Listens to the broker: reads the log, takes beats in batches, takes replies, asks the workers that the fleet's state
//! wants asked, and requests beats of those that somebody looks at.

mod events;
mod notes;
mod progress;
mod requests;
mod subscriptions;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};
use ulid::Ulid;

pub(super) use events::follow as follow_events;
pub(super) use requests::Requests;
pub(super) use subscriptions::has_log;

use super::shared::Shared;
use super::speaker::{CommandError, Speaker};
use super::state::{Ask, Message, Origin, Question};
use progress::Progress;
use subscriptions::{LOG, Subscriptions};
use tidegate::config::Settings;
use tidegate::delivery::Delivery;
use tidegate::internal::broker::{Backoff, Batch, BrokerError, Feed, Link, SessionState};
use tidegate::internal::status::control::{Command, Reply};

/// The interval at which beats are taken and due work is done.
const CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// Messages of one batch.
const BATCH: usize = 2_000;
/// Questions under way at a time.
const ASKING_LIMIT: usize = 100;
/// A message that cannot be read is logged at most once in this time.
const COMPLAINT_EVERY: Duration = Duration::from_secs(10);

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The fleet program: declares what it needs.
    Program,
    /// A command in a terminal: declares nothing but its own queues.
    Client,
}

/// The parts of the listener.
pub(super) struct ListenerParts {
    pub role: Role,
    pub settings: Arc<Settings>,
    /// The client's own id; its queues and requests carry it.
    pub id: String,
    pub shared: Arc<Shared>,
    pub speaker: Arc<Speaker>,
    pub requests: Arc<Requests>,
    pub session: watch::Receiver<SessionState>,
}

/// The part that listens.
pub(super) struct Listener {
    role: Role,
    settings: Arc<Settings>,
    id: String,
    shared: Arc<Shared>,
    speaker: Arc<Speaker>,
    session: watch::Receiver<SessionState>,
    requests: Arc<Requests>,
    progress: Progress,
    connected: bool,
    complained: Option<Instant>,
}

/// A question under way: to which worker, what, and whether its queue was there.
type Asked = (Ask, Result<bool, CommandError>);

impl Listener {
    pub(super) fn new(parts: ListenerParts) -> Self {
        Self {
            role: parts.role,
            settings: parts.settings,
            id: parts.id,
            shared: parts.shared,
            speaker: parts.speaker,
            session: parts.session,
            requests: parts.requests,
            progress: Progress::default(),
            connected: false,
            complained: None,
        }
    }

    /// Listens until it is dropped; it subscribes anew after each loss.
    ///
    /// Returns the refusal if the broker refuses what is needed before anything could be received.
    pub(super) async fn run(mut self) -> BrokerError {
        let mut backoff = Backoff::default();
        let mut heard_before = false;
        loop {
            let link = match self.link().await {
                Ok(link) => link,
                Err(refusal) => return refusal,
            };
            let opened =
                Subscriptions::open(&link, &self.settings, &self.id, self.role, &self.progress);
            let opened = opened.await;
            let error = match opened {
                Ok(mut subscriptions) => {
                    if self.role == Role::Program {
                        info!("reading the log of states");
                    }
                    heard_before = true;
                    backoff.reset();
                    self.progress.begin(Ulid::new().to_string(), Instant::now());
                    if subscriptions.log.is_none() {
                        self.progress.nothing_to_read();
                    }
                    let replies = subscriptions.replies_queue.clone();
                    self.speaker.listen_on(Some(replies));
                    let error = self.follow(&mut subscriptions).await;
                    self.speaker.listen_on(None);
                    self.disconnected();
                    error
                }
                Err(error) if error.is_refusal() && !heard_before => return error,
                Err(error) => error,
            };
            warn!(%error, "the broker's messages cannot be received; trying again");
            sleep(backoff.next(rand::random())).await;
        }
    }

    async fn link(&mut self) -> Result<Link, BrokerError> {
        let decided = self.session.wait_for(|state| {
            matches!(state, SessionState::Connected(_) | SessionState::Refused(_))
        });
        let decided = decided.await.map(|state| state.clone());
        match decided {
            Ok(SessionState::Connected(link)) => Ok(link),
            Ok(SessionState::Refused(error)) => Err(error),
            // The session is being closed, and this task with it.
            _ => std::future::pending().await,
        }
    }

    /// Follows what is open, until something is lost.
    async fn follow(&mut self, subscriptions: &mut Subscriptions) -> BrokerError {
        let mut asking = FuturesUnordered::new();
        let mut writing = FuturesUnordered::new();
        let mut look = interval(CHECK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let heard = tokio::select! {
                batch = read(&mut subscriptions.log) => match batch {
                    Ok(batch) => self.log(subscriptions, &batch).await,
                    Err(error) => Err(error),
                },
                batch = subscriptions.replies.batch(BATCH) => match batch {
                    Ok(batch) => self.replies(subscriptions, &batch).await,
                    Err(error) => Err(error),
                },
                Some(asked) = asking.next(), if !asking.is_empty() => {
                    self.asked(asked);
                    Ok(())
                }
                Some((note, written)) = writing.next(), if !writing.is_empty() => {
                    self.noted(&note, written);
                    Ok(())
                }
                _ = look.tick() => {
                    if self.connected {
                        self.requests.look(&self.shared, &self.speaker).await;
                    }
                    self.beats(subscriptions).await
                }
            };
            if let Err(error) = heard {
                return error;
            }
            if self.progress.look(Instant::now()) {
                self.shared.set_broker(|broker| broker.caught_up = true);
                info!(
                    workers = self.shared.fleet().len(),
                    "the log is read to its end"
                );
            }
            self.connection().await;
            self.ask(&mut asking);
            self.write_notes(&mut writing);
        }
    }

    async fn log(
        &mut self,
        subscriptions: &Subscriptions,
        batch: &Batch,
    ) -> Result<(), BrokerError> {
        let mut rest = batch.messages.as_slice();
        while !rest.is_empty() {
            let origin = if self.progress.is_caught_up() {
                Origin::Live
            } else {
                Origin::Log
            };
            let mark = rest.iter().position(|message| message.routing_key == LOG);
            let (said, after) = rest.split_at(mark.unwrap_or(rest.len()));
            self.take(said, origin);
            rest = after;
            if let Some((own, after)) = after.split_first() {
                self.take_own(own);
                rest = after;
            }
        }
        self.progress.read(batch.offset(), Instant::now());
        match &subscriptions.log {
            Some(log) => log.ack(batch).await,
            None => Ok(()),
        }
    }

    async fn beats(&mut self, subscriptions: &mut Subscriptions) -> Result<(), BrokerError> {
        while let Some(batch) = subscriptions.beats.ready(BATCH)? {
            self.take(&batch.messages, Origin::Live);
            subscriptions.beats.ack(&batch).await?;
        }
        Ok(())
    }

    /// Reads the messages, and then changes the state once.
    fn take(&mut self, deliveries: &[Delivery], origin: Origin) {
        let mut messages = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            match Message::parse(&delivery.routing_key, &delivery.body) {
                Ok(message) => messages.push(message),
                Err(error) => self.complain(&error.to_string()),
            }
        }
        self.shared.metrics.received(&messages);
        let now = self.shared.now();
        let mut fleet = self.shared.fleet();
        for message in messages {
            fleet.apply(message, origin, now);
        }
    }

    async fn replies(
        &mut self,
        subscriptions: &Subscriptions,
        batch: &Batch,
    ) -> Result<(), BrokerError> {
        let mut replies = Vec::with_capacity(batch.messages.len());
        for delivery in &batch.messages {
            match serde_json::from_slice::<Reply>(&delivery.body) {
                Ok(reply) => {
                    let correlation = delivery.properties.correlation_id.as_deref();
                    self.speaker.answered(correlation, &reply);
                    replies.push(reply);
                }
                Err(error) => self.complain(&format!("a reply cannot be read: {error}")),
            }
        }
        let now = self.shared.now();
        {
            let mut fleet = self.shared.fleet();
            for reply in replies {
                fleet.answered(&reply.worker, reply.phase, now);
            }
        }
        subscriptions.replies.ack(batch).await
    }

    fn complain(&mut self, error: &str) {
        self.shared.metrics.malformed();
        let quiet = self
            .complained
            .is_some_and(|at| at.elapsed() < COMPLAINT_EVERY);
        if !quiet {
            self.complained = Some(Instant::now());
            warn!(
                error,
                "a message on the status exchange cannot be read; ignored"
            );
        }
    }

    /// Notices whether the whole fleet can be heard and asked.
    async fn connection(&mut self) {
        if let Some(mark) = self.progress.mark_to_say()
            && self.speaker.can_speak()
        {
            match self.speaker.mark(LOG, mark).await {
                Ok(()) => self.progress.marked(),
                Err(error) => debug!(%error, "the log could not be marked; trying again"),
            }
        }
        let connected = self.progress.is_caught_up() && self.speaker.can_speak();
        if connected == self.connected {
            return;
        }
        if !connected {
            self.disconnected();
            return;
        }
        // Every worker that lives answers: one question instead of thousands.
        match self.speaker.ask(None, &Command::Ping).await {
            Ok(_) => {
                self.connected = true;
                self.requests.forget();
                self.shared.set_broker(|broker| broker.connected = true);
                let now = self.shared.now();
                self.shared.fleet().connected(now);
            }
            Err(error) => debug!(%error, "the workers could not be asked; trying again"),
        }
    }

    fn disconnected(&mut self) {
        self.connected = false;
        self.shared.set_broker(|broker| broker.connected = false);
        let now = self.shared.now();
        self.shared.fleet().disconnected(now);
    }

    /// Asks the workers that the state wants asked.
    fn ask(&self, asking: &mut FuturesUnordered<BoxFuture<'static, Asked>>) {
        let room = ASKING_LIMIT.saturating_sub(asking.len());
        let (now, events) = (self.shared.now(), self.shared.broker().events);
        let mut fleet = self.shared.fleet();
        fleet.hears_events(events, now);
        for ask in fleet.due(now, room) {
            asking.push(send(Arc::clone(&self.speaker), ask).boxed());
        }
    }

    fn asked(&self, (ask, there): Asked) {
        let now = self.shared.now();
        let worker = &ask.worker;
        match there {
            Ok(true) => {
                self.shared.metrics.asked("routed");
                if ask.question == Question::Present {
                    self.shared.fleet().queue_present(worker, now);
                }
            }
            Ok(false) => {
                self.shared.metrics.asked("returned");
                self.shared.fleet().queue_gone(worker, now);
            }
            Err(error) => {
                debug!(%error, "a worker could not be asked");
                self.shared.metrics.asked("failed");
                self.shared.fleet().unasked(worker, now);
            }
        }
    }
}

/// The next batch of the log; never if there is no log. Cancel safe.
async fn read(log: &mut Option<Feed>) -> Result<Batch, BrokerError> {
    match log {
        Some(log) => log.batch(BATCH).await,
        None => std::future::pending().await,
    }
}

async fn send(speaker: Arc<Speaker>, ask: Ask) -> Asked {
    let worker = Some(&*ask.worker);
    let there = match ask.question {
        Question::Present => speaker.tell(worker, &Command::Ping).await,
        Question::Ping => speaker.ask(worker, &Command::Ping).await,
        Question::Report => speaker.ask(worker, &Command::Report).await,
    };
    (ask, there)
}

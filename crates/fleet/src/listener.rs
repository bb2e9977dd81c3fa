//! Listens to the broker: reads the log, takes beats in batches, hears answers, and asks whom the fleet's state wants
//! asked.

mod ears;
mod events;
mod notes;
mod progress;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};
use ulid::Ulid;

pub(super) use ears::has_log;
pub(super) use events::follow as follow_events;

use super::cadence::Cadence;
use super::shared::Shared;
use super::speaker::{CommandError, Speaker};
use super::state::{Ask, FRESH_LIMIT, Message, Origin};
use ears::{Ears, LOG};
use progress::Progress;
use tidegate::config::Settings;
use tidegate::delivery::Delivery;
use tidegate::internal::broker::{Backoff, Batch, BrokerError, Feed, Link, SessionState};
use tidegate::internal::status::control::{Command, Reply};

/// How often beats are taken, and what is due is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often the cadence is looked at.
const CADENCE_LOOK: Duration = Duration::from_secs(1);
/// Messages of one batch.
const BATCH: usize = 2_000;
/// Questions under way at a time.
const ASKING_LIMIT: usize = 100;
/// How often a message that cannot be read is worth a line.
const COMPLAINT_EVERY: Duration = Duration::from_secs(10);

/// A guest has up to so many workers say everything at once; with more of them it waits for their beats.
const REPORT_LIMIT: usize = 500;

/// Who listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// The fleet program: declares what it needs, and sets the fleet's cadence.
    Program,
    /// A command, for a while: changes nothing. One that is curious has workers say at once what their next beats
    /// would tell.
    Guest { curious: bool },
}

/// The part that listens.
pub(super) struct Listener {
    pub manner: Manner,
    pub settings: Arc<Settings>,
    pub id: String,
    pub shared: Arc<Shared>,
    pub speaker: Arc<Speaker>,
    pub session: watch::Receiver<SessionState>,
    progress: Progress,
    cadence: Cadence,
    connected: bool,
    complained: Option<Instant>,
}

/// A question under way: to whom, and whether the queue was there.
type Asked = (Arc<str>, Result<bool, CommandError>);

impl Listener {
    pub(super) fn new(
        manner: Manner,
        settings: Arc<Settings>,
        id: String,
        shared: Arc<Shared>,
        speaker: Arc<Speaker>,
        session: watch::Receiver<SessionState>,
    ) -> Self {
        let cadence = Cadence::new(settings.fleet.beats_per_second);
        Self {
            manner,
            settings,
            id,
            shared,
            speaker,
            session,
            progress: Progress::default(),
            cadence,
            connected: false,
            complained: None,
        }
    }

    /// Listens until it is dropped; whatever is lost is opened anew.
    ///
    /// Returns the refusal, where the broker refuses what is needed before anything could be heard.
    pub(super) async fn run(mut self) -> BrokerError {
        let mut backoff = Backoff::default();
        let mut heard_before = false;
        loop {
            let link = match self.link().await {
                Ok(link) => link,
                Err(refusal) => return refusal,
            };
            let opened = Ears::open(&link, &self.settings, &self.id, self.manner, &self.progress);
            let opened = opened.await;
            let error = match opened {
                Ok(mut ears) => {
                    if self.manner == Manner::Program {
                        info!("reading the log of states");
                    }
                    heard_before = true;
                    backoff.reset();
                    self.progress.begin(Ulid::new().to_string(), Instant::now());
                    if ears.log.is_none() {
                        self.progress.nothing_to_read();
                    }
                    self.speaker.listen_on(Some(ears.replies_queue.clone()));
                    let error = self.follow(&mut ears).await;
                    self.speaker.listen_on(None);
                    self.disconnected();
                    error
                }
                Err(error) if error.is_refusal() && !heard_before => return error,
                Err(error) => error,
            };
            warn!(%error, "the fleet is not heard; trying again");
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
    async fn follow(&mut self, ears: &mut Ears) -> BrokerError {
        let mut asking = FuturesUnordered::new();
        let mut writing = FuturesUnordered::new();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut cadence_at = Instant::now();
        loop {
            let heard = tokio::select! {
                batch = read(&mut ears.log) => match batch {
                    Ok(batch) => self.log(ears, &batch).await,
                    Err(error) => Err(error),
                },
                batch = ears.replies.batch(BATCH) => match batch {
                    Ok(batch) => self.replies(ears, &batch).await,
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
                _ = look.tick() => self.beats(ears).await,
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
            if cadence_at.elapsed() >= CADENCE_LOOK {
                cadence_at = Instant::now();
                self.tell_cadence().await;
            }
        }
    }

    async fn log(&mut self, ears: &Ears, batch: &Batch) -> Result<(), BrokerError> {
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
        match &ears.log {
            Some(log) => log.ack(batch).await,
            None => Ok(()),
        }
    }

    async fn beats(&mut self, ears: &mut Ears) -> Result<(), BrokerError> {
        while let Some(batch) = ears.beats.ready(BATCH)? {
            self.take(&batch.messages, Origin::Live);
            ears.beats.ack(&batch).await?;
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

    async fn replies(&mut self, ears: &Ears, batch: &Batch) -> Result<(), BrokerError> {
        let mut replies = Vec::with_capacity(batch.messages.len());
        for delivery in &batch.messages {
            match serde_json::from_slice::<Reply>(&delivery.body) {
                Ok(reply) => {
                    let correlation = delivery.properties.correlation_id.as_deref();
                    self.speaker.answered(correlation, &reply);
                    replies.push(reply);
                }
                Err(error) => self.complain(&format!("an answer is not one: {error}")),
            }
        }
        let now = self.shared.now();
        {
            let mut fleet = self.shared.fleet();
            for reply in replies {
                fleet.answered(&reply.worker, reply.phase, now);
            }
        }
        ears.replies.ack(batch).await
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
                "a message on the status exchange is nobody's; ignored"
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
        // Everybody who lives answers: one question instead of thousands.
        match self.speaker.say(None, &self.question()).await {
            Ok(_) => {
                self.connected = true;
                self.cadence.forget();
                self.shared.set_broker(|broker| broker.connected = true);
                let now = self.shared.now();
                self.shared.fleet().connected(now);
            }
            Err(error) => debug!(%error, "the workers could not be asked; trying again"),
        }
    }

    /// What all are asked.
    fn question(&self) -> Command {
        let few = self.shared.fleet().living() <= REPORT_LIMIT;
        match self.manner {
            Manner::Guest { curious: true } if few => Command::Report,
            Manner::Guest { .. } | Manner::Program => Command::Ping,
        }
    }

    fn disconnected(&mut self) {
        self.connected = false;
        self.shared.set_broker(|broker| broker.connected = false);
        let now = self.shared.now();
        self.shared.fleet().disconnected(now);
    }

    /// Asks whom the state wants asked.
    fn ask(&self, asking: &mut FuturesUnordered<BoxFuture<'static, Asked>>) {
        let room = ASKING_LIMIT.saturating_sub(asking.len());
        let now = self.shared.now();
        for ask in self.shared.fleet().due(now, room) {
            asking.push(question(Arc::clone(&self.speaker), ask).boxed());
        }
    }

    fn asked(&self, (worker, there): Asked) {
        let now = self.shared.now();
        match there {
            Ok(true) => self.shared.metrics.asked("routed"),
            Ok(false) => {
                self.shared.metrics.asked("returned");
                self.shared.fleet().queue_gone(&worker, now);
            }
            Err(error) => {
                debug!(%error, "a worker could not be asked");
                self.shared.metrics.asked("failed");
                self.shared.fleet().unasked(&worker, now);
            }
        }
    }

    async fn tell_cadence(&mut self) {
        let (living, fresh) = {
            let mut fleet = self.shared.fleet();
            (fleet.living(), fleet.take_fresh())
        };
        if !self.connected || self.manner != Manner::Program {
            return;
        }
        if fresh.len() == FRESH_LIMIT {
            // There may be more.
            self.cadence.forget();
        }
        let now = self.shared.now();
        for tell in self.cadence.due(living, &fresh, now) {
            let said = self
                .speaker
                .say(tell.worker.as_deref(), &tell.command)
                .await;
            if let Err(error) = said {
                debug!(%error, "a cadence could not be said");
                self.cadence.forget();
                return;
            }
        }
    }
}

/// The next of the log; never where there is none. Cancel safe.
async fn read(log: &mut Option<Feed>) -> Result<Batch, BrokerError> {
    match log {
        Some(log) => log.batch(BATCH).await,
        None => std::future::pending().await,
    }
}

async fn question(speaker: Arc<Speaker>, ask: Ask) -> Asked {
    let command = if ask.report {
        Command::Report
    } else {
        Command::Ping
    };
    let said = speaker.say(Some(&ask.worker), &command).await;
    (ask.worker, said)
}

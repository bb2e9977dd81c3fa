//! One simulated worker: its messages and when it sends them. Pure: callers pass the time, and it has its own random
//! numbers.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rand::RngExt as _;
use rand::rngs::StdRng;
use tokio::time::Instant;
use ulid::Ulid;

use tidegate::config::HeartbeatSettings;
use tidegate::internal::broker::Message;
use tidegate::internal::status::control::{Command, Reply};
use tidegate::internal::status::delta::Delta;
use tidegate::internal::status::envelope::envelope;
use tidegate::internal::status::heartbeat::Heartbeat;
use tidegate::internal::status::wire::{
    Beat, BeatNode, Drain, DrainOutcome, DrainReport, Head, Kind, State, StateNode, VERSION,
    millis, rfc3339,
};
use tidegate::lifecycle::{CLOSING_LIMIT, Event, Phase};

/// Slots of a node.
const SLOTS: u64 = 8;
/// The duration of a run.
const RUN: Duration = Duration::from_millis(100);
/// The load changes at this interval. A real worker observes its load each second; that would not change
/// the messages.
const LOAD_INTERVAL: Duration = Duration::from_secs(5);
/// The largest change of the load in one step.
const STEP: f64 = 0.1;
/// The share of its distance from the mean that the load comes back in one step.
const PULL: f64 = 0.2;
/// The deadline of a drain.
const GRACE: Duration = Duration::from_secs(25);
/// The longest drain, in milliseconds.
const LONGEST_DRAIN_MS: u64 = 3_000;
/// One run in so many ends in a retry.
const RETRIED: u64 = 500;

/// What all workers have in common.
#[derive(Debug, Clone)]
pub(crate) struct FleetShape {
    /// Exchange that status messages go to.
    pub exchange: String,
    /// Nodes of a worker.
    pub nodes: usize,
    /// Mean load, from 0 to 1; at 0 nothing ever runs.
    pub load: f64,
    /// The intervals of beats.
    pub heartbeat: HeartbeatSettings,
}

/// A message and its kind.
pub(crate) type StatusMessage = (Kind, Message);

/// A worker.
#[derive(Debug)]
pub(crate) struct SimulatedWorker {
    name: String,
    id: String,
    started_at: String,
    seq: u64,
    phase: Phase,
    reason: Option<String>,
    heartbeat: Heartbeat,
    delta: Delta,
    nodes: Vec<BeatNode>,
    load: f64,
    looked: Instant,
    /// A drain: when it began, and when it is over.
    drain: Option<(Instant, Instant)>,
    rng: StdRng,
}

impl SimulatedWorker {
    /// A worker called `name`, which begins at `now`.
    pub(crate) fn new(name: String, shape: &FleetShape, now: Instant, mut rng: StdRng) -> Self {
        let nodes = (0..shape.nodes).map(|node| BeatNode {
            queue: format!("work.{node}"),
            in_flight: 0,
            held: 0,
            oldest_ms: 0,
            done: 0,
            retried: 0,
            dead: 0,
            handed_back: 0,
            interrupted: 0,
        });
        let id = Ulid::from_parts(
            Ulid::from_datetime(SystemTime::now()).timestamp_ms(),
            rng.random(),
        );
        Self {
            id: format!("{name}-{id}"),
            name,
            started_at: rfc3339(Timestamp::now()),
            seq: 0,
            phase: Phase::Starting,
            reason: None,
            heartbeat: Heartbeat::new(&shape.heartbeat),
            delta: Delta::default(),
            nodes: nodes.collect(),
            load: shape.load,
            looked: now,
            drain: None,
            rng,
        }
    }

    /// Its id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Its phase.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    /// The worker begins to consume. With an `age` from 0 to 1 its next beat comes sooner by that share of the
    /// interval: the workers of a fleet that has run for a while do not beat in step.
    pub(crate) fn ready(
        &mut self,
        age: f64,
        shape: &FleetShape,
        now: Instant,
    ) -> Vec<StatusMessage> {
        let starting = self.state(shape, now);
        let running = self.moved(Event::Ready, shape, now);
        let earlier = self.heartbeat.interval(now).mul_f64(age.clamp(0.0, 1.0));
        if let Some(then) = now.checked_sub(earlier) {
            self.heartbeat
                .sent(self.heartbeat.promise(then, self.rng.random()));
        }
        [starting].into_iter().chain(running).collect()
    }

    /// When to call [`tick`](Self::tick) next; never for one that has stopped.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        if let Some((_, ends)) = self.drain {
            return (self.phase == Phase::Draining).then_some(ends);
        }
        let look = self.looked + LOAD_INTERVAL;
        Some(self.heartbeat.due(now).map_or(look, |beat| beat.min(look)))
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, shape: &FleetShape, now: Instant) -> Vec<StatusMessage> {
        if let Some((began, ends)) = self.drain {
            let over = self.phase == Phase::Draining && ends <= now;
            return over
                .then(|| self.report(shape, began, now))
                .into_iter()
                .collect();
        }
        if self.looked + LOAD_INTERVAL <= now {
            self.look(shape, now);
        }
        let beats = self.heartbeat.due(now).is_some_and(|due| due <= now);
        beats.then(|| self.beat(shape, now)).into_iter().collect()
    }

    /// Begins a drain, if it is not in one.
    pub(crate) fn drain(
        &mut self,
        reason: &str,
        shape: &FleetShape,
        now: Instant,
    ) -> Vec<StatusMessage> {
        let Ok(phase) = self.phase.next(Event::Drain) else {
            return Vec::new();
        };
        self.phase = phase;
        self.reason = Some(reason.to_owned());
        let lasts = if self.in_flight() == 0 {
            Duration::from_millis(self.rng.random_range(2..10))
        } else {
            Duration::from_millis(self.rng.random_range(20..LONGEST_DRAIN_MS))
        };
        self.drain = Some((now, now + lasts));
        self.heartbeat.end();
        vec![self.state(shape, now)]
    }

    /// Obeys `command`. Returns the reply and the messages that follow from it.
    pub(crate) fn obey(
        &mut self,
        command: &Command,
        shape: &FleetShape,
        now: Instant,
    ) -> (Reply, Vec<StatusMessage>) {
        let mut error = None;
        let messages = match command {
            Command::Drain { reason } => {
                let reason = reason.as_deref().unwrap_or("command");
                self.drain(reason, shape, now)
            }
            Command::Pause { reason } => {
                self.reason.clone_from(reason);
                self.moved(Event::Pause, shape, now)
            }
            Command::Resume => {
                self.reason = None;
                self.moved(Event::Resume, shape, now)
            }
            Command::Report => {
                self.delta.renew();
                let mut messages = vec![self.state(shape, now)];
                if self.drain.is_none() {
                    messages.push(self.beat(shape, now));
                }
                messages
            }
            Command::Cadence {
                interval_ms,
                for_ms,
                by,
            } => {
                let (interval, lasting) = (
                    Duration::from_millis(*interval_ms),
                    Duration::from_millis(*for_ms),
                );
                let by = by.as_deref().unwrap_or_default();
                let unit = self.rng.random();
                if self.heartbeat.request(by, interval, lasting, now, unit) {
                    self.delta.renew();
                }
                Vec::new()
            }
            Command::Ping => Vec::new(),
        };
        let (word, wanted) = match command {
            Command::Drain { .. } => ("drain", Some(Phase::Draining)),
            Command::Pause { .. } => ("pause", Some(Phase::Paused)),
            Command::Resume => ("resume", Some(Phase::Running)),
            Command::Report => ("report", None),
            Command::Cadence { .. } => ("cadence", None),
            Command::Ping => ("ping", None),
        };
        if wanted.is_some_and(|wanted| wanted != self.phase) {
            error = Some(format!("a worker that is {} cannot {word}", self.phase));
        }
        let reply = Reply {
            v: VERSION,
            worker: self.id.clone(),
            command: word.to_owned(),
            ok: error.is_none(),
            phase: self.phase,
            error,
        };
        (reply, messages)
    }

    fn moved(&mut self, event: Event, shape: &FleetShape, now: Instant) -> Vec<StatusMessage> {
        match self.phase.next(event) {
            Ok(phase) => {
                self.phase = phase;
                vec![self.state(shape, now)]
            }
            Err(_illegal) => Vec::new(),
        }
    }

    fn in_flight(&self) -> u64 {
        self.nodes.iter().map(|node| node.in_flight).sum()
    }

    /// Moves the load, and counts the runs since the last time.
    fn look(&mut self, shape: &FleetShape, now: Instant) {
        let passed = now - self.looked;
        self.looked = now;
        if shape.load <= 0.0 {
            return;
        }
        let step = STEP * (2.0 * self.rng.random::<f64>() - 1.0);
        self.load = (self.load + PULL * (shape.load - self.load) + step).clamp(0.0, 1.0);
        let running = self.phase == Phase::Running;
        let mut taken = 0;
        for node in &mut self.nodes {
            let busy = (0..SLOTS).filter(|_| running && self.rng.random::<f64>() < self.load);
            node.in_flight = u64::try_from(busy.count()).unwrap_or(SLOTS);
            let runs = node.in_flight * millis(passed) / millis(RUN);
            node.done += runs;
            node.retried += runs / RETRIED;
            node.oldest_ms = if node.in_flight == 0 {
                0
            } else {
                self.rng.random_range(0..millis(RUN))
            };
            taken += node.in_flight;
        }
        self.heartbeat.observe(self.share(taken), now);
    }

    #[expect(clippy::cast_precision_loss, reason = "slots are far fewer than 2^52")]
    fn share(&self, taken: u64) -> f64 {
        taken as f64 / (SLOTS * self.nodes.len().max(1) as u64) as f64
    }

    fn state(&mut self, shape: &FleetShape, now: Instant) -> StatusMessage {
        let promise = self.heartbeat.promise(now, self.rng.random());
        let deadline = self
            .drain
            .map(|(began, _)| GRACE.saturating_sub(now - began));
        let lease = deadline.map_or(promise.lease, |deadline| deadline + CLOSING_LIMIT);
        let nodes = self.nodes.iter().map(|node| StateNode {
            queue: node.queue.clone(),
            title: None,
            note: None,
            kind: Some("quorum".to_owned()),
            handler: "http".to_owned(),
            slots: SLOTS,
            prefetch: 16,
            retry_ms: Vec::new(),
            phase: self.phase,
        });
        let nodes = nodes.collect();
        let state = State {
            head: self.head(lease),
            phase: self.phase,
            deadline_ms: deadline.map(millis),
            host: self.name.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at.clone(),
            reason: self.reason.clone(),
            note: None,
            nodes,
        };
        self.heartbeat.sent(promise);
        let message = envelope(&shape.exchange, Kind::State, &self.id, &state, None);
        (Kind::State, message)
    }

    fn beat(&mut self, shape: &FleetShape, now: Instant) -> StatusMessage {
        let promise = self.heartbeat.promise(now, self.rng.random());
        let encoded = self.delta.encode(self.nodes.clone(), now);
        let beat = Beat {
            head: self.head(promise.lease),
            load: (self.share(self.in_flight()) * 1000.0).round() / 1000.0,
            full: encoded.full,
            nodes: encoded.nodes.clone(),
        };
        self.heartbeat.sent(promise);
        self.delta.sent(encoded);
        let lease = Some(promise.lease);
        let message = envelope(&shape.exchange, Kind::Beat, &self.id, &beat, lease);
        (Kind::Beat, message)
    }

    fn report(&mut self, shape: &FleetShape, began: Instant, now: Instant) -> StatusMessage {
        self.phase = Phase::Stopped;
        let duration_ms = millis(now - began);
        let finished = self.in_flight();
        let reason = self.reason.clone().unwrap_or_default();
        let mut report = DrainReport::new(reason, DrainOutcome::Clean);
        report.duration_ms = duration_ms;
        report.steps.cancel_ms = 1;
        report.steps.finish_ms = duration_ms.saturating_sub(2);
        report.steps.settle_ms = 1;
        report.finished = finished;
        report.handed_back = finished;
        let drain = Drain {
            head: self.head(Duration::ZERO),
            report,
        };
        let message = envelope(&shape.exchange, Kind::Drain, &self.id, &drain, None);
        (Kind::Drain, message)
    }

    fn head(&mut self, lease: Duration) -> Head {
        self.seq += 1;
        Head {
            v: VERSION,
            worker: self.id.clone(),
            name: self.name.clone(),
            seq: self.seq,
            at: rfc3339(Timestamp::now()),
            lease_ms: millis(lease),
        }
    }
}

#[cfg(test)]
mod tests;

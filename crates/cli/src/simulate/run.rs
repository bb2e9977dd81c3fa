//! The simulation: workers send what is due, obey commands, crash and drain.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::controls::{ControlEvent, ControlQueue, Controls, Event};
use super::outgoing::Outgoing;
use super::{Chance, FleetShape, Schedule, SimulatedWorker, SimulationReport, Totals};
use tidegate::internal::broker::{BrokerError, Link, Publisher, Taken, declare_topic_exchange};
use tidegate::internal::status::control::{self, Command};
use tidegate::internal::wait;
use tidegate::lifecycle::Phase;

/// A worker that crashed or drained comes back after this time.
const AWAY: Duration = Duration::from_secs(2);
/// Workers that are handled before anything else gets a turn.
const TURN: usize = 200;

/// The plan of a simulation.
#[derive(Debug, Clone)]
pub(crate) struct SimulationPlan {
    /// What all workers have in common.
    pub shape: FleetShape,
    /// Topic exchange that commands come from.
    pub control: String,
    /// Workers.
    pub workers: usize,
    /// The first so many have a control queue.
    pub control_queues: usize,
    /// The duration, from when all of them run.
    pub duration: Duration,
    /// Crashes a minute, over the whole fleet.
    pub crashes: f64,
    /// Drains a minute, over the whole fleet.
    pub drains: f64,
    /// The seed of the random numbers.
    pub seed: u64,
}

/// Ends a simulation early.
#[derive(Debug, Clone, Default)]
pub(crate) struct SimulationStop {
    /// Drain the workers, and end.
    pub draining: CancellationToken,
}

/// Simulates along `plan`: publishes on `link`, and has control queues on `links`, which must be enough for them.
/// `observe` is told once a second how many workers run, and what was sent.
///
/// # Errors
/// If the broker refuses what is needed, or a connection is lost.
pub(crate) async fn run(
    link: &Link,
    links: Vec<Link>,
    plan: &SimulationPlan,
    stop: &SimulationStop,
    mut observe: impl FnMut(usize, &Totals),
) -> Result<SimulationReport, BrokerError> {
    for exchange in [&plan.shape.exchange, &plan.control] {
        declare_topic_exchange(link, exchange).await?;
    }
    let (controls, events) = Controls::new(links, plan.control_queues, &plan.control);
    let mut run = Simulation {
        plan,
        out: Outgoing::new(Publisher::open(link).await?),
        controls,
        members: Vec::with_capacity(plan.workers),
        schedule: Schedule::default(),
        running: 0,
        late: Duration::ZERO,
        crashes: 0,
        drains: 0,
        failure: None,
        whole: false,
        over: false,
        rng: StdRng::seed_from_u64(plan.seed),
    };
    let begin = Instant::now();
    for number in 0..plan.workers {
        let place = run.new_worker(number, begin);
        run.members.push(place);
    }
    run.live(link, events, stop, &mut observe).await
}

/// A worker, and its control queue; or when another one is to take its place.
struct WorkerPlace {
    member: SimulatedWorker,
    /// Nothing for one that is gone.
    control: Option<ControlQueue>,
    back_at: Option<Instant>,
}

struct Simulation<'a> {
    plan: &'a SimulationPlan,
    out: Outgoing,
    controls: Controls,
    members: Vec<WorkerPlace>,
    schedule: Schedule,
    /// Workers that have begun and not ended.
    running: usize,
    late: Duration,
    crashes: u64,
    drains: u64,
    failure: Option<String>,
    /// All have run at once.
    whole: bool,
    /// Workers that end do not come back any more.
    over: bool,
    rng: StdRng,
}

/// How far the simulation has come.
struct Progress {
    begin: Instant,
    /// When all workers ran at once for the first time, and what had been sent by then.
    complete: Option<(Instant, Totals)>,
    /// How long it lasted since then, and what was sent; once it is over.
    result: Option<(Duration, Totals)>,
    /// It was stopped before its end.
    stopped: bool,
    crash: Chance,
    drain: Chance,
}

impl Progress {
    fn end(&self, plan: &SimulationPlan) -> Option<Instant> {
        self.complete.map(|(since, _)| since + plan.duration)
    }
}

impl Simulation<'_> {
    /// Makes a worker in place `number`; it begins when its control queue is there.
    fn new_worker(&mut self, number: usize, now: Instant) -> WorkerPlace {
        let rng = StdRng::from_rng(&mut self.rng);
        let name = format!("sim-{number}");
        let member = SimulatedWorker::new(name, &self.plan.shape, now, rng);
        WorkerPlace {
            control: Some(self.controls.open(number, member.id())),
            member,
            back_at: None,
        }
    }

    async fn live(
        mut self,
        link: &Link,
        mut events: mpsc::Receiver<ControlEvent>,
        stop: &SimulationStop,
        observe: &mut impl FnMut(usize, &Totals),
    ) -> Result<SimulationReport, BrokerError> {
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        let mut progress = self.progress(Instant::now());
        loop {
            let now = Instant::now();
            self.turn(now);
            self.advance(&mut progress, stop, now);
            if let Some((duration, sent)) = progress.result
                && self.running == 0
                && self.out.is_empty()
            {
                observe(self.running, &self.out.totals);
                let stopped = progress.stopped;
                return Ok(self.report(progress.begin, progress.complete, duration, sent, stopped));
            }
            let next = self.next_due(&progress);
            tokio::select! {
                biased;
                () = self.out.sent(), if !self.out.is_empty() => {}
                Some(event) = events.recv(), if self.out.has_room() => self.handle(event, Instant::now()),
                () = stop.draining.cancelled(), if progress.result.is_none() => {}
                cause = link.lost() => {
                    let what = "simulating";
                    return Err(BrokerError::Lost { what, cause });
                }
                _ = tick.tick() => observe(self.running, &self.out.totals),
                () = wait::reached(next) => {}
            }
            if let Some(cause) = self.failure.take() {
                let what = "holding a control queue";
                return Err(BrokerError::Lost { what, cause });
            }
        }
    }

    fn progress(&mut self, begin: Instant) -> Progress {
        let units = (self.rng.random(), self.rng.random());
        Progress {
            begin,
            complete: None,
            result: None,
            stopped: false,
            crash: Chance::new(self.plan.crashes, begin, units.0),
            drain: Chance::new(self.plan.drains, begin, units.1),
        }
    }

    /// Notes when all workers run and when the simulation is over; in between, workers crash and drain by chance.
    fn advance(&mut self, progress: &mut Progress, stop: &SimulationStop, now: Instant) {
        if progress.complete.is_none() && self.running == self.plan.workers {
            progress.complete = Some((now, self.out.totals));
            self.whole = true;
            self.late = Duration::ZERO;
        }
        if progress.result.is_some() {
            return;
        }
        let end = progress.end(self.plan);
        let over = end.is_some_and(|end| now >= end);
        if over || stop.draining.is_cancelled() {
            progress.stopped = !over;
            let before = (progress.begin, Totals::default());
            let (since, before) = progress.complete.unwrap_or(before);
            let sent = self.out.totals.since(&before, now - since);
            progress.result = Some((now - since, sent));
            self.drain_all(now);
        } else if progress.complete.is_some() {
            if progress.crash.happens(now, self.rng.random()) {
                self.crash(now);
            }
            if progress.drain.happens(now, self.rng.random()) {
                self.drain_one(now);
            }
        }
    }

    /// When something has to be done next.
    fn next_due(&self, progress: &Progress) -> Option<Instant> {
        let due = self.schedule.next().filter(|_| self.out.has_room());
        if progress.result.is_some() || progress.complete.is_none() {
            return due;
        }
        let chances = [progress.crash.next(), progress.drain.next()];
        let end = progress.end(self.plan);
        chances.into_iter().flatten().chain(due).chain(end).min()
    }

    /// Lets the workers that are due send their messages.
    fn turn(&mut self, now: Instant) {
        for _ in 0..TURN {
            if !self.out.has_room() {
                return;
            }
            let Some((_, number)) = self.schedule.take(now) else {
                return;
            };
            let place = &mut self.members[number];
            if place.back_at.is_some_and(|at| at <= now) {
                let place = self.new_worker(number, now);
                self.members[number] = place;
                continue;
            }
            let Some(due) = place.member.due(now).filter(|_| place.control.is_some()) else {
                continue;
            };
            if due <= now {
                self.late = self.late.max(now - due);
                let messages = place.member.tick(&self.plan.shape, now);
                self.out.send_all(messages);
                self.ended(number, now);
            }
            self.look_again(number, now);
        }
    }

    fn look_again(&mut self, number: usize, now: Instant) {
        let place = &self.members[number];
        let due = place.back_at.or_else(|| place.member.due(now));
        if let Some(due) = due {
            self.schedule.add(due, number);
        }
    }

    /// A worker that has stopped gives up its queue, and comes back later.
    fn ended(&mut self, number: usize, now: Instant) {
        let place = &mut self.members[number];
        if place.member.phase() == Phase::Stopped && place.control.take().is_some() {
            self.running -= 1;
            place.back_at = (!self.over).then(|| now + AWAY);
        }
    }

    fn crash(&mut self, now: Instant) {
        if let Some(number) = self.any_running() {
            let place = &mut self.members[number];
            place.control = None;
            place.back_at = Some(now + AWAY);
            self.running -= 1;
            self.crashes += 1;
            self.look_again(number, now);
        }
    }

    fn drain_one(&mut self, now: Instant) {
        if let Some(number) = self.any_running() {
            self.drains += 1;
            self.drain(number, "rolling restart", now);
        }
    }

    fn any_running(&mut self) -> Option<usize> {
        let number = self.rng.random_range(0..self.members.len());
        let place = &self.members[number];
        let running = place.control.is_some() && place.member.phase() == Phase::Running;
        running.then_some(number)
    }

    fn drain(&mut self, number: usize, reason: &str, now: Instant) {
        let place = &mut self.members[number];
        let messages = place.member.drain(reason, &self.plan.shape, now);
        self.out.send_all(messages);
        self.look_again(number, now);
    }

    /// Nobody comes back, and all who are there drain.
    fn drain_all(&mut self, now: Instant) {
        self.over = true;
        for number in 0..self.members.len() {
            let place = &mut self.members[number];
            place.back_at = None;
            if place.control.is_none() {
                continue;
            }
            if place.member.phase() == Phase::Starting {
                place.control = None;
            } else {
                self.drain(number, "the simulation is over", now);
            }
        }
    }

    fn handle(&mut self, event: ControlEvent, now: Instant) {
        let place = &mut self.members[event.number];
        if place.member.id() != &*event.id || place.control.is_none() {
            return;
        }
        match event.event {
            Event::Open => {
                self.running += 1;
                // Those who come later have just begun.
                let age = if self.whole { 0.0 } else { self.rng.random() };
                let messages = place.member.ready(age, &self.plan.shape, now);
                self.out.send_all(messages);
                self.look_again(event.number, now);
            }
            Event::Command(taken) => self.obey(event.number, &taken, now),
            Event::Failed(error) => self.failure = Some(error),
        }
    }

    fn obey(&mut self, number: usize, taken: &Taken, now: Instant) {
        let command: Command = match control::read(taken.kind.as_deref(), &taken.body) {
            Ok(command) => command,
            Err(unreadable) => {
                warn!(error = unreadable.error, "a message is no command");
                return;
            }
        };
        let member = &mut self.members[number].member;
        let (reply, messages) = member.obey(&command, &self.plan.shape, now);
        self.out.answer(taken, &reply);
        self.out.send_all(messages);
        self.look_again(number, now);
    }

    fn report(
        self,
        begin: Instant,
        whole: Option<(Instant, Totals)>,
        duration: Duration,
        sent: Totals,
        stopped: bool,
    ) -> SimulationReport {
        let millis = tidegate::internal::status::wire::millis;
        let (workers, nodes) = (self.plan.workers, self.plan.shape.nodes);
        SimulationReport {
            workers,
            nodes,
            load: self.plan.shape.load,
            control_queues: self.plan.control_queues,
            starting_ms: whole.map_or_else(|| millis(duration), |(at, _)| millis(at - begin)),
            duration_ms: millis(duration),
            sent,
            sent_in_all: self.out.totals.since(&Totals::default(), begin.elapsed()),
            crashes: self.crashes,
            drains: self.drains,
            unconfirmed: self.out.unconfirmed,
            late_ms: millis(self.late),
            stopped,
            ping_per_second: SimulationReport::pings(workers, nodes),
            celery_per_second: SimulationReport::celery(workers),
        }
    }
}

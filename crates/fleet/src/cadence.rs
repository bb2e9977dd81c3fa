//! Requests for beats: to the workers that somebody views, within a budget of beats per second for the whole fleet. Pure.
//!
//! - While somebody views all workers, all are asked for one pace. If the budget does not allow the best pace, the
//!   workers on the screen get half of the budget at most, and all workers share the rest.
//! - A request lasts for a minute, is renewed while it is needed, and is ended when there are no viewers any more.
//! - Workers that beat faster by themselves than the budget allows are asked to beat more slowly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::clock::Moment;
use tidegate::internal::status::control::Command;
use tidegate::internal::status::wire::millis;

/// The best pace: with it, what a page shows is at most three seconds old.
const PACE: Duration = Duration::from_millis(1_250);
/// The best pace for workers on the screen, if the budget does not allow [`PACE`] for all.
const SCREEN_PACE: Duration = Duration::from_secs(2);
/// The longest interval asked for.
const LONGEST: Duration = Duration::from_mins(15);
/// The time that a request lasts, and the time after which it is renewed.
const HOLDS: Duration = Duration::from_mins(1);
const RENEWED: Duration = Duration::from_secs(25);
/// The least time between two requests to all workers for another pace.
const PATIENCE: Duration = Duration::from_secs(5);
/// A pace that differs by this share is worth another request.
const TOLERANCE: f64 = 0.2;
/// Requests to single workers at a time; the others follow.
const REQUESTS_LIMIT: usize = 100;

/// A worker whose own interval is longer than this is not asked to slow down.
const OWN_LEAST: Duration = Duration::from_secs(1);
/// A request to slow down lasts this long. A worker that still beats too fast afterwards is asked again.
const SLOWED_FOR: Duration = Duration::from_mins(10);
/// A worker must have slowed down after this time. For as long after the last viewer left, leases still follow the
/// requested pace, not the worker's own.
const SLOW_AFTER: Duration = Duration::from_mins(1);

const _: () = assert!(
    PACE.as_millis() < SCREEN_PACE.as_millis() && SCREEN_PACE.as_millis() < LONGEST.as_millis(),
    "paces grow from the best to the slowest"
);
const _: () = assert!(
    2 * RENEWED.as_millis() < HOLDS.as_millis(),
    "a request outlives one renewal that is lost"
);
const _: () = assert!(
    SLOW_AFTER.as_millis() < SLOWED_FOR.as_millis(),
    "a worker has slowed down before the request ends"
);

/// The workers that somebody views.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Demand {
    /// Every worker.
    pub all: bool,
    /// These workers in detail, or on a screen.
    pub workers: BTreeSet<Arc<str>>,
}

/// A request for another pace, and its worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PaceRequest {
    /// The worker; nothing for all.
    pub worker: Option<Arc<str>>,
    pub command: Command,
}

/// The pace for all workers and the one for those on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    all: Option<Duration>,
    screen: Option<Duration>,
}

/// The requests of one fleet program.
#[derive(Debug)]
pub(super) struct Cadence {
    program: String,
    /// Counts connections: on a new one this program is a new requester, because it may have missed full beats.
    connection: u64,
    beats_per_second: f64,
    all: Option<RequestedPace>,
    screen: BTreeMap<Arc<str>, RequestedPace>,
    /// When workers were asked to slow down, of late.
    slowed: BTreeMap<Arc<str>, Moment>,
    demanded: Option<Moment>,
}

#[derive(Debug, Clone, Copy)]
struct RequestedPace {
    at: Moment,
    interval: Duration,
}

impl Cadence {
    /// The requests of `program`; all beats together are to be at most so many per second.
    pub(super) fn new(program: String, beats_per_second: u32) -> Self {
        Self {
            program,
            connection: 0,
            beats_per_second: beats_per_second.into(),
            all: None,
            screen: BTreeMap::new(),
            slowed: BTreeMap::new(),
            demanded: None,
        }
    }

    /// The connection is new: nobody is known to have been asked.
    pub(super) fn forget(&mut self) {
        self.connection += 1;
        self.all = None;
        self.screen.clear();
        self.slowed.clear();
    }

    /// All workers are asked once more.
    pub(super) fn ask_all_again(&mut self) {
        self.all = None;
    }

    /// What to ask now. `living` workers beat, of which `fresh` are new.
    pub(super) fn due(
        &mut self,
        demand: &Demand,
        living: usize,
        fresh: &[Arc<str>],
        now: Moment,
    ) -> Vec<PaceRequest> {
        if *demand != Demand::default() {
            self.demanded = Some(now);
        }
        let plan = self.plan(demand, living);
        let mut requests = self.tell_all(plan.all, fresh, now);
        requests.extend(self.tell_screen(demand, plan.screen, now));
        requests
    }

    /// Asks workers to slow down whose own pace, `own_per_second` for the whole fleet, is more than the budget.
    /// `faster` names those whose own interval is shorter than the one that it is given.
    pub(super) fn slow(
        &mut self,
        living: usize,
        own_per_second: f64,
        faster: impl FnOnce(Duration) -> Vec<Arc<str>>,
        now: Moment,
    ) -> Vec<PaceRequest> {
        self.slowed.retain(|_, at| now.since(*at) < SLOW_AFTER);
        let interval = per_second(living, self.beats_per_second);
        let demanded = self.demanded.is_some_and(|at| now.since(at) < SLOW_AFTER);
        if demanded || interval < OWN_LEAST || own_per_second <= self.beats_per_second {
            return Vec::new();
        }
        let by = format!("{}.budget", self.program);
        let mut requests = Vec::new();
        for worker in faster(interval.mul_f64(1.0 - TOLERANCE)) {
            if requests.len() >= REQUESTS_LIMIT {
                break;
            }
            if !self.slowed.contains_key(&worker) {
                self.slowed.insert(Arc::clone(&worker), now);
                requests.push(pace_request(Some(worker), interval, SLOWED_FOR, &by));
            }
        }
        requests
    }

    /// Requests that end the paces that viewers caused, for a program that ends.
    pub(super) fn end(&mut self) -> Vec<PaceRequest> {
        self.due(&Demand::default(), 0, &[], Moment::default())
    }

    fn by(&self, part: &str) -> String {
        format!("{}.{}.{part}", self.program, self.connection)
    }

    fn plan(&self, demand: &Demand, living: usize) -> Plan {
        let budget = self.beats_per_second;
        let screen = demand.workers.len();
        if demand.all {
            if per_second(living, budget) <= PACE {
                return Plan {
                    all: Some(PACE),
                    screen: None,
                };
            }
            let pace = SCREEN_PACE.max(per_second(screen, budget / 2.0));
            let left = budget - as_f64(screen) / pace.as_secs_f64();
            return Plan {
                all: Some(per_second(living, left)),
                screen: Some(pace),
            };
        }
        Plan {
            all: None,
            screen: Some(PACE.max(per_second(screen, budget))),
        }
    }

    fn tell_all(
        &mut self,
        interval: Option<Duration>,
        fresh: &[Arc<str>],
        now: Moment,
    ) -> Vec<PaceRequest> {
        let by = self.by("all");
        let Some(interval) = interval else {
            let ended = self.all.take();
            let end = ended.map(|told| pace_request(None, told.interval, Duration::ZERO, &by));
            return end.into_iter().collect();
        };
        match self.all {
            Some(told) if now.since(told.at) < PATIENCE || told.holds(interval, now) => fresh
                .iter()
                .map(|worker| pace_request(Some(Arc::clone(worker)), told.interval, HOLDS, &by))
                .collect(),
            _ => {
                self.all = Some(RequestedPace { at: now, interval });
                vec![pace_request(None, interval, HOLDS, &by)]
            }
        }
    }

    fn tell_screen(
        &mut self,
        demand: &Demand,
        pace: Option<Duration>,
        now: Moment,
    ) -> Vec<PaceRequest> {
        let by = self.by("screen");
        let shown = |worker: &Arc<str>| pace.is_some() && demand.workers.contains(worker);
        let gone: Vec<_> = self
            .screen
            .keys()
            .filter(|worker| !shown(worker))
            .cloned()
            .collect();
        let mut requests = Vec::new();
        for worker in gone.into_iter().take(REQUESTS_LIMIT) {
            if let Some(told) = self.screen.remove(&worker) {
                requests.push(pace_request(
                    Some(worker),
                    told.interval,
                    Duration::ZERO,
                    &by,
                ));
            }
        }
        let Some(interval) = pace else {
            return requests;
        };
        for worker in &demand.workers {
            let told = self.screen.get(worker);
            if requests.len() < REQUESTS_LIMIT
                && !told.is_some_and(|told| told.holds(interval, now))
            {
                let told = RequestedPace { at: now, interval };
                self.screen.insert(Arc::clone(worker), told);
                requests.push(pace_request(Some(Arc::clone(worker)), interval, HOLDS, &by));
            }
        }
        requests
    }
}

impl RequestedPace {
    fn holds(self, interval: Duration, now: Moment) -> bool {
        let ratio = interval.as_secs_f64() / self.interval.as_secs_f64();
        now.since(self.at) < RENEWED && (ratio - 1.0).abs() <= TOLERANCE
    }
}

/// The interval at which so many workers make so many beats per second.
fn per_second(workers: usize, beats: f64) -> Duration {
    let interval = Duration::try_from_secs_f64(as_f64(workers) / beats);
    interval.unwrap_or(LONGEST).min(LONGEST)
}

fn as_f64(count: usize) -> f64 {
    u32::try_from(count).unwrap_or(u32::MAX).into()
}

fn pace_request(
    worker: Option<Arc<str>>,
    interval: Duration,
    lasting: Duration,
    by: &str,
) -> PaceRequest {
    PaceRequest {
        worker,
        command: Command::Cadence {
            interval_ms: millis(interval).max(1),
            for_ms: millis(lasting),
            by: Some(by.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests;

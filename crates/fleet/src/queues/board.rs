//! Everything known of the queues: what workers say, what the broker says, and both together. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::inflow::{Inflow, Level};
use super::looks::{Found, Looks, Purpose};
use crate::api::{Depth, Held, NewestDead, Queue, Queues};
use crate::clock::Moment;
use crate::dead::dead_queue;
use crate::state::{Fleet, QueueWork};
use tidegate::internal::broker::{BrokerError, QueueFacts};
use tidegate::internal::retry::delay_queue;
use tidegate::internal::status::wire::millis;

/// Queues of one answer.
const QUEUES_LIMIT: usize = 2_000;

/// The queues and what is known of them.
#[derive(Debug, Default)]
pub(crate) struct Board {
    looks: Looks,
    /// Deliveries that run, by the queue that workers work.
    running: BTreeMap<Arc<str>, u64>,
    inflows: BTreeMap<Arc<str>, Inflow>,
    newest: BTreeMap<Arc<str>, NewestDead>,
    problem: Option<String>,
}

fn delay_queues(queue: &str, work: &QueueWork) -> impl Iterator<Item = String> {
    let delays = work.retry_ms.iter().map(|ms| Duration::from_millis(*ms));
    delays.map(move |delay| delay_queue(queue, delay))
}

impl Board {
    /// Looks at the queues that the fleet works.
    pub(crate) fn want(&mut self, work: &BTreeMap<Arc<str>, QueueWork>, now: Moment) {
        let mut wanted = BTreeMap::new();
        for (queue, work) in work {
            wanted.insert(Arc::clone(queue), Purpose::Work);
            let (retried, dead) = work.failures;
            // A queue that workers work keeps its purpose.
            wanted
                .entry(dead_queue(queue).into())
                .or_insert(Purpose::Aside(dead));
            for delays in delay_queues(queue, work) {
                wanted
                    .entry(delays.into())
                    .or_insert(Purpose::Aside(retried));
            }
        }
        self.looks.want(wanted, now);
        let running = work.iter();
        self.running = running
            .map(|(queue, work)| (Arc::clone(queue), work.running))
            .collect();
        self.inflows.retain(|queue, _| work.contains_key(queue));
        self.newest.retain(|queue, _| work.contains_key(queue));
    }

    /// The queues to look at now, at most `limit`.
    pub(crate) fn due(&mut self, now: Moment, limit: usize) -> Vec<Arc<str>> {
        self.looks.due(now, limit)
    }

    /// Whether every queue has been looked at.
    pub(crate) fn is_complete(&self) -> bool {
        self.looks.is_complete()
    }

    /// Why the broker cannot be asked at all, if so.
    pub(crate) fn set_problem(&mut self, problem: Option<String>) {
        self.problem = problem;
    }

    /// A dead letter of `queue` was read.
    pub(crate) fn read_letter(&mut self, queue: &str, newest: NewestDead) {
        self.newest.insert(queue.into(), newest);
    }

    /// What the broker said of `queue`. Returns the messages that are ready in it.
    pub(crate) fn saw(
        &mut self,
        queue: &Arc<str>,
        facts: Result<QueueFacts, BrokerError>,
        now: Moment,
    ) -> Option<u64> {
        let found = match facts {
            Ok(facts) => Found::There {
                ready: facts.messages.into(),
                consumers: facts.consumers.into(),
            },
            Err(BrokerError::Refused { code: 404, .. }) => Found::Missing,
            Err(error) if error.is_refusal() => Found::Refused(error.to_string()),
            Err(_lost) => {
                self.looks.not_seen(queue, now);
                return None;
            }
        };
        let ready = match found {
            Found::There { ready, .. } => Some(ready),
            Found::Missing | Found::Refused(_) => None,
        };
        self.looks.saw(queue, found, now);
        ready
    }

    /// Counts what came to `queue`, in which `ready` messages wait now, and from which `ended` deliveries have ended so
    /// far. Queues that workers do not work do not count.
    pub(crate) fn count(&mut self, queue: &Arc<str>, ready: u64, ended: u64, at: Moment) {
        let Some(running) = self.running.get(queue) else {
            return;
        };
        let level = Level {
            at,
            ready,
            running: *running,
            ended,
        };
        let inflow = self.inflows.entry(Arc::clone(queue)).or_default();
        inflow.saw(level);
    }

    /// Every queue. One that nobody works and that is not there is none.
    pub(crate) fn rows(&self, fleet: &Fleet, now: Moment) -> Queues {
        let work = fleet.queue_work(now);
        let there = |queue: &str, work: &QueueWork| {
            work.workers > 0 || !matches!(self.looks.seen(queue), Some((_, Found::Missing)))
        };
        let shown: Vec<_> = work
            .iter()
            .filter(|(queue, work)| there(queue, work))
            .collect();
        let rows = shown.iter().take(QUEUES_LIMIT);
        let queues = rows.map(|(queue, work)| self.row(queue, work, fleet, now));
        Queues {
            at: now,
            problem: self.problem.clone(),
            left_out: shown.len().saturating_sub(QUEUES_LIMIT) as u64,
            queues: queues.collect(),
        }
    }

    fn row(&self, queue: &Arc<str>, work: &QueueWork, fleet: &Fleet, now: Moment) -> Queue {
        let seen = self.looks.seen(queue);
        let mut held: Vec<Held> = work
            .held
            .iter()
            .map(|(why, workers)| Held {
                why: Arc::clone(why),
                workers: *workers,
            })
            .collect();
        let (mut consumers, mut problem) = (None, None);
        match seen {
            Some((
                _,
                Found::There {
                    consumers: found, ..
                },
            )) => consumers = Some(*found),
            Some((_, Found::Missing)) => problem = Some("there is no such queue".to_owned()),
            Some((_, Found::Refused(why))) => problem = Some(why.clone()),
            None => {}
        }
        if work.workers == 0 && consumers.is_none_or(|consumers| consumers == 0) {
            held.push(Held {
                why: "no worker consumes it".into(),
                workers: 0,
            });
        }
        let delays: Vec<String> = delay_queues(queue, work).collect();
        let inflow = self.inflows.get(queue);
        Queue {
            queue: Arc::clone(queue),
            title: work.title.clone(),
            kind: work.kind.clone(),
            workers: work.workers,
            slots: work.slots,
            prefetch: work.prefetch,
            running: work.running,
            on_hold: work.on_hold,
            oldest_ms: millis(work.oldest),
            figures_age_ms: work.figures_age.map(millis),
            done_per_second: rounded(work.done_per_second),
            in_per_second: inflow.and_then(Inflow::per_second).map(rounded),
            failing: fleet.failing(queue, now).map(rounded),
            ready: consumers.and_then(|_| self.depth(&[queue], now)),
            consumers,
            problem,
            retrying: self.depth(&delays, now),
            dead: self.depth(&[dead_queue(queue)], now),
            newest_dead: self.newest.get(queue).cloned(),
            held,
        }
    }

    /// The messages in `queues` together; nothing until each has been looked at. A queue that is missing has none.
    fn depth(&self, queues: &[impl AsRef<str>], now: Moment) -> Option<Depth> {
        let mut depth = Depth {
            messages: 0,
            age_ms: 0,
        };
        for queue in queues {
            let (at, found) = self.looks.seen(queue.as_ref())?;
            match found {
                Found::There { ready, .. } => {
                    depth.messages += ready;
                    depth.age_ms = depth.age_ms.max(millis(now.since(at)));
                }
                Found::Missing => {}
                Found::Refused(_) => return None,
            }
        }
        Some(depth)
    }
}

/// To three digits behind the point.
fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

//! The fleet as the API shows it.

use std::sync::Arc;

use super::super::api::{
    Drains, Figures, HistoryEntry, HistoryKind, Lease, Messages, Node, Overview, Worker,
    WorkerDetail, WorkerDrain, WorkerState, Workers,
};
use super::super::clock::Moment;
use super::entry::Entry;
use super::{Fleet, node};
use tidegate::internal::status::PING_INTERVAL;
use tidegate::internal::status::wire::millis;
use tidegate::lifecycle::Phase;

/// Which workers to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkersQuery {
    /// Only those in one of these states; empty for all.
    pub states: Vec<WorkerState>,
    /// Only those whose name or id holds this, whatever its case; empty for all.
    pub name: String,
    /// At most this many.
    pub limit: usize,
    /// Only those after this id.
    pub after: Option<String>,
}

impl Fleet {
    /// The fleet in figures.
    pub fn overview(&mut self, now: Moment) -> Overview {
        let mut overview = Overview {
            week: self.week(now),
            ..Overview::default()
        };
        let week_ago = now.before(super::week::WEEK);
        for entry in self.entries.values() {
            let state = entry.state();
            *overview.workers.of(state) += 1;
            if state.is_live() {
                overview.nodes += entry.totals.nodes;
                overview.slots += entry.totals.slots;
                overview.in_flight += entry.totals.in_flight;
                overview.rate += entry.totals.rate;
                let age = entry.figures_at().map(|at| millis(now.since(at)));
                overview.figures_age_ms = overview.figures_age_ms.max(age);
            }
            if state == WorkerState::Lost && entry.since() >= week_ago {
                overview.week.lost += 1;
            }
        }
        let (beats, states) = self.rates.per_second(now);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a fleet has fewer than 2^52 nodes"
        )]
        let baseline = overview.nodes as f64 / PING_INTERVAL.as_secs_f64();
        overview.rate = rounded(overview.rate);
        overview.messages = Messages {
            beats_per_second: rounded(beats),
            states_per_second: rounded(states),
            baseline_per_second: rounded(baseline),
            share: (baseline > 0.0).then(|| rounded((beats + states) / baseline)),
        };
        overview
    }

    /// What a worker is now.
    pub fn state_of(&self, id: &str) -> Option<WorkerState> {
        self.entries.get(id).map(Entry::state)
    }

    /// A worker.
    pub fn worker(&self, id: &str, now: Moment) -> Option<Worker> {
        let (id, entry) = self.entries.get_key_value(id)?;
        Some(worker(id, entry, now))
    }

    /// A worker with what became of it.
    pub fn detail(&self, id: &str, now: Moment) -> Option<WorkerDetail> {
        let (id, entry) = self.entries.get_key_value(id)?;
        Some(WorkerDetail {
            worker: worker(id, entry, now),
            history: history(entry),
        })
    }

    /// Workers in the order of their ids.
    pub fn workers(&self, query: &WorkersQuery, now: Moment) -> Workers {
        let name = query.name.to_lowercase();
        let after = query.after.as_deref();
        let range = match after {
            Some(after) => self
                .entries
                .range::<str, _>((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded)),
            None => self.entries.range::<str, _>(..),
        };
        let wanted = |(id, entry): &(&Arc<str>, &Entry)| {
            (query.states.is_empty() || query.states.contains(&entry.state()))
                && (name.is_empty()
                    || id.to_lowercase().contains(&name)
                    || entry.name().to_lowercase().contains(&name))
        };
        let mut found = range.filter(wanted);
        let workers: Vec<Worker> = found
            .by_ref()
            .take(query.limit)
            .map(|(id, entry)| worker(id, entry, now))
            .collect();
        let more = found.next().is_some();
        let last = workers.last().map(|worker| Arc::clone(&worker.id));
        Workers {
            at: now,
            next: last.filter(|_| more),
            workers,
        }
    }

    /// Every worker, in the order of their ids.
    pub fn all(&self, now: Moment) -> impl Iterator<Item = Worker> {
        self.entries
            .iter()
            .map(move |(id, entry)| worker(id, entry, now))
    }

    /// The drain of a worker.
    pub fn drain(&self, id: &str) -> Option<WorkerDrain> {
        let (id, entry) = self.entries.get_key_value(id)?;
        worker_drain(id, entry)
    }

    /// At most `limit` drains, newest first: those before the moment and id that `before` names, if it does.
    pub fn drains(&self, limit: usize, before: Option<(Moment, &str)>) -> Drains {
        let end = before.map(|(at, id)| (at, Arc::<str>::from(id)));
        let mut of = match end {
            Some(end) => self.drains.range(..end).rev(),
            None => self.drains.range::<(Moment, Arc<str>), _>(..).rev(),
        };
        let page: Vec<&(Moment, Arc<str>)> = of.by_ref().take(limit).collect();
        let more = of.next().is_some();
        let next = page.last().filter(|_| more);
        let next = next.map(|(at, id)| format!("{at}/{id}"));
        let entries = page
            .iter()
            .filter_map(|(_, id)| self.entries.get_key_value(id));
        Drains {
            drains: entries
                .filter_map(|(id, entry)| worker_drain(id, entry))
                .collect(),
            total: self.drains.len() as u64,
            next,
        }
    }
}

fn worker(id: &Arc<str>, entry: &Entry, now: Moment) -> Worker {
    let facts = entry.facts.as_ref();
    let state = entry.state();
    let reason = match state {
        WorkerState::Stopped => entry.report().map(|report| Arc::clone(&report.reason)),
        _ => None,
    };
    Worker {
        id: Arc::clone(id),
        name: entry.name(),
        state,
        since: entry.since(),
        reason: reason.or_else(|| facts.and_then(|facts| facts.reason.clone())),
        note: facts
            .and_then(|facts| facts.note.clone())
            .filter(|_| state.is_live()),
        host: facts.map(|facts| Arc::clone(&facts.host)),
        pid: facts.map(|facts| facts.pid),
        version: facts.map(|facts| Arc::clone(&facts.version)),
        started_at: entry.started_at(),
        last_heard: entry.last_heard(),
        lease: entry.lease(now).map(|(all, left)| Lease {
            ms: millis(all),
            left_ms: millis(left),
        }),
        load: entry.pulse.map(|pulse| pulse.load),
        figures: entry.figures_at().map(|at| Figures {
            at,
            age_ms: millis(now.since(at)),
        }),
        deadline_at: entry.deadline_at(),
        nodes: entry
            .shown_nodes()
            .map(|node| shown_node(entry, node, state, now))
            .collect(),
        nodes_left_out: entry.nodes_left_out as u64,
        drain: entry.report().cloned(),
    }
}

fn shown_node(entry: &Entry, node: &node::Node, state: WorkerState, now: Moment) -> Node {
    let pulse = entry.pulse;
    let newest = pulse.map_or(0, |pulse| pulse.seq);
    let role = node.role.as_ref();
    // The broker delivers again what a lost worker ran at its last beat.
    let busy = match state {
        WorkerState::Stopped => node::Busy::default(),
        _ => entry.busy(node),
    };
    let ended = matches!(state, WorkerState::Stopped | WorkerState::Lost);
    let rated = pulse.is_some_and(|pulse| pulse.rated) && !ended;
    Node {
        queue: Arc::clone(&node.queue),
        title: role.and_then(|role| role.title.clone()),
        note: role.and_then(|role| role.note.clone()).filter(|_| !ended),
        kind: role.and_then(|role| role.kind.clone()),
        handler: role.map_or_else(Arc::default, |role| Arc::clone(&role.handler)),
        slots: role.map_or(0, |role| role.slots.into()),
        prefetch: role.map_or(0, |role| role.prefetch),
        phase: match state {
            WorkerState::Stopped => Phase::Stopped,
            _ => role.map_or(Phase::Running, |role| role.phase),
        },
        in_flight: busy.in_flight.into(),
        held: busy.held.into(),
        oldest_ms: busy.oldest_ms,
        done: node.counts.done,
        retried: node.counts.retried,
        dead: node.counts.dead,
        handed_back: node.counts.handed_back,
        interrupted: node.counts.interrupted,
        rate: rated.then(|| rounded(node.rate_at(newest).into())),
        failing: node.recent.failing(now).filter(|_| rated).map(rounded),
    }
}

fn worker_drain(id: &Arc<str>, entry: &Entry) -> Option<WorkerDrain> {
    let report = entry.report()?;
    Some(WorkerDrain {
        worker: Arc::clone(id),
        name: entry.name(),
        drain: report.clone(),
    })
}

fn history(entry: &Entry) -> Vec<HistoryEntry> {
    let behind = entry.behind_ms();
    let shown = entry.history.shown();
    let entries = shown.map(|record| HistoryEntry {
        at: record.at.shown(behind),
        kind: record.kind,
        state: match record.kind {
            HistoryKind::Lost => WorkerState::Lost,
            HistoryKind::Silent => WorkerState::Silent,
            HistoryKind::State | HistoryKind::Drain | HistoryKind::Back => record.phase.into(),
        },
        reason: record.reason.clone(),
    });
    entries.collect()
}

/// To three digits behind the point: what is shown, and no more bytes than that.
fn rounded(number: f64) -> f64 {
    (number * 1_000.0).round() / 1_000.0
}

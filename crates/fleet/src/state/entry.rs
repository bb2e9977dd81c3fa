//! Everything known of one worker.

mod asking;
mod intake;
mod notes;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use super::super::api::{Drain, HistoryKind, WorkerState};
use super::super::clock::Moment;
use super::contact::{Contact, Verdict};
use super::history::{History, Record, Stamp};
use super::node::{Busy, Node};
pub(super) use intake::report;
use notes::Noted;
use tidegate::internal::status::heartbeat::LEASE_INTERVALS;
use tidegate::lifecycle::Phase;

/// The lease of a worker that answers and has promised nothing yet.
const LEASE_DEFAULT: Duration = Duration::from_secs(180);
/// A clock that is this much off is taken for right: messages take their time.
const SKEW_IGNORED_MS: i64 = 2_000;
/// A state is asked for if it has not come by itself after this time.
const REPORT_PATIENCE: Duration = Duration::from_secs(2);
/// How long after it was last known to be there a control queue is looked for, without events: this and a part of the
/// spread. A crash shows well within 150 s; so does a hang, once the broker has closed the connection (60 s).
const CHECK: Duration = Duration::from_secs(65);
const CHECK_SPREAD_MS: u64 = 20_000;

/// One worker.
#[derive(Debug)]
pub(super) struct Entry {
    name: Arc<str>,
    pub facts: Option<Facts>,
    pub pulse: Option<Pulse>,
    /// Its newest full beat.
    full_seq: u64,
    pub nodes: Vec<Node>,
    report: Option<Box<Drain>>,
    /// When the drain was reported, by the worker's clock and by ours.
    report_at: Option<Stamp>,
    /// The notes of fleet programs about it.
    noted: Noted,
    /// Nodes of its newest state that are not kept, for want of room.
    pub nodes_left_out: usize,
    /// Bytes of its nodes.
    pub node_bytes: usize,
    contact: Contact,
    /// Without events, its control queue is looked for when it was last known to be there for this long.
    check_after: Duration,
    /// The time since which the verdict has not been fine.
    verdict_since: Moment,
    heard: LastMessage,
    /// The phase that it answered with.
    answered: Option<Phase>,
    /// When to ask for a whole state; nothing if there is no need.
    report_next: Option<Moment>,
    /// How far its clock is behind ours, in milliseconds: the least that was seen.
    behind_ms: Option<i64>,
    /// The same by the log, where a message that was sent in the future shows a clock that is ahead by at least that.
    behind_by_log_ms: Option<i64>,
    pub history: History,
    pub totals: Totals,
    /// Whether it is among the changes.
    pub changed: bool,
    pub indexed: Indexed,
}

/// Its place in the fleet's indexes.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Indexed {
    pub timer: Option<Moment>,
    pub ended: Option<Moment>,
    pub asked: bool,
    /// When a note about it is to be written.
    pub note: Option<Moment>,
    /// When its drain ended.
    pub drain: Option<Moment>,
    /// Since when it is known, as long as it has not answered.
    pub unproven: Option<Moment>,
    pub node_bytes: usize,
}

/// The content of its newest state, beside the nodes.
#[derive(Debug)]
pub(super) struct Facts {
    seq: u64,
    pub phase: Phase,
    pub reason: Option<Arc<str>>,
    pub note: Option<Arc<str>>,
    deadline_ms: Option<u64>,
    at: Stamp,
    pub host: Arc<str>,
    pub pid: u32,
    pub version: Arc<str>,
    started_at: Option<Moment>,
}

/// The content of its newest beat, beside the nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pulse {
    pub seq: u64,
    pub load: f64,
    /// When it was sent, by the sender's clock.
    sent: Moment,
    /// When it came, by ours.
    received: Moment,
    /// Whether there was one before it, so that there are rates.
    pub rated: bool,
}

/// Its newest message of any kind.
#[derive(Debug, Clone, Copy)]
struct LastMessage {
    seq: u64,
    lease: Duration,
    at: Moment,
    live: bool,
}

/// The sums over its nodes.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Totals {
    pub nodes: u64,
    pub slots: u64,
    pub in_flight: u64,
    pub rate: f64,
}

/// Looks for control queues are spread over [`CHECK_SPREAD_MS`]: those of a whole fleet are not made at once.
fn check_after(id: &str) -> Duration {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    CHECK + Duration::from_millis(hasher.finish() % CHECK_SPREAD_MS)
}

impl Entry {
    pub(super) fn new(id: &str, name: Arc<str>, now: Moment) -> Self {
        Self {
            name,
            facts: None,
            pulse: None,
            full_seq: 0,
            nodes: Vec::new(),
            report: None,
            report_at: None,
            noted: Noted::default(),
            nodes_left_out: 0,
            node_bytes: 0,
            contact: Contact::unknown(),
            check_after: check_after(id),
            verdict_since: now,
            heard: LastMessage {
                seq: 0,
                lease: LEASE_DEFAULT,
                at: now,
                live: false,
            },
            answered: None,
            report_next: Some(now.after(REPORT_PATIENCE)),
            behind_ms: None,
            behind_by_log_ms: None,
            history: History::default(),
            totals: Totals::default(),
            changed: false,
            indexed: Indexed::default(),
        }
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    /// Whether it has answered a question: somebody has its control queue.
    pub(super) fn is_proven(&self) -> bool {
        self.answered.is_some()
    }

    pub(super) fn report(&self) -> Option<&Drain> {
        self.report.as_deref()
    }

    pub(super) fn shorten_report(&mut self) {
        if let Some(report) = &mut self.report {
            report.interrupted_ids = Vec::new();
        }
    }

    pub(super) fn last_heard(&self) -> Moment {
        self.heard.at
    }

    /// Its present state.
    pub(super) fn state(&self) -> WorkerState {
        let said = self.facts.as_ref().map(|facts| facts.phase);
        if self.report.is_some() || said == Some(Phase::Stopped) {
            return WorkerState::Stopped;
        }
        match self.contact.verdict() {
            Verdict::Lost => WorkerState::Lost,
            Verdict::Silent => WorkerState::Silent,
            Verdict::Fine => said.or(self.answered).unwrap_or(Phase::Running).into(),
        }
    }

    /// Since when it is that.
    pub(super) fn since(&self) -> Moment {
        let behind = self.behind_ms();
        match self.state() {
            WorkerState::Lost | WorkerState::Silent => self.verdict_since,
            WorkerState::Stopped if self.report.is_some() => {
                self.report().map_or(self.heard.at, |report| report.at)
            }
            _ => match self.history.phase_since() {
                Some(record) => record.at.shown(behind),
                None => self.heard.at,
            },
        }
    }

    pub(super) fn deadline_at(&self) -> Option<Moment> {
        let facts = self.facts.as_ref()?;
        let deadline = Duration::from_millis(facts.deadline_ms?);
        let begun = facts.at.shown(self.behind_ms());
        (self.state() == WorkerState::Draining).then(|| begun.after(deadline))
    }

    pub(super) fn started_at(&self) -> Option<Moment> {
        let started = self.facts.as_ref()?.started_at?;
        Some(started.shifted(self.behind_ms()))
    }

    /// The promise that holds, and what is left of it.
    pub(super) fn lease(&self, now: Moment) -> Option<(Duration, Duration)> {
        if !self.state().is_live() || !self.heard.live {
            return None;
        }
        let left = self.contact.held_until().map(|until| until.since(now));
        Some((self.heard.lease, left.unwrap_or_default()))
    }

    /// The interval at which it promises to beat; nothing if it does not beat, or has promised nothing yet.
    pub(super) fn beats_every(&self) -> Option<Duration> {
        let beats = matches!(
            self.state(),
            WorkerState::Starting | WorkerState::Running | WorkerState::Paused
        );
        let promises = beats && self.heard.live && self.heard.seq > 0;
        promises.then(|| self.heard.lease / LEASE_INTERVALS)
    }

    /// When its figures were true: when its newest beat was sent, by our clock.
    pub(super) fn figures_at(&self) -> Option<Moment> {
        let pulse = self.pulse?;
        // Even small differences between the clocks would show, so that none is taken for the way of a message.
        let sent = pulse.sent.shifted(self.behind_ms.unwrap_or(0));
        Some(sent.min(pulse.received))
    }

    /// When it ended: stopped, or was lost.
    pub(super) fn ended_at(&self) -> Option<Moment> {
        match self.state() {
            WorkerState::Stopped | WorkerState::Lost => Some(self.since()),
            _ => None,
        }
    }

    /// The lag of its clock behind ours, if that is more than messages take.
    pub(super) fn behind_ms(&self) -> i64 {
        let seen = self.behind_ms.or(self.noted.behind_ms());
        let seen = seen.or(self.behind_by_log_ms);
        notes::ignoring_small(seen.unwrap_or(0))
    }

    pub(super) fn answered(&mut self, phase: Phase, now: Moment) {
        if self.has_stopped() {
            return;
        }
        self.answered = Some(phase);
        self.heard.at = now;
        self.heard.live = true;
        let said = self.facts.as_ref().map(|facts| facts.phase);
        if said != Some(phase) && self.report_next.is_none() {
            self.report_next = Some(now.after(REPORT_PATIENCE));
        }
        let lease = self.heard.lease;
        self.judge(now, |contact| contact.answered(now, lease));
    }

    /// Whether nothing but notes is known of it.
    pub(super) fn is_only_noted(&self) -> bool {
        self.heard.seq == 0 && self.answered.is_none() && self.noted.lost_at(0).is_none()
    }

    pub(super) fn queue_gone(&mut self, now: Moment) {
        if !self.has_stopped() {
            self.judge(now, |contact| contact.queue_gone(now));
        }
    }

    /// The broker says that its control queue is there.
    pub(super) fn present(&mut self, now: Moment) {
        self.contact.present(now);
    }

    /// Time has passed. `checks` is whether control queues are looked for, because no events tell when they go.
    pub(super) fn look(&mut self, now: Moment, checks: bool) {
        let check = self.check_after(checks);
        if !self.has_stopped() {
            self.judge(now, |contact| contact.look(now, check));
        }
    }

    fn check_after(&self, checks: bool) -> Option<Duration> {
        checks.then_some(self.check_after)
    }

    fn has_stopped(&self) -> bool {
        self.state() == WorkerState::Stopped
    }

    /// Lets the contact change, and notes what that comes to.
    fn judge(&mut self, now: Moment, change: impl FnOnce(&mut Contact)) {
        let before = self.contact.verdict();
        change(&mut self.contact);
        let after = self.contact.verdict();
        if before == after {
            return;
        }
        let kind = match after {
            Verdict::Fine => HistoryKind::Back,
            Verdict::Silent => HistoryKind::Silent,
            Verdict::Lost => HistoryKind::Lost,
        };
        let noted = self.noted.lost_at(self.heard.seq);
        let at = match noted.filter(|_| after == Verdict::Lost) {
            Some(noted) => noted,
            None if self.heard.live => now,
            // Nothing is known of a worker after its last message, if it was only read of.
            None => self.heard.at,
        };
        self.verdict_since = at;
        let said = self.facts.as_ref().map(|facts| facts.phase);
        self.history.put(Record {
            seq: self.heard.seq,
            kind,
            at: Stamp::here(at),
            phase: said.or(self.answered).unwrap_or(Phase::Running),
            reason: None,
        });
    }

    fn total(&mut self) {
        let newest = self.pulse.map_or(0, |pulse| pulse.seq);
        let mut totals = Totals::default();
        for node in self.shown_nodes() {
            totals.nodes += 1;
            let slots = node.role.as_ref().map_or(0, |role| role.slots);
            totals.slots += u64::from(slots);
            totals.in_flight += u64::from(self.busy(node).in_flight);
            totals.rate += f64::from(node.rate_at(newest));
        }
        self.totals = totals;
        self.node_bytes = self.nodes.iter().map(Node::bytes).sum();
    }

    /// What runs on a node.
    pub(super) fn busy(&self, node: &Node) -> Busy {
        let newest = self.pulse.map_or(0, |pulse| pulse.seq);
        node.busy_at(newest, self.full_seq)
    }
}

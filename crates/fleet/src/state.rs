//! The state of the fleet, decided from messages, the receipt clock, and what the broker says of control queues.
//! Pure: it is told what happened and when, and says whom to ask next.
//!
//! - A message's `seq` orders what its worker said. Duplicates and what comes late change nothing, in whatever
//!   order they come.
//! - A lease counts from receipt, by this program's clock. The sender's clock is only ever shown, and no later than
//!   receipt.
//! - Nobody is called lost by silence alone. Whose lease is about to run out is asked; the broker returns the question
//!   where the control queue is gone, and it is asked once more, after a drain report under way had time to come.
//! - What is read from the log at the start says what a worker was, not that it lives: such a worker is asked.
//! - What a program finds out and the log does not say, it notes there; see [`Note`].
//! - Everything is bounded; see [`Limits`].

mod contact;
mod entry;
mod graph;
mod history;
mod log_clock;
mod message;
mod names;
mod node;
mod note;
mod pace;
mod queues;
mod rates;
mod tallies;
mod text;
mod upkeep;
mod view;
mod week;

#[cfg(test)]
mod bounds_tests;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use contact::ANSWER_LIMIT;
pub use contact::Question;
pub use message::{Message, MessageError};
pub use note::{Note, NoteError};
pub use queues::QueueWork;
pub use view::WorkersQuery;

use super::clock::Moment;
use entry::Entry;
use log_clock::LogClock;
use rates::Rates;
use tallies::Tallies;
use text::Texts;
use tidegate::lifecycle::Phase;
use week::{ForgottenEnds, WeekCache};

/// How long after a (new) connection workers have to answer the question put to all of them, before those are
/// asked one by one of whom nothing is known.
pub const ALL_LIMIT: Duration = Duration::from_secs(1);
/// Workers asked and not answered yet, at most.
const ASKED_LIMIT: usize = 500;
/// Workers told apart as new at a time.
pub const FRESH_LIMIT: usize = 1_000;
/// Nodes of one worker; more are left out.
const NODES_MOST: usize = 1_000;
/// Bytes of nodes that every worker has room for: about 30 nodes whose texts are short.
const NODE_BYTES_SURE: usize = 8 << 10;
/// Bytes beyond those that workers share, for each worker that the fleet may have.
const NODE_BYTES_SHARED: usize = 2 << 10;

/// The bounds of the fleet's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Workers known. Beyond it the one that ended first is forgotten, or else the first that never answered a
    /// question; living workers that have answered stay, and newcomers are refused.
    pub workers: usize,
    /// How long an ended worker is shown.
    pub retention: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            workers: 20_000,
            retention: Duration::from_hours(7 * 24),
        }
    }
}

/// The origin of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was sent just now.
    Live,
    /// It was read from the log, and is as old as it says.
    Log,
}

/// A question to a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The worker's id.
    pub worker: Arc<str>,
    /// The question.
    pub question: Question,
}

/// The changes since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Workers that changed.
    pub workers: Vec<Arc<str>>,
    /// Workers that are no longer known.
    pub gone: Vec<Arc<str>>,
    /// Workers whose drain was reported.
    pub drains: Vec<Arc<str>>,
}

/// The state of the fleet.
#[derive(Debug)]
pub struct Fleet {
    limits: Limits,
    entries: BTreeMap<Arc<str>, Entry>,
    /// When each entry is to be looked at, earliest first.
    timers: BTreeSet<(Moment, Arc<str>)>,
    /// The workers that have to be asked.
    asks: BTreeSet<Arc<str>>,
    asked: usize,
    /// From when workers may be asked; nothing without a connection.
    asking_from: Option<Moment>,
    /// Whether control queues are looked for, because no events tell when they go.
    checks: bool,
    /// The workers that ended, earliest first.
    ended: BTreeSet<(Moment, Arc<str>)>,
    /// Living workers that never answered a question, by when they became known.
    unproven: BTreeSet<(Moment, Arc<str>)>,
    /// Drains by their end.
    drains: BTreeSet<(Moment, Arc<str>)>,
    /// About whom a note is to be written, and when.
    notes: BTreeSet<(Moment, Arc<str>)>,
    /// Bytes of the nodes of all workers, beyond those that each is sure of.
    shared_bytes: usize,
    forgotten: ForgottenEnds,
    log_clock: LogClock,
    texts: Texts,
    rates: Rates,
    tallies: Tallies,
    week: WeekCache,
    changes: Changes,
    fresh: Vec<Arc<str>>,
    urgent: bool,
    dropped: u64,
}

impl Fleet {
    /// An empty fleet; `now` begins the count of messages.
    pub fn new(limits: Limits, now: Moment) -> Self {
        Self {
            limits,
            entries: BTreeMap::new(),
            timers: BTreeSet::new(),
            asks: BTreeSet::new(),
            asked: 0,
            asking_from: None,
            checks: true,
            ended: BTreeSet::new(),
            unproven: BTreeSet::new(),
            drains: BTreeSet::new(),
            notes: BTreeSet::new(),
            shared_bytes: 0,
            forgotten: ForgottenEnds::default(),
            log_clock: LogClock::default(),
            texts: Texts::default(),
            rates: Rates::new(now),
            tallies: Tallies::new(now),
            week: WeekCache::default(),
            changes: Changes::default(),
            fresh: Vec::new(),
            urgent: false,
            dropped: 0,
        }
    }

    /// Takes in a message that reached this program at `now`.
    pub fn apply(&mut self, message: Message, origin: Origin, now: Moment) {
        let head = message.head();
        let id = Arc::<str>::from(head.worker.as_str());
        if origin == Origin::Live {
            self.rates.count(&message, now);
            self.tallies.count(self.entries.get(&id), &message, now);
        }
        let name = self.texts.keep(&head.name, text::NAME_LIMIT);
        let shared = (self.limits.workers * NODE_BYTES_SHARED).saturating_sub(self.shared_bytes);
        let is_new = !self.entries.contains_key(&id);
        let drain = match &message {
            Message::Drain(drain) if is_new => Some(drain.clone()),
            _ => None,
        };
        let after = self.log_clock.take(&id, &head.at, origin, now);
        let known = self.change(&id, &name, now, |entry, texts| {
            let room = entry.node_bytes.max(NODE_BYTES_SURE) + shared;
            entry.apply(message, origin, now, after, room, texts);
        });
        match drain {
            Some(drain) if !known => self.count_refused(&drain, now),
            _ if known && is_new && origin == Origin::Live => self.meet(&id, now),
            _ => {}
        }
    }

    /// A worker answered a command, and is in `phase`.
    pub fn answered(&mut self, worker: &str, phase: Phase, now: Moment) {
        if worker.is_empty() || worker.len() > message::ID_LIMIT {
            return;
        }
        let name = self.texts.keep(name_in(worker), text::NAME_LIMIT);
        let id = worker.into();
        self.make_room_for_answer(&id, now);
        self.change(&id, &name, now, |entry, _| entry.answered(phase, now));
    }

    /// The broker says that the worker's control queue is gone: a message to it came back, or an event told.
    pub fn queue_gone(&mut self, worker: &str, now: Moment) {
        let Some((id, entry)) = self.entries.get_key_value(worker) else {
            return;
        };
        let (id, name) = (Arc::clone(id), entry.name());
        self.change(&id, &name, now, |entry, _| entry.queue_gone(now));
    }

    /// The broker says that the worker's control queue is there: a message to it was routed.
    pub fn queue_present(&mut self, worker: &str, now: Moment) {
        let Some((id, _)) = self.entries.get_key_value(worker) else {
            return;
        };
        let id = Arc::clone(id);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.present(now);
        }
        self.reconsider(&id, now);
    }

    /// The broker's events tell when a control queue goes, or they do not: then queues are looked for now and again.
    pub fn hears_events(&mut self, hears: bool, now: Moment) {
        if self.checks != hears {
            return;
        }
        self.checks = !hears;
        let all: Vec<Arc<str>> = self.entries.keys().cloned().collect();
        for id in all {
            self.reconsider(&id, now);
        }
    }

    /// Everything said from now on is heard, and all workers are being asked whether they are there.
    pub fn connected(&mut self, now: Moment) {
        self.asking_from = Some(now.after(ALL_LIMIT));
    }

    /// Nothing is heard, and nobody can be asked.
    pub fn disconnected(&mut self, now: Moment) {
        self.asking_from = None;
        let asked: Vec<Arc<str>> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_asked())
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in asked {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.unasked();
            }
            self.reconsider(&id, now);
        }
    }

    /// Looks at what is due, and says whom to ask: at most `limit`, each counted as asked from now on.
    pub fn due(&mut self, now: Moment, limit: usize) -> Vec<Ask> {
        while let Some((at, id)) = self.timers.first() {
            if *at > now {
                break;
            }
            let id = Arc::clone(id);
            self.look(&id, now);
        }
        if self.asking_from.is_none_or(|from| from > now) {
            return Vec::new();
        }
        let room = ASKED_LIMIT.saturating_sub(self.asked).min(limit);
        let next: Vec<Arc<str>> = self.asks.iter().take(room).cloned().collect();
        let mut asks = Vec::with_capacity(next.len());
        for id in next {
            if let Some(entry) = self.entries.get_mut(&id) {
                let question = entry.ask(now);
                asks.push(Ask {
                    worker: Arc::clone(&id),
                    question,
                });
            }
            self.reconsider(&id, now);
        }
        asks
    }

    /// A question that [`due`](Self::due) gave out could not be sent.
    pub fn unasked(&mut self, worker: &str, now: Moment) {
        let Some((id, _)) = self.entries.get_key_value(worker) else {
            return;
        };
        let id = Arc::clone(id);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.unasked();
        }
        self.reconsider(&id, now);
    }

    /// When [`due`](Self::due) is to be called next, where nothing else happens.
    pub fn next_due(&self) -> Option<Moment> {
        let timer = self.timers.first().map(|(at, _)| *at);
        let may_ask = !self.asks.is_empty() && self.asked < ASKED_LIMIT;
        let ask = self.asking_from.filter(|_| may_ask);
        match (timer, ask) {
            (Some(timer), Some(ask)) => Some(timer.min(ask)),
            (timer, ask) => timer.or(ask),
        }
    }

    /// Whether somebody is being asked, or is to be.
    pub fn is_asking(&self) -> bool {
        self.asked > 0 || !self.asks.is_empty()
    }

    /// The changes since the last call.
    pub fn take_changes(&mut self) -> Changes {
        self.urgent = false;
        for id in &self.changes.workers {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.changed = false;
            }
        }
        std::mem::take(&mut self.changes)
    }

    /// The workers that became known since the last call; at most [`FRESH_LIMIT`].
    pub fn take_fresh(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.fresh)
    }

    /// Whether a worker came, went, or changed its state since the changes were last taken.
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Whether anything changed since the changes were last taken.
    pub fn has_changes(&self) -> bool {
        !self.changes.workers.is_empty() || !self.changes.gone.is_empty()
    }

    /// How many workers were forgotten before their time, for want of room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The number of known workers.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no worker is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Workers that are known to be alive, or may be.
    pub fn living(&self) -> usize {
        self.entries.len() - self.ended.len()
    }
}

/// The name in an id such as `<name>-<ULID>`.
fn name_in(id: &str) -> &str {
    match id.rsplit_once('-') {
        Some((name, ulid)) if ulid.len() == 26 && !name.is_empty() => name,
        _ => id,
    }
}

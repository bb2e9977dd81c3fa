//! Tells everybody who looks what has changed: once for all, in batches.
//!
//! A change of a worker's state is told within a quarter of a second, figures once a second. What a batch says is
//! whole workers, never differences, so that whoever missed some is right again after the next.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::api::{Broker, Gone, Program, Snapshot, Summary};
use super::event_part::EventPart;
use super::pending::Pending;
use super::shared::Shared;

/// The interval of looks for changes of state.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The interval at which figures are sent.
const FIGURES: Duration = Duration::from_secs(1);
/// The interval at which the summary is sent if nothing changes.
const QUIET: Duration = Duration::from_secs(15);
/// Batches that a client may be behind.
const BACKLOG: usize = 16;
/// Drains of a snapshot.
const SNAPSHOT_DRAINS: usize = 200;
/// The time after which a client connects again, in milliseconds.
const RETRY_MS: u64 = 2_000;

/// The channel of batches of server-sent events.
#[derive(Debug)]
pub(crate) struct Hub {
    shared: Arc<Shared>,
    commands: bool,
    sender: broadcast::Sender<Arc<EventPart>>,
    /// The snapshot since the last batch.
    snapshot: Mutex<Option<Arc<EventPart>>>,
    forward: Option<Arc<Pending>>,
}

/// The content of the last batch.
struct Last {
    number: u64,
    at: Instant,
    broker: Broker,
}

impl Hub {
    /// Tells of `shared`; `commands` is whether commands are taken.
    pub(crate) fn new(shared: Arc<Shared>, commands: bool, forward: Option<Arc<Pending>>) -> Self {
        Self {
            shared,
            commands,
            sender: broadcast::Sender::new(BACKLOG),
            snapshot: Mutex::default(),
            forward,
        }
    }

    /// The fleet in figures, with the program itself.
    pub(crate) fn summary(&self) -> Summary {
        let broker = self.shared.broker();
        let now = self.shared.now();
        Summary {
            at: now,
            program: Program {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started_at: self.shared.started_at(),
            },
            broker,
            commands: self.commands,
            overview: self.shared.fleet().overview(now),
        }
    }

    /// The snapshot, and every batch after it.
    pub(crate) fn subscribe(&self) -> (Arc<EventPart>, broadcast::Receiver<Arc<EventPart>>) {
        let mut kept = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let batches = self.sender.subscribe();
        // Clients that come at once share a snapshot: what changed since it was made is in the next batch.
        if let Some(snapshot) = &*kept {
            return (Arc::clone(snapshot), batches);
        }
        let snapshot = Arc::new(EventPart::from(self.make_snapshot()));
        *kept = Some(Arc::clone(&snapshot));
        (snapshot, batches)
    }

    fn make_snapshot(&self) -> Vec<u8> {
        let number = self.shared.now().ms().unsigned_abs();
        let summary = self.summary();
        let fleet = self.shared.fleet();
        let snapshot = Snapshot {
            workers: fleet.all(summary.at).collect(),
            drains: fleet.drains(SNAPSHOT_DRAINS, None).drains,
            summary,
        };
        drop(fleet);
        let mut text = format!("retry: {RETRY_MS}\n").into_bytes();
        event(&mut text, number, "snapshot", &snapshot);
        text
    }

    /// Tells, until it is dropped.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut look = interval(CHECK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = Last {
            number: self.shared.now().ms().unsigned_abs(),
            at: Instant::now(),
            broker: self.shared.broker(),
        };
        loop {
            look.tick().await;
            let (urgent, changed) = {
                let fleet = self.shared.fleet();
                (fleet.is_urgent(), fleet.has_changes())
            };
            let broker = self.shared.broker();
            let quiet_for = last.at.elapsed();
            if urgent
                || broker != last.broker
                || (changed && quiet_for >= FIGURES)
                || quiet_for >= QUIET
            {
                last.at = Instant::now();
                last.broker = broker;
                self.tell(&mut last.number);
            }
        }
    }

    /// Tells what has changed since the last batch.
    pub(crate) fn tell(&self, number: &mut u64) {
        let now = self.shared.now();
        // Held from the changes to the batch: no snapshot falls between.
        let mut kept = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = None;
        let mut fleet = self.shared.fleet();
        let changes = fleet.take_changes();
        if let Some(forward) = &self.forward {
            forward.note(&changes);
        }
        if self.sender.receiver_count() == 0 {
            return;
        }
        let workers = changes.workers.iter();
        let workers: Vec<_> = workers.filter_map(|id| fleet.worker(id, now)).collect();
        let drains = changes.drains.iter();
        let drains: Vec<_> = drains.filter_map(|id| fleet.drain(id)).collect();
        drop(fleet);
        let mut batch = Batch {
            text: Vec::new(),
            number,
        };
        for worker in &workers {
            batch.event("worker", worker);
        }
        for id in changes.gone {
            batch.event("gone", &Gone { id });
        }
        for drain in &drains {
            batch.event("drain", drain);
        }
        batch.event("summary", &self.summary());
        // Whoever looked may have gone.
        let _ = self.sender.send(Arc::new(batch.text.into()));
    }
}

/// Events under way.
struct Batch<'n> {
    text: Vec<u8>,
    /// The last event's number; an id of its own for each event.
    number: &'n mut u64,
}

impl Batch<'_> {
    fn event(&mut self, kind: &str, data: &impl Serialize) {
        *self.number += 1;
        event(&mut self.text, *self.number, kind, data);
    }
}

/// Writes one event.
fn event(text: &mut Vec<u8>, number: u64, kind: &str, data: &impl Serialize) {
    text.extend_from_slice(format!("id: {number}\nevent: {kind}\ndata: ").as_bytes());
    // JSON without spaces has no line breaks outside of strings, and inside they are escaped.
    serde_json::to_writer(&mut *text, data).expect("what is told is plain data");
    text.extend_from_slice(b"\n\n");
}

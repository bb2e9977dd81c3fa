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
use super::event_part::{BytesHeld, EventPart};
use super::pending::Pending;
use super::shared::Shared;
use tidegate::config::FleetSettings;

/// The interval of looks for changes of state.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// The interval at which figures are sent.
const FIGURES: Duration = Duration::from_secs(1);
/// The interval at which the summary is sent if nothing changes.
const QUIET: Duration = Duration::from_secs(15);
/// Batches that a client may be behind.
const BACKLOG: usize = 16;
/// Bytes of events that clients still read, at most, before a client gets another snapshot. All clients that come
/// between two batches share one.
const HELD_BYTES: usize = 256 << 20;
/// Drains of a snapshot.
const SNAPSHOT_DRAINS: usize = 200;
/// The time after which a client connects again, in milliseconds.
const RETRY_MS: u64 = 2_000;

/// The channel of batches of server-sent events.
#[derive(Debug)]
pub(crate) struct Hub {
    shared: Arc<Shared>,
    commands: bool,
    dead_letters: bool,
    sender: broadcast::Sender<Arc<EventPart>>,
    /// The snapshot since the last batch.
    snapshot: Mutex<Option<Arc<EventPart>>>,
    forward: Option<Arc<Pending>>,
    held: BytesHeld,
}

/// The content of the last batch.
struct Last {
    number: u64,
    at: Instant,
    broker: Broker,
}

impl Hub {
    /// Tells of `shared`; `settings` say whether commands are taken.
    pub(crate) fn new(
        shared: Arc<Shared>,
        settings: &FleetSettings,
        forward: Option<Arc<Pending>>,
    ) -> Self {
        let commands = settings.token.is_some();
        Self {
            shared,
            commands,
            dead_letters: commands && settings.dead_letters,
            sender: broadcast::Sender::new(BACKLOG),
            snapshot: Mutex::default(),
            forward,
            held: BytesHeld::default(),
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
            dead_letters: self.dead_letters,
            overview: self.shared.fleet().overview(now),
        }
    }

    /// The snapshot, and every batch after it; nothing if slow clients hold too much already.
    pub(crate) fn subscribe(
        &self,
    ) -> Option<(Arc<EventPart>, broadcast::Receiver<Arc<EventPart>>)> {
        let mut kept = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        let batches = self.sender.subscribe();
        // Clients that come at once share a snapshot: what changed since it was made is in the next batch.
        if let Some(snapshot) = &*kept {
            return Some((Arc::clone(snapshot), batches));
        }
        if self.held.count() > HELD_BYTES {
            return None;
        }
        let snapshot = Arc::new(EventPart::new(self.make_snapshot(), &self.held));
        *kept = Some(Arc::clone(&snapshot));
        Some((snapshot, batches))
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
        let part = EventPart::new(batch.text, &self.held);
        let _ = self.sender.send(Arc::new(part));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Limits;

    #[test]
    fn clients_that_do_not_read_hold_a_bounded_number_of_snapshots() {
        let shared = Arc::new(Shared::new(Limits::default()));
        let hub = Hub::new(shared, &FleetSettings::default(), None);
        let (first, _batches) = hub.subscribe().expect("nobody is slow");
        let again = hub.subscribe().expect("nobody is slow");
        assert!(Arc::ptr_eq(&first, &again.0), "they share it");
        let slow = EventPart::new(vec![0; HELD_BYTES], &hub.held).plain();
        assert!(hub.subscribe().is_some(), "it is made already");
        hub.tell(&mut 0);
        assert!(hub.subscribe().is_none());
        drop(slow);
        assert!(hub.subscribe().is_some());
    }
}

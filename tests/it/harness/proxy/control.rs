//! What the test and the proxy's connections share: the record, and the test's hands on the wire.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

use super::event::{Direction, Event, What};
use super::frames::Frame;

/// Events kept; a test that makes more should look at fewer.
const EVENT_LIMIT: usize = 1_000_000;
/// Frames that may wait to be injected into one connection.
const INJECTION_LIMIT: usize = 16;

type Predicate = Box<dyn Fn(&Event) -> bool + Send + Sync>;

/// Frames that match wait here.
pub(super) struct Gate {
    direction: Direction,
    predicate: Predicate,
    pub(super) caught: AtomicUsize,
    released: AtomicBool,
}

impl Gate {
    pub(super) fn is_released(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }
}

pub(super) struct Control {
    started: Instant,
    events: Mutex<Vec<Event>>,
    gates: Mutex<Vec<Arc<Gate>>>,
    injections: Mutex<HashMap<u32, mpsc::Sender<Frame>>>,
    /// Whether new connections are refused.
    pub(super) refusing: AtomicBool,
    /// Counts cuts.
    pub(super) cuts: watch::Sender<u64>,
    /// Counts released gates.
    pub(super) releases: watch::Sender<u64>,
    frozen_to_broker: watch::Sender<bool>,
    frozen_to_client: watch::Sender<bool>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A test that panics while it holds the lock leaves nothing half done in these lists.
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Control {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            events: Mutex::default(),
            gates: Mutex::default(),
            injections: Mutex::default(),
            refusing: AtomicBool::new(false),
            cuts: watch::Sender::new(0),
            releases: watch::Sender::new(0),
            frozen_to_broker: watch::Sender::new(false),
            frozen_to_client: watch::Sender::new(false),
        }
    }

    /// The event as it would be recorded now.
    pub(super) fn event(&self, connection: u32, channel: u16, what: What) -> Event {
        Event {
            seq: usize::MAX,
            at: self.started.elapsed(),
            connection,
            channel,
            what,
        }
    }

    pub(super) fn record(&self, mut event: Event) {
        let mut events = locked(&self.events);
        assert!(events.len() < EVENT_LIMIT, "the proxy's record is full");
        event.seq = events.len();
        event.at = self.started.elapsed();
        events.push(event);
    }

    pub(super) fn events(&self) -> Vec<Event> {
        locked(&self.events).clone()
    }

    /// Whether an event for which `wanted` holds is recorded.
    pub(super) fn find(&self, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        locked(&self.events)
            .iter()
            .find(|event| wanted(event))
            .cloned()
    }

    pub(super) fn frozen(&self, direction: Direction) -> &watch::Sender<bool> {
        match direction {
            Direction::ToBroker => &self.frozen_to_broker,
            Direction::ToClient => &self.frozen_to_client,
        }
    }

    pub(super) fn add_gate(&self, direction: Direction, predicate: Predicate) -> Arc<Gate> {
        let gate = Arc::new(Gate {
            direction,
            predicate,
            caught: AtomicUsize::new(0),
            released: AtomicBool::new(false),
        });
        locked(&self.gates).push(Arc::clone(&gate));
        gate
    }

    pub(super) fn release(&self, gate: &Gate) {
        gate.released.store(true, Ordering::SeqCst);
        locked(&self.gates).retain(|other| !other.is_released());
        self.releases.send_modify(|count| *count += 1);
    }

    /// The gate that stops `event`, if one does; it counts it as caught.
    pub(super) fn gate_for(&self, direction: Direction, event: &Event) -> Option<Arc<Gate>> {
        let gates = locked(&self.gates);
        let gate = gates
            .iter()
            .find(|gate| gate.direction == direction && (gate.predicate)(event))?;
        gate.caught.fetch_add(1, Ordering::SeqCst);
        Some(Arc::clone(gate))
    }

    pub(super) fn accept_injections(&self, connection: u32) -> mpsc::Receiver<Frame> {
        let (sender, receiver) = mpsc::channel(INJECTION_LIMIT);
        locked(&self.injections).insert(connection, sender);
        receiver
    }

    pub(super) fn refuse_injections(&self, connection: u32) {
        locked(&self.injections).remove(&connection);
    }

    /// Whether the connection is open, so that the frame goes out.
    pub(super) fn inject(&self, connection: u32, frame: Frame) -> bool {
        match locked(&self.injections).get(&connection) {
            None => false,
            Some(injections) => match injections.try_send(frame) {
                Ok(()) => true,
                Err(TrySendError::Closed(_)) => false,
                Err(TrySendError::Full(_)) => panic!("few frames are injected at a time"),
            },
        }
    }
}

//! The state that the parts of the fleet program share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::api::Broker;
use super::clock::{Clock, Moment};
use super::metrics::FleetMetrics;
use super::state::{Fleet, Limits};

/// The state of the fleet, and of the program's connection. Locks are held for as long as a change or a look
/// takes, and never across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    clock: Clock,
    fleet: Mutex<Fleet>,
    broker: Mutex<Broker>,
    /// What is counted.
    pub metrics: FleetMetrics,
}

impl Shared {
    /// An empty fleet.
    pub(crate) fn new(limits: Limits) -> Self {
        let clock = Clock::start();
        Self {
            fleet: Mutex::new(Fleet::new(limits, clock.now())),
            clock,
            broker: Mutex::default(),
            metrics: FleetMetrics::new(),
        }
    }

    /// The receipt clock's time.
    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    /// When the program started.
    pub(crate) fn started_at(&self) -> Moment {
        self.clock.started_at()
    }

    /// The fleet, for a moment.
    pub(crate) fn fleet(&self) -> MutexGuard<'_, Fleet> {
        self.fleet.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state of the connection.
    pub(crate) fn broker(&self) -> Broker {
        *self.locked_broker()
    }

    /// Changes what is known of the connection; whether that was a change.
    pub(crate) fn set_broker(&self, change: impl FnOnce(&mut Broker)) -> bool {
        let mut broker = self.locked_broker();
        let before = *broker;
        change(&mut broker);
        *broker != before
    }

    fn locked_broker(&self) -> MutexGuard<'_, Broker> {
        self.broker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! When a worker is to be heard from, and what it promises by that. Pure: it is told the load, the time and
//! random numbers, and says when the next beat is due.
//!
//! - The interval goes from `heartbeat.idle` at no load to `heartbeat.busy` at full load, in steps with
//!   hysteresis: a load that wobbles does not move it.
//! - Each beat is a promise: the next comes within one interval (±10 %), and the lease of three covers two that
//!   are lost. What changes afterwards can bring the next beat forward, never put it off: receivers go by the
//!   lease that they were given.
//! - A sudden change of load is told early, `heartbeat.busy` after the last message at the soonest.
//! - The fleet may ask for a slower cadence; it lapses by itself.
//! - [`end`](Heartbeat::end) is for good: a worker that drains does not beat.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::HeartbeatSettings;

#[cfg(test)]
mod tests;

/// Steps of the interval between no load and full load.
const STEPS: f64 = 4.0;
/// How far beyond the middle between two steps the load must go to move the interval.
const HYSTERESIS: f64 = 0.05;
/// A change of load of this much is told early.
const SUDDEN: f64 = 0.5;
/// An interval is this much shorter or longer at random, so that a fleet does not beat in step.
const JITTER: f64 = 0.1;
/// Intervals in a lease.
const LEASE: u32 = 3;

/// The heartbeat of one worker.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    busy: Duration,
    idle: Duration,
    /// The load of late.
    load: f64,
    /// The step that the interval is at.
    step: f64,
    kept: Option<Promise>,
    cadence: Option<Cadence>,
    ended: bool,
}

/// What a message promises: when the next one comes. It counts once the message was sent; see
/// [`Heartbeat::sent`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Promise {
    /// How long receivers may count on the sender.
    pub lease: Duration,
    at: Instant,
    next: Instant,
    /// What the interval was stretched by.
    stretch: f64,
    load: f64,
}

/// A limit set by the fleet.
#[derive(Debug, Clone, Copy)]
struct Cadence {
    interval: Duration,
    until: Instant,
}

impl Heartbeat {
    /// A heartbeat that has not begun: the first beat is due at once.
    pub fn new(settings: &HeartbeatSettings) -> Self {
        Self {
            busy: settings.busy,
            idle: settings.idle,
            load: 0.0,
            step: 0.0,
            kept: None,
            cadence: None,
            ended: false,
        }
    }

    /// Takes note of the load of late: the share of slots that were taken, from 0 to 1.
    pub fn observe(&mut self, load: f64) {
        self.load = load.clamp(0.0, 1.0);
        let steps = self.load * STEPS;
        if (steps - self.step).abs() > 0.5 + HYSTERESIS * STEPS {
            self.step = steps.round();
        }
    }

    /// The present interval, before jitter.
    pub fn interval(&self, now: Instant) -> Duration {
        let range = self.idle.saturating_sub(self.busy);
        let by_load = self.idle.saturating_sub(range.mul_f64(self.step / STEPS));
        // The shortest that jitter makes of it is the cadence.
        let slowest = self.floor(now).div_f64(1.0 - JITTER);
        by_load.max(slowest)
    }

    /// When the next beat is due; a time that has passed means now. Never again once ended.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let Some(kept) = &self.kept else {
            return Some(now);
        };
        let by_interval = kept.at + self.interval(now).mul_f64(kept.stretch);
        let due = kept.next.min(by_interval);
        if (self.load - kept.load).abs() < SUDDEN {
            return Some(due);
        }
        Some(due.min(kept.at + self.busy.max(self.floor(now))))
    }

    /// What a message made now promises. `unit` is a random number in `[0, 1)`.
    pub fn promise(&self, now: Instant, unit: f64) -> Promise {
        let interval = self.interval(now);
        let stretch = 1.0 + JITTER * (2.0 * unit.clamp(0.0, 1.0) - 1.0);
        Promise {
            lease: interval * LEASE,
            at: now,
            next: now + interval.mul_f64(stretch),
            stretch,
            load: self.load,
        }
    }

    /// The message that made `promise` was sent: it has been a beat.
    pub fn sent(&mut self, promise: Promise) {
        self.kept = Some(promise);
    }

    /// Nothing sent so far counts: a beat is due at once. For a new connection, and on request.
    pub fn renew(&mut self) {
        self.kept = None;
    }

    /// For `lasting` from now, beats keep at least `interval` apart; the newest limit stands. A beat that has been
    /// promised for sooner still comes, for its receivers count on it.
    pub fn limit(&mut self, interval: Duration, lasting: Duration, now: Instant) {
        let until = now + lasting;
        self.cadence = Some(Cadence { interval, until });
    }

    /// No beat is due any more, whatever happens.
    pub fn end(&mut self) {
        self.ended = true;
    }

    fn floor(&self, now: Instant) -> Duration {
        let cadence = self.cadence.filter(|cadence| now < cadence.until);
        cadence.map_or(Duration::ZERO, |cadence| cadence.interval)
    }
}

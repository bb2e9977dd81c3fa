//! When a worker sends its next beat, and for how long it promises to be heard from again. Pure: it is told the
//! load, the time, the paces that others request and random numbers.
//!
//! - A worker's own interval moves from `heartbeat.idle` at no load to `heartbeat.busy` at full load. The load is
//!   averaged over half a minute and followed in steps with hysteresis, so that swings do not move the interval.
//! - Others may request a pace for a while: a fleet program does so while somebody looks at it. The fastest
//!   requested pace replaces the worker's own interval. A request ends by itself.
//! - Each beat is a promise: the next one comes within one interval (±10 %), and the lease of three intervals
//!   covers two beats that are lost. Later events can bring the next beat forward, never put it off, because
//!   receivers rely on the lease that they were given.
//! - A sudden change of the load brings the next beat forward, to `heartbeat.busy` after the last message at the
//!   earliest.
//! - [`end`](Heartbeat::end) is final: a worker that drains does not beat.

mod requests;

use std::time::Duration;

use tokio::time::Instant;

use crate::config::HeartbeatSettings;
use requests::PaceRequests;

pub use requests::FASTEST_PACE;

#[cfg(test)]
mod tests;

/// Steps of the interval between no load and full load.
const STEPS: f64 = 10.0;
/// The load leaves a step when it is this far from it, in steps.
const HYSTERESIS: f64 = 0.75;
/// The load is averaged over about this time.
const SMOOTHING: Duration = Duration::from_secs(30);
/// A change of the averaged load by this much brings the next beat forward.
const SUDDEN: f64 = 0.5;
/// An interval is this much shorter or longer at random, so that a fleet does not beat in step.
const JITTER: f64 = 0.1;
/// Intervals in a lease.
pub const LEASE_INTERVALS: u32 = 3;

/// The heartbeat of one worker.
#[derive(Debug, Clone)]
pub struct Heartbeat {
    busy: Duration,
    idle: Duration,
    /// The averaged load, and when it was last observed.
    load: f64,
    observed: Option<Instant>,
    /// The step of the interval.
    step: f64,
    kept: Option<Promise>,
    requests: PaceRequests,
    ended: bool,
}

/// What a message promises: when the next one comes. It counts once the message was sent; see
/// [`Heartbeat::sent`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Promise {
    /// The time for which receivers may count on the sender.
    pub lease: Duration,
    at: Instant,
    next: Instant,
    /// The random factor of the interval.
    stretch: f64,
    load: f64,
}

impl Heartbeat {
    /// A heartbeat that has not begun: the first beat is due at once.
    pub fn new(settings: &HeartbeatSettings) -> Self {
        Self {
            busy: settings.busy,
            idle: settings.idle,
            load: 0.0,
            observed: None,
            step: 0.0,
            kept: None,
            requests: PaceRequests::default(),
            ended: false,
        }
    }

    /// Takes note of the load since it was last observed: the share of slots that were taken, from 0 to 1.
    pub fn observe(&mut self, load: f64, now: Instant) {
        let load = load.clamp(0.0, 1.0);
        let weight = self.observed.map_or(1.0, |before| {
            let passed = now.saturating_duration_since(before);
            1.0 - (-passed.as_secs_f64() / SMOOTHING.as_secs_f64()).exp()
        });
        self.observed = Some(now);
        self.load += weight * (load - self.load);
        let steps = self.load * STEPS;
        if (steps - self.step).abs() > HYSTERESIS {
            self.step = steps.round();
        }
    }

    /// The present interval, before jitter: the fastest requested pace, or else the worker's own.
    pub fn interval(&self, now: Instant) -> Duration {
        self.requests.fastest(now).unwrap_or_else(|| self.own())
    }

    /// The interval at which the worker beats by itself.
    fn own(&self) -> Duration {
        let range = self.idle.saturating_sub(self.busy);
        self.idle.saturating_sub(range.mul_f64(self.step / STEPS))
    }

    /// When the next beat is due; a time that has passed means now. Never again once ended.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let Some(kept) = &self.kept else {
            return Some(now);
        };
        if let Some(requested) = self.requests.due(kept.at, kept.stretch, now) {
            return Some(kept.next.min(requested));
        }
        let due = kept.next.min(kept.at + self.own().mul_f64(kept.stretch));
        if (self.load - kept.load).abs() < SUDDEN {
            return Some(due);
        }
        Some(due.min(kept.at + self.busy))
    }

    /// The promise of a message that is made now. `unit` is a random number in `[0, 1)`.
    pub fn promise(&self, now: Instant, unit: f64) -> Promise {
        let interval = self.interval(now);
        let stretch = 1.0 + JITTER * (2.0 * unit.clamp(0.0, 1.0) - 1.0);
        Promise {
            lease: interval * LEASE_INTERVALS,
            at: now,
            next: now + interval.mul_f64(stretch),
            stretch,
            load: self.load,
        }
    }

    /// The message that made `promise` was sent: it counts as a beat.
    pub fn sent(&mut self, promise: Promise) {
        self.kept = Some(promise);
    }

    /// Nothing sent so far counts: a beat is due at once. For a new connection.
    pub fn renew(&mut self) {
        self.kept = None;
    }

    /// `by` requests a beat every `interval` for `lasting` from now, in place of its request before; 0 ends it.
    /// A beat that was promised for an earlier moment still comes. `unit` is a random number in `[0, 1)`.
    ///
    /// Returns whether `by` is a new requester: it may not know the last full beat.
    pub fn request(
        &mut self,
        by: &str,
        interval: Duration,
        lasting: Duration,
        now: Instant,
        unit: f64,
    ) -> bool {
        self.requests.put(by, (interval, lasting), now, unit)
    }

    /// No beat is due any more, whatever happens.
    pub fn end(&mut self) {
        self.ended = true;
    }
}

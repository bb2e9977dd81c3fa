//! One node of a worker: what its worker's last state says of it, and what beats do.

use std::sync::Arc;
use std::time::Duration;

use super::super::clock::Moment;
use super::text::{NAME_LIMIT, REASON_LIMIT, Texts};
use tidegate::internal::status::wire::{BeatNode, StateNode};
use tidegate::lifecycle::Phase;

/// After this time what ended counts half.
const HALF_LIFE: Duration = Duration::from_secs(120);
/// Delays of retries kept of one node.
const DELAYS_LIMIT: usize = 8;
/// Shortest time between two beats that a rate is made of, in milliseconds.
const RATE_SPAN_MS: i64 = 100;

/// One node.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub queue: Arc<str>,
    /// The node in the last state; nothing if the state does not name it.
    pub role: Option<Role>,
    /// The newest beat that names the node.
    pub seq: u64,
    pub counts: Counts,
    pub busy: Busy,
    /// What a full beat said, which holds where a later beat leaves the node out, and which it was.
    full: Busy,
    full_seq: u64,
    pub rate: f32,
    pub recent: Recent,
}

/// What ended lately, done and failed. It counts half after each [`HALF_LIFE`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Recent {
    done: f32,
    failed: f32,
    at: Option<Moment>,
}

/// What a state says of a node.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Role {
    pub title: Option<Arc<str>>,
    pub note: Option<Arc<str>>,
    pub kind: Option<Arc<str>>,
    pub handler: Arc<str>,
    pub slots: u32,
    pub prefetch: u16,
    /// The delays of its retries, in milliseconds.
    pub retry_ms: Box<[u64]>,
    pub phase: Phase,
}

/// Counters since the worker's start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub done: u64,
    pub retried: u64,
    pub dead: u64,
    pub handed_back: u64,
    pub interrupted: u64,
}

/// What runs, and what is on hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Busy {
    pub in_flight: u32,
    pub held: u32,
    pub oldest_ms: u64,
}

/// A beat, as far as it matters to a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct BeatAt {
    pub seq: u64,
    pub full: bool,
    /// When it was sent, and the beat before it, by the sender's clock.
    pub sent: Moment,
    pub before: Option<Moment>,
    /// When it came, by our clock.
    pub received: Moment,
}

impl Node {
    pub(super) fn new(queue: Arc<str>) -> Self {
        Self {
            queue,
            role: None,
            seq: 0,
            counts: Counts::default(),
            busy: Busy::default(),
            full: Busy::default(),
            full_seq: 0,
            rate: 0.0,
            recent: Recent::default(),
        }
    }

    /// Bytes that a node takes of its worker's memory, with its texts as if no other node had them.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.role.as_ref().map_or(0, Role::bytes);
        size_of::<Self>() + self.queue.len() + texts
    }

    /// The same of a node that a state names.
    pub(super) fn bytes_of(node: &StateNode) -> usize {
        let optional = |text: &Option<String>, limit: usize| {
            text.as_ref().map_or(0, |text| text.len().min(limit))
        };
        Self::bytes_named(&node.queue)
            + optional(&node.title, NAME_LIMIT)
            + optional(&node.note, REASON_LIMIT)
            + optional(&node.kind, NAME_LIMIT)
            + node.handler.len().min(NAME_LIMIT)
    }

    /// The same of a node of which only the queue is known.
    pub(super) fn bytes_named(queue: &str) -> usize {
        size_of::<Self>() + queue.len().min(NAME_LIMIT)
    }

    pub(super) fn beat(&mut self, node: &BeatNode, beat: BeatAt) {
        let busy = Busy {
            in_flight: clamped(node.in_flight),
            held: clamped(node.held),
            oldest_ms: node.oldest_ms,
        };
        if beat.full && beat.seq > self.full_seq {
            self.full = busy;
            self.full_seq = beat.seq;
        }
        if beat.seq <= self.seq {
            return;
        }
        // Between the beat before this one and this one; a node left out there had done no more since.
        if let Some(before) = beat.before
            && self.seq > 0
        {
            let ms = beat.sent.ms().saturating_sub(before.ms());
            if ms >= RATE_SPAN_MS {
                let done = node.done.saturating_sub(self.counts.done);
                self.rate = per_second(done, ms);
                let failed = node.retried.saturating_sub(self.counts.retried)
                    + node.dead.saturating_sub(self.counts.dead);
                self.recent.add(done, failed, beat.received);
            }
        }
        self.seq = beat.seq;
        self.busy = busy;
        self.counts = Counts {
            done: node.done,
            retried: node.retried,
            dead: node.dead,
            handed_back: node.handed_back,
            interrupted: node.interrupted,
        };
    }

    /// What runs, as of the worker's newest beat and its newest full one.
    pub(super) fn busy_at(&self, newest: u64, newest_full: u64) -> Busy {
        if self.seq == newest {
            self.busy
        } else if self.full_seq == newest_full {
            self.full
        } else {
            Busy::default()
        }
    }

    /// What is done per second, as of the worker's newest beat: a node that it leaves out does nothing.
    pub(super) fn rate_at(&self, newest: u64) -> f32 {
        if self.seq == newest { self.rate } else { 0.0 }
    }
}

impl Recent {
    fn add(&mut self, done: u64, failed: u64, at: Moment) {
        let (kept_done, kept_failed) = self.kept(at);
        *self = Self {
            done: kept_done + as_f32(done),
            failed: kept_failed + as_f32(failed),
            at: Some(at),
        };
    }

    fn kept(&self, now: Moment) -> (f32, f32) {
        let age = self.at.map_or(Duration::ZERO, |at| now.since(at));
        let kept = (-age.as_secs_f32() / HALF_LIFE.as_secs_f32()).exp2();
        (self.done * kept, self.failed * kept)
    }

    /// The share that failed; nothing if hardly anything ended lately.
    pub(super) fn failing(&self, now: Moment) -> Option<f64> {
        let (done, failed) = self.kept(now);
        let ended = done + failed;
        (ended >= 0.5).then(|| f64::from(failed / ended))
    }
}

impl Role {
    fn bytes(&self) -> usize {
        let optional = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        optional(&self.title) + optional(&self.note) + optional(&self.kind) + self.handler.len()
    }

    pub(super) fn of(node: &StateNode, texts: &mut Texts) -> Self {
        let mut kept = |text: &Option<String>, limit| {
            let text = text.as_deref();
            text.map(|text| texts.keep(text, limit))
        };
        Self {
            title: kept(&node.title, NAME_LIMIT),
            note: kept(&node.note, REASON_LIMIT),
            kind: kept(&node.kind, NAME_LIMIT),
            handler: texts.keep(&node.handler, NAME_LIMIT),
            slots: clamped(node.slots),
            prefetch: node.prefetch,
            retry_ms: node.retry_ms.iter().copied().take(DELAYS_LIMIT).collect(),
            phase: node.phase,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share needs two digits")]
fn as_f32(count: u64) -> f32 {
    count as f32
}

fn clamped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a rate is shown to two digits"
)]
fn per_second(count: u64, ms: i64) -> f32 {
    (count as f64 * 1_000.0 / ms as f64) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_that_fails_is_that_of_the_last_minutes() {
        let at = |s: i64| Moment::from_ms(s * 1_000);
        let mut recent = Recent::default();
        assert_eq!(recent.failing(at(0)), None);
        recent.add(6, 2, at(0));
        assert_eq!(recent.failing(at(10)), Some(0.25));
        recent.add(4, 3, at(120));
        // Of 8 there are 4 left.
        let failing = recent.failing(at(120)).unwrap();
        assert!((failing - 4.0 / 11.0).abs() < 1e-5, "{failing}");
        assert_eq!(recent.failing(at(3_600)), None, "that is long ago");
    }
}

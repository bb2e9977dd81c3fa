//! The schedule of workers, and events that happen by chance. Pure.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tokio::time::Instant;

/// When each member is to be looked at; a member may stand in it more than once.
#[derive(Debug, Default)]
pub(crate) struct Schedule(BinaryHeap<Reverse<(Instant, usize)>>);

impl Schedule {
    /// `SimulatedWorker` `number` is to be looked at, at `at`.
    pub(crate) fn add(&mut self, at: Instant, number: usize) {
        self.0.push(Reverse((at, number)));
    }

    /// When the next is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.peek().map(|Reverse((at, _))| *at)
    }

    /// One that is due, and since when.
    pub(crate) fn take(&mut self, now: Instant) -> Option<(Instant, usize)> {
        let Reverse((at, _)) = self.0.peek()?;
        if *at > now {
            return None;
        }
        self.0.pop().map(|Reverse(due)| due)
    }
}

/// Something that happens at random, so many times a minute on average.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chance {
    per_minute: f64,
    next: Option<Instant>,
}

impl Chance {
    /// It begins at `now`; `unit` is a random number in `[0, 1)`. It never happens at a rate of 0.
    pub(crate) fn new(per_minute: f64, now: Instant, unit: f64) -> Self {
        let mut chance = Self {
            per_minute,
            next: None,
        };
        chance.set(now, unit);
        chance
    }

    /// When it happens next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether it happens now; then the next time is decided, by the random number `unit`.
    pub(crate) fn happens(&mut self, now: Instant, unit: f64) -> bool {
        let happens = self.next.is_some_and(|next| next <= now);
        if happens {
            self.set(now, unit);
        }
        happens
    }

    fn set(&mut self, now: Instant, unit: f64) {
        if self.per_minute <= 0.0 {
            self.next = None;
            return;
        }
        // Times between independent events are distributed exponentially.
        let minutes = -(1.0 - unit.clamp(0.0, 0.999_999)).ln() / self.per_minute;
        self.next = Some(now + Duration::from_secs_f64((minutes * 60.0).min(86_400.0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_none_before_its_time() {
        let now = Instant::now();
        let mut schedule = Schedule::default();
        schedule.add(now + Duration::from_secs(2), 2);
        schedule.add(now + Duration::from_secs(1), 1);
        assert_eq!(schedule.take(now), None);
        let later = now + Duration::from_secs(3);
        let order: Vec<_> = std::iter::from_fn(|| schedule.take(later)).collect();
        assert_eq!(
            order,
            [
                (now + Duration::from_secs(1), 1),
                (now + Duration::from_secs(2), 2)
            ]
        );
    }

    #[test]
    fn chance_keeps_its_rate() {
        let begin = Instant::now();
        let units = (0..1000).map(|n| (f64::from(n) * 0.618_034).fract());
        let mut chance = Chance::new(30.0, begin, 0.5);
        let mut now = begin;
        for unit in units {
            now = chance.next().unwrap();
            assert!(chance.happens(now, unit));
        }
        let seconds = (now - begin).as_secs_f64();
        assert!((1800.0..2200.0).contains(&seconds), "{seconds}");
        assert_eq!(Chance::new(0.0, begin, 0.5).next(), None);
    }
}

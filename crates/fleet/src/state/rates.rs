//! The rate of status messages over the last minute.

use super::super::clock::Moment;
use super::message::Message;

/// Seconds looked back on.
const WINDOW: usize = 60;

/// Messages by the second that they came in.
#[derive(Debug)]
pub(super) struct Rates {
    begun: Moment,
    /// The second that the newest bucket is of.
    newest: i64,
    beats: [u32; WINDOW],
    states: [u32; WINDOW],
}

impl Rates {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            begun: now,
            newest: second(now),
            beats: [0; WINDOW],
            states: [0; WINDOW],
        }
    }

    pub(super) fn count(&mut self, message: &Message, now: Moment) {
        self.advance(now);
        let bucket = bucket(self.newest);
        match message {
            Message::Beat(_) => self.beats[bucket] += 1,
            Message::State(_) | Message::Drain(_) => self.states[bucket] += 1,
        }
    }

    /// Beats and states per second.
    pub(super) fn per_second(&mut self, now: Moment) -> (f64, f64) {
        self.advance(now);
        let window = u32::try_from(WINDOW).expect("a minute is short");
        let span = now.since(self.begun).as_secs_f64();
        let span = span.clamp(1.0, f64::from(window));
        let sum = |buckets: &[u32]| buckets.iter().map(|count| f64::from(*count)).sum::<f64>();
        (sum(&self.beats) / span, sum(&self.states) / span)
    }

    fn advance(&mut self, now: Moment) {
        let passed = second(now).saturating_sub(self.newest);
        let window = i64::try_from(WINDOW).expect("a minute is short");
        for step in 1..=passed.min(window) {
            let bucket = bucket(self.newest + step);
            self.beats[bucket] = 0;
            self.states[bucket] = 0;
        }
        self.newest = self.newest.max(second(now));
    }
}

fn second(now: Moment) -> i64 {
    now.ms().div_euclid(1_000)
}

fn bucket(second: i64) -> usize {
    let window = i64::try_from(WINDOW).expect("a minute is short");
    usize::try_from(second.rem_euclid(window)).expect("a remainder is not negative")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::messages::{beat, running};

    #[test]
    fn rates_are_those_of_the_last_minute_or_of_the_time_since_the_start() {
        let start = Moment::from_ms(1_000_000);
        let mut rates = Rates::new(start);
        let at = |s: i64| start.shifted(s * 1_000);
        for s in 0..10 {
            rates.count(&beat("w-1", 1), at(s));
            rates.count(&beat("w-1", 1), at(s));
        }
        rates.count(&running("w-1", 1), at(9));
        let (beats, states) = rates.per_second(at(10));
        assert!((beats - 2.0).abs() < 1e-9, "{beats}");
        assert!((states - 0.1).abs() < 1e-9, "{states}");
        assert!((rates.per_second(at(65)).0 - 8.0 / 60.0).abs() < 1e-9);
        assert!(rates.per_second(at(1_000_000)).0.abs() < 1e-9);
    }
}

//! How many messages come to a queue, from its depth and from what left it. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Moment;

/// The time over which the rate is taken.
const WINDOW: Duration = Duration::from_secs(10);
/// The least time that says anything.
const LEAST: Duration = Duration::from_secs(3);
/// Looks kept.
const LOOKS_LIMIT: usize = 16;

/// What was seen of a queue at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub at: Moment,
    /// Messages that wait.
    pub ready: u64,
    /// Deliveries that run.
    pub running: u64,
    /// Deliveries that ended so far.
    pub ended: u64,
}

/// The last looks at one queue.
#[derive(Debug, Default)]
pub(super) struct Inflow(VecDeque<Level>);

impl Inflow {
    pub(super) fn saw(&mut self, level: Level) {
        self.0.push_back(level);
        while self.0.len() > LOOKS_LIMIT
            || self
                .0
                .get(1)
                .is_some_and(|second| level.at.since(second.at) >= WINDOW)
        {
            self.0.pop_front();
        }
    }

    /// Messages that came per second; nothing until enough time has passed between looks.
    pub(super) fn per_second(&self) -> Option<f64> {
        let (first, last) = (self.0.front()?, self.0.back()?);
        let span = last.at.since(first.at);
        if span < LEAST {
            return None;
        }
        let sum = |level: &Level| {
            i128::from(level.ready) + i128::from(level.running) + i128::from(level.ended)
        };
        // Beats are a moment older than looks, so that little may seem to be less than nothing.
        let came = (sum(last) - sum(first)).max(0);
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate is shown to three digits"
        )]
        let came = came as f64;
        Some(came / span.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(s: i64, ready: u64, running: u64, ended: u64) -> Level {
        Level {
            at: Moment::from_ms(s * 1_000),
            ready,
            running,
            ended,
        }
    }

    fn rate(levels: &[Level]) -> Option<f64> {
        let mut inflow = Inflow::default();
        for level in levels {
            inflow.saw(*level);
        }
        inflow.per_second()
    }

    #[test]
    fn what_came_is_what_is_more_and_what_left() {
        assert_eq!(rate(&[]), None);
        assert_eq!(rate(&[level(0, 5, 0, 0), level(2, 9, 0, 0)]), None);
        assert_eq!(rate(&[level(0, 5, 0, 0), level(4, 9, 0, 0)]), Some(1.0));
        assert_eq!(rate(&[level(0, 5, 2, 10), level(4, 1, 4, 20)]), Some(2.0));
        let falling = [level(0, 50, 4, 0), level(4, 40, 4, 9)];
        assert_eq!(rate(&falling), Some(0.0));
    }

    #[test]
    fn only_the_last_ten_seconds_count() {
        let levels: Vec<Level> = (0..30)
            .map(|s| level(s * 2, 0, 0, if s < 20 { 0 } else { 100 }))
            .collect();
        assert_eq!(rate(&levels), Some(0.0), "the burst is 20 s ago");
        let mut inflow = Inflow::default();
        for s in 0..1_000 {
            inflow.saw(level(0, s, 0, 0));
        }
        assert!(inflow.0.len() <= LOOKS_LIMIT);
    }
}

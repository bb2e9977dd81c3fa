//! When the next message is due, at a given rate. Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

/// A run that falls behind by at most this catches up. It does not make up for a longer delay: a broker that has
/// stalled must not be flooded.
const CATCH_UP: Duration = Duration::from_millis(100);

/// An even pace.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    interval: Duration,
    due: Option<Instant>,
}

impl Pace {
    /// `per_second` messages a second; it must be positive and finite.
    pub(crate) fn new(per_second: f64) -> Self {
        let interval = Duration::try_from_secs_f64(per_second.recip()).unwrap_or(Duration::MAX);
        Self {
            interval,
            due: None,
        }
    }

    /// When the next message may be sent. It counts as sent then. The first message may be sent at once.
    pub(crate) fn next(&mut self, now: Instant) -> Instant {
        let due = match self.due {
            None => now,
            Some(due) => due.max(now.checked_sub(CATCH_UP).unwrap_or(now)),
        };
        self.due = due.checked_add(self.interval).or(self.due);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_even_intervals() {
        let start = Instant::now();
        let mut pace = Pace::new(4.0);
        let due: Vec<_> = (0..3).map(|_| pace.next(start) - start).collect();
        assert_eq!(due, [0, 250, 500].map(Duration::from_millis));
    }

    #[test]
    fn a_short_delay_is_caught_up_and_a_long_one_is_not() {
        let start = Instant::now();
        let mut pace = Pace::new(1000.0);
        pace.next(start);
        let late = start + Duration::from_millis(50);
        assert!((0..50).all(|_| pace.next(late) <= late));
        assert!(pace.next(late) > late);
        let stalled = start + Duration::from_mins(1);
        let burst = (0..1000).take_while(|_| pace.next(stalled) <= stalled);
        assert_eq!(burst.count(), 101);
    }
}

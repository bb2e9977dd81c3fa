//! Paces that others have requested, each for a while. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// Requesters at a time. Beyond it the request that ends first makes room.
const REQUESTERS_LIMIT: usize = 16;
/// No request makes a worker beat faster than this.
pub const FASTEST_PACE: Duration = Duration::from_millis(500);

/// The paces requested of one worker.
#[derive(Debug, Clone, Default)]
pub(super) struct PaceRequests(Vec<PaceRequest>);

#[derive(Debug, Clone)]
struct PaceRequest {
    by: String,
    interval: Duration,
    until: Instant,
    /// The earliest moment of the first beat for this request.
    first: Instant,
}

impl PaceRequests {
    /// Replaces the request of `by`. Returns whether `by` had none that still lasts.
    ///
    /// `unit` is a random number in `[0, 1)`. It spreads the first beats of a fleet over one interval, when one
    /// request to all workers makes them faster.
    pub(super) fn put(
        &mut self,
        by: &str,
        (interval, lasting): (Duration, Duration),
        now: Instant,
        unit: f64,
    ) -> bool {
        self.0.retain(|request| request.until > now);
        let before = self.0.iter().position(|request| request.by == by);
        let before = before.map(|place| self.0.swap_remove(place));
        let is_new = before.is_none();
        if lasting.is_zero() {
            return is_new;
        }
        if self.0.len() >= REQUESTERS_LIMIT {
            let ends = |place: &usize| self.0[*place].until;
            let earliest = (0..self.0.len()).min_by_key(ends);
            earliest.map(|place| self.0.swap_remove(place));
        }
        let interval = interval.max(FASTEST_PACE);
        let first = match before {
            Some(before) if before.interval <= interval => before.first,
            _ => now + interval.mul_f64(unit.clamp(0.0, 1.0)),
        };
        self.0.push(PaceRequest {
            by: by.to_owned(),
            interval,
            until: now + lasting,
            first,
        });
        is_new
    }

    /// The fastest pace that is requested now.
    pub(super) fn fastest(&self, now: Instant) -> Option<Duration> {
        self.lasting(now).map(|request| request.interval).min()
    }

    /// When the beat after one at `last` is due, whose interval is stretched by `stretch`.
    pub(super) fn due(&self, last: Instant, stretch: f64, now: Instant) -> Option<Instant> {
        let due =
            |request: &PaceRequest| (last + request.interval.mul_f64(stretch)).max(request.first);
        self.lasting(now).map(due).min()
    }

    fn lasting(&self, now: Instant) -> impl Iterator<Item = &PaceRequest> {
        self.0.iter().filter(move |request| request.until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_requester_has_one_request_and_the_fastest_counts() {
        let now = Instant::now();
        let mut requests = PaceRequests::default();
        assert!(requests.put("one", (seconds(2), MINUTE), now, 0.0));
        assert!(requests.put("two", (seconds(5), MINUTE * 2), now, 0.0));
        assert_eq!(requests.fastest(now), Some(seconds(2)));
        assert!(!requests.put("one", (seconds(9), MINUTE), now, 0.0));
        assert_eq!(
            requests.fastest(now),
            Some(seconds(5)),
            "one has replaced its own"
        );
        assert!(!requests.put("two", (seconds(1), Duration::ZERO), now, 0.0));
        assert_eq!(
            requests.fastest(now),
            Some(seconds(9)),
            "two has ended its own"
        );
        assert_eq!(
            requests.fastest(now + MINUTE),
            None,
            "a request ends by itself"
        );
        assert!(
            requests.put("one", (seconds(9), MINUTE), now + MINUTE, 0.0),
            "it is new again"
        );
    }

    #[test]
    fn requests_are_bounded_in_number_and_in_pace() {
        let now = Instant::now();
        let mut requests = PaceRequests::default();
        for requester in 0..100_u64 {
            let lasting = MINUTE + seconds(requester);
            requests.put(&requester.to_string(), (Duration::ZERO, lasting), now, 0.0);
        }
        assert_eq!(requests.0.len(), REQUESTERS_LIMIT);
        assert_eq!(requests.fastest(now), Some(FASTEST_PACE));
    }

    #[test]
    fn the_first_beat_for_a_request_comes_at_random_within_its_interval() {
        let now = Instant::now();
        let long_ago = now
            .checked_sub(MINUTE)
            .expect("the machine has run for a minute");
        let mut requests = PaceRequests::default();
        requests.put("fleet", (seconds(20), MINUTE), now, 0.25);
        assert_eq!(requests.due(long_ago, 1.0, now), Some(now + seconds(5)));
        requests.put("fleet", (seconds(20), MINUTE), now + seconds(4), 0.75);
        assert_eq!(
            requests.due(long_ago, 1.0, now),
            Some(now + seconds(5)),
            "a renewal does not put it off"
        );
        requests.put("fleet", (seconds(2), MINUTE), now + seconds(4), 0.0);
        assert_eq!(
            requests.due(long_ago, 1.0, now),
            Some(now + seconds(4)),
            "a faster pace begins at once"
        );
        let last = now + seconds(4);
        assert_eq!(
            requests.due(last, 1.1, now),
            Some(last + seconds(2).mul_f64(1.1))
        );
    }
}

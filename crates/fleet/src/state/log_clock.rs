//! The time of the log. A message in it came after all messages before it, so their senders' clocks together say when it
//! came at the earliest, although its own sender's clock may be wrong. Pure.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Origin;
use crate::clock::Moment;

/// Workers whose last messages are kept.
const WITNESSES: usize = 5;
/// The fewest that say anything: one wrong clock among them does not count.
const WITNESSES_NEEDED: usize = 3;

/// The last messages of different workers, oldest first.
#[derive(Debug, Default)]
pub(super) struct LogClock(VecDeque<(Arc<str>, Moment)>);

impl LogClock {
    /// A message of `worker` has come that was `sent`, by its own clock. Returns after what time it came; nothing if that is
    /// not known or not needed, because it came just now.
    pub(super) fn take(
        &mut self,
        worker: &Arc<str>,
        sent: &str,
        origin: Origin,
        now: Moment,
    ) -> Option<Moment> {
        let (sent, after) = match origin {
            Origin::Live => (now, None),
            Origin::Log => (
                Moment::parse(sent)?.min(now),
                self.before_message_of(worker),
            ),
        };
        self.saw(worker, sent);
        after
    }

    fn saw(&mut self, worker: &Arc<str>, at: Moment) {
        self.0.retain(|(known, _)| known != worker);
        if self.0.len() == WITNESSES {
            self.0.pop_front();
        }
        self.0.push_back((Arc::clone(worker), at));
    }

    /// The median of what the others say; nothing if they are too few.
    fn before_message_of(&self, worker: &str) -> Option<Moment> {
        let others = self.0.iter().filter(|(known, _)| **known != *worker);
        let mut times: Vec<Moment> = others.map(|(_, at)| *at).collect();
        times.sort_unstable();
        let median = times.len().saturating_sub(1) / 2;
        times
            .get(median)
            .copied()
            .filter(|_| times.len() >= WITNESSES_NEEDED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::messages::{at, drained, running, sent_at};
    use crate::state::{Fleet, Limits, Message};

    fn running_at(worker: &str, ms: i64) -> Message {
        sent_at(running(worker, 1), ms)
    }

    fn drained_at(worker: &str, ms: i64) -> Message {
        sent_at(drained(worker, 2), ms)
    }

    /// What a program that starts at `ms` makes of this log: when each worker's drain ended.
    fn drains(log: Vec<Message>, ms: i64) -> Vec<(Arc<str>, Moment)> {
        let mut fleet = Fleet::new(Limits::default(), at(ms));
        for message in log {
            fleet.apply(message, Origin::Log, at(ms));
        }
        let drains = fleet.drains(9, None).drains.into_iter();
        drains.map(|each| (each.worker, each.drain.at)).collect()
    }

    fn neighbours(ms: i64) -> Vec<Message> {
        ["a", "b", "c"].map(|id| running_at(id, ms)).into()
    }

    #[test]
    fn a_drain_is_not_placed_before_what_the_log_had_before_it() {
        let mut log = neighbours(1_000_000);
        log.push(running_at("slow", 1_001_000 - 600_000));
        log.extend(["a", "b", "c"].map(|id| drained_at(id, 1_100_000)));
        log.push(drained_at("slow", 1_101_000 - 600_000));
        let found = drains(log, 9_000_000);
        assert_eq!(found.len(), 4);
        assert!(found.contains(&("slow".into(), at(1_100_000))), "{found:?}");
        assert!(found.contains(&("a".into(), at(1_100_000))), "{found:?}");
    }

    #[test]
    fn one_wrong_clock_moves_nobody_else_and_small_differences_move_nobody() {
        let mut log = neighbours(1_000_000);
        log.push(running_at("fast", 4_600_000));
        for (id, ms) in [("a", 1_100_000), ("b", 1_099_000), ("c", 1_098_000)] {
            log.push(drained_at(id, ms));
        }
        let found = drains(log, 9_000_000);
        let expected = [("a", 1_100_000), ("b", 1_099_000), ("c", 1_098_000)];
        assert_eq!(found, expected.map(|(id, ms)| (id.into(), at(ms))));
    }

    #[test]
    fn too_few_witnesses_say_nothing() {
        let mut clock = LogClock::default();
        for (id, ms) in [("a", 1), ("b", 2), ("b", 3)] {
            clock.saw(&id.into(), at(ms));
        }
        assert_eq!(clock.before_message_of("w"), None);
        clock.saw(&"c".into(), at(9));
        assert_eq!(clock.before_message_of("w"), Some(at(3)));
        assert_eq!(clock.before_message_of("c"), None);
    }
}

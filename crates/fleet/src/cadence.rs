//! How fast a large fleet may beat: an interval that keeps all its beats together below a target. Pure.

use std::sync::Arc;
use std::time::Duration;

use super::clock::Moment;
use tidegate::internal::status::control::Command;
use tidegate::internal::status::wire::millis;

/// A shorter interval than this is nobody's: nothing is said.
const SHORTEST: Duration = Duration::from_secs(1);
/// The longest interval asked for.
const LONGEST: Duration = Duration::from_mins(15);
/// How long it holds; then workers beat as they would.
const HOLDS: Duration = Duration::from_mins(10);
/// It is said again after so long, before it lapses.
const RENEWED: Duration = Duration::from_mins(4);
/// It is said at most so often to all.
const PATIENCE: Duration = Duration::from_secs(5);
/// A fleet that grew or shrank by this share is told another interval.
const TOLERANCE: f64 = 0.2;

/// What to tell whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tell {
    /// The worker; nothing for all.
    pub worker: Option<Arc<str>>,
    pub command: Command,
}

/// The cadence of a fleet.
#[derive(Debug)]
pub(super) struct Cadence {
    beats_per_second: f64,
    told: Option<Told>,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    at: Moment,
    interval: Duration,
}

impl Cadence {
    /// All beats together are to be at most so many per second.
    pub(super) fn new(beats_per_second: u32) -> Self {
        Self {
            beats_per_second: beats_per_second.into(),
            told: None,
        }
    }

    /// The connection is new: nobody is known to have been told.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }

    /// What to tell now, where `living` workers beat, `fresh` of which are new.
    pub(super) fn due(&mut self, living: usize, fresh: &[Arc<str>], now: Moment) -> Vec<Tell> {
        let living = u32::try_from(living).unwrap_or(u32::MAX);
        let floor = Duration::from_secs_f64(f64::from(living) / self.beats_per_second);
        let floor = floor.min(LONGEST);
        if floor < SHORTEST {
            // What was said lapses by itself.
            self.told = self.told.filter(|told| now.since(told.at) < HOLDS);
            return Vec::new();
        }
        match self.told {
            Some(told) if holds(told, floor, now) => fresh
                .iter()
                .map(|worker| Tell {
                    worker: Some(Arc::clone(worker)),
                    command: command(told.interval),
                })
                .collect(),
            _ => {
                self.told = Some(Told {
                    at: now,
                    interval: floor,
                });
                vec![Tell {
                    worker: None,
                    command: command(floor),
                }]
            }
        }
    }
}

fn holds(told: Told, floor: Duration, now: Moment) -> bool {
    let since = now.since(told.at);
    let ratio = floor.as_secs_f64() / told.interval.as_secs_f64();
    let alike = (ratio - 1.0).abs() <= TOLERANCE;
    since < PATIENCE || (alike && since < RENEWED)
}

fn command(interval: Duration) -> Command {
    Command::Cadence {
        interval_ms: millis(interval),
        for_ms: millis(HOLDS),
        by: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Moment {
        Moment::from_ms(s * 1_000)
    }

    fn all(seconds: u64) -> Vec<Tell> {
        vec![Tell {
            worker: None,
            command: command(Duration::from_secs(seconds)),
        }]
    }

    #[test]
    fn a_small_fleet_is_told_nothing() {
        let mut cadence = Cadence::new(200);
        assert!(cadence.due(199, &["w".into()], at(0)).is_empty());
    }

    #[test]
    fn a_large_fleet_is_told_before_it_lapses_and_when_it_has_grown() {
        let mut cadence = Cadence::new(200);
        assert_eq!(cadence.due(5_000, &[], at(0)), all(25));
        assert!(cadence.due(5_900, &[], at(1)).is_empty());
        assert!(cadence.due(9_000, &[], at(4)).is_empty(), "not at once");
        assert_eq!(cadence.due(9_000, &[], at(5)), all(45));
        assert!(cadence.due(9_000, &[], at(244)).is_empty());
        assert_eq!(cadence.due(9_000, &[], at(245)), all(45));
        cadence.forget();
        assert_eq!(cadence.due(9_000, &[], at(246)), all(45));
    }

    #[test]
    fn who_is_new_is_told_alone() {
        let mut cadence = Cadence::new(200);
        cadence.due(5_000, &[], at(0));
        let tells = cadence.due(5_001, &["w-1".into()], at(10));
        assert_eq!(tells.len(), 1);
        assert_eq!(tells[0].worker.as_deref(), Some("w-1"));
        assert_eq!(tells[0].command, command(Duration::from_secs(25)));
    }
}

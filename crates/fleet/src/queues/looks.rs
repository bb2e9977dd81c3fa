//! Which queue to ask the broker about next, and what it said. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Moment;

/// How often a queue that workers work is looked at.
const WORK_EVERY: Duration = Duration::from_secs(2);
/// How often a delay queue or a dead-letter queue is looked at.
const ASIDE_EVERY: Duration = Duration::from_secs(5);
/// How often a queue that is missing or refused is tried again. The broker writes a line into its log each time.
const WORK_MISSING: Duration = Duration::from_secs(30);
const ASIDE_MISSING: Duration = Duration::from_mins(10);
/// Queues that are looked at, at most.
const TARGETS_LIMIT: usize = 20_000;

/// What a queue is to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Workers consume it.
    Work,
    /// Messages are set aside in it. It may come to be when more than so many have been.
    Aside(u64),
}

/// What the broker said of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// It is there.
    There {
        /// Messages that wait to be delivered.
        ready: u64,
        /// Its consumers.
        consumers: u64,
    },
    /// There is none.
    Missing,
    /// The broker does not say, and why not.
    Refused(String),
}

/// The queues to look at, and what was seen.
#[derive(Debug, Default)]
pub(super) struct Looks(BTreeMap<Arc<str>, Target>);

#[derive(Debug)]
struct Target {
    purpose: Purpose,
    due: Moment,
    /// Whether it is being looked at.
    asked: bool,
    seen: Option<(Moment, Found)>,
}

impl Looks {
    /// These queues are wanted, and no others. New ones are due at once.
    pub(super) fn want(&mut self, wanted: BTreeMap<Arc<str>, Purpose>, now: Moment) {
        self.0.retain(|name, _| wanted.contains_key(name));
        for (name, purpose) in wanted {
            let room = self.0.len() < TARGETS_LIMIT;
            if let Some(target) = self.0.get_mut(&name) {
                let missing = matches!(target.seen, Some((_, Found::Missing)));
                if missing && target.purpose != purpose {
                    target.due = now;
                }
                target.purpose = purpose;
            } else if room {
                let target = Target {
                    purpose,
                    due: now,
                    asked: false,
                    seen: None,
                };
                self.0.insert(name, target);
            }
        }
    }

    /// At most `limit` queues that are due, those that have waited longest first. They count as being looked at.
    pub(super) fn due(&mut self, now: Moment, limit: usize) -> Vec<Arc<str>> {
        let due = self.0.iter_mut();
        let mut due: Vec<_> = due
            .filter(|(_, target)| !target.asked && target.due <= now)
            .collect();
        // What workers work comes first, but nothing waits for ever behind it.
        due.sort_by_key(|(_, target)| match target.purpose {
            Purpose::Work => target.due,
            Purpose::Aside(_) => target.due.after(ASIDE_EVERY),
        });
        let taken = due.into_iter().take(limit).map(|(name, target)| {
            target.asked = true;
            Arc::clone(name)
        });
        taken.collect()
    }

    /// A look could not be made: there is no connection.
    pub(super) fn not_seen(&mut self, name: &str, now: Moment) {
        if let Some(target) = self.0.get_mut(name) {
            target.asked = false;
            target.due = now.after(WORK_EVERY);
        }
    }

    /// The broker said something of a queue.
    pub(super) fn saw(&mut self, name: &str, found: Found, now: Moment) {
        let Some(target) = self.0.get_mut(name) else {
            return;
        };
        let there = matches!(found, Found::There { .. });
        let pause = match (target.purpose, there) {
            (Purpose::Work, true) => WORK_EVERY,
            (Purpose::Work, false) => WORK_MISSING,
            (Purpose::Aside(_), true) => ASIDE_EVERY,
            (Purpose::Aside(_), false) => ASIDE_MISSING,
        };
        target.asked = false;
        target.due = now.after(pause);
        target.seen = Some((now, found));
    }

    /// What the broker said of a queue last, and when.
    pub(super) fn seen(&self, name: &str) -> Option<(Moment, &Found)> {
        let (at, found) = self.0.get(name)?.seen.as_ref()?;
        Some((*at, found))
    }

    /// Whether every queue has been looked at.
    pub(super) fn is_complete(&self) -> bool {
        self.0.values().all(|target| target.seen.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Moment {
        Moment::from_ms(1_800_000_000_000 + ms)
    }

    fn wanted(queues: &[(&str, Purpose)]) -> BTreeMap<Arc<str>, Purpose> {
        let queues = queues.iter();
        queues
            .map(|(name, purpose)| ((*name).into(), *purpose))
            .collect()
    }

    fn due(looks: &mut Looks, ms: i64) -> Vec<String> {
        let due = looks.due(at(ms), 10);
        due.iter().map(|name| (**name).to_owned()).collect()
    }

    const THERE: Found = Found::There {
        ready: 3,
        consumers: 1,
    };

    #[test]
    fn a_queue_is_looked_at_every_two_seconds_and_once_at_a_time() {
        let mut looks = Looks::default();
        looks.want(wanted(&[("q", Purpose::Work)]), at(0));
        assert_eq!(due(&mut looks, 0), ["q"]);
        assert_eq!(due(&mut looks, 9_000), [""; 0], "it is being looked at");
        looks.saw("q", THERE, at(9_000));
        assert_eq!(looks.seen("q"), Some((at(9_000), &THERE)));
        assert_eq!(due(&mut looks, 10_999), [""; 0]);
        assert_eq!(due(&mut looks, 11_000), ["q"]);
        looks.want(BTreeMap::new(), at(11_000));
        looks.saw("q", THERE, at(11_000));
        assert_eq!(looks.seen("q"), None, "nobody wants it any more");
    }

    #[test]
    fn a_queue_that_is_missing_is_left_alone_until_something_may_be_in_it() {
        let mut looks = Looks::default();
        looks.want(wanted(&[("q.dead", Purpose::Aside(0))]), at(0));
        assert_eq!(due(&mut looks, 0), ["q.dead"]);
        looks.saw("q.dead", Found::Missing, at(0));
        assert_eq!(due(&mut looks, 599_000), [""; 0]);
        looks.want(wanted(&[("q.dead", Purpose::Aside(1))]), at(60_000));
        assert_eq!(due(&mut looks, 60_000), ["q.dead"]);
        looks.saw("q.dead", THERE, at(60_000));
        looks.want(wanted(&[("q.dead", Purpose::Aside(2))]), at(60_001));
        assert_eq!(due(&mut looks, 60_001), [""; 0], "it has its pace");
        assert_eq!(due(&mut looks, 65_000), ["q.dead"]);
    }

    #[test]
    fn looks_are_bounded_and_nothing_waits_for_ever() {
        let mut looks = Looks::default();
        let names: Vec<String> = (0..30).map(|number| format!("q{number:02}")).collect();
        let mut all: BTreeMap<Arc<str>, Purpose> = names
            .iter()
            .map(|name| ((&**name).into(), Purpose::Work))
            .collect();
        all.insert("q00.dead".into(), Purpose::Aside(0));
        looks.want(all, at(0));
        let mut seen = Vec::new();
        for tick in 0..60 {
            let now = at(tick * 1_000);
            let due = looks.due(now, 2);
            assert!(due.len() <= 2);
            for name in due {
                looks.saw(&name, THERE, now);
                seen.push((*name).to_owned());
            }
        }
        for name in names.iter().map(String::as_str).chain(["q00.dead"]) {
            assert!(seen.iter().any(|seen| seen == name), "{name}");
        }
        assert!(looks.is_complete());
    }

    #[test]
    fn a_look_that_failed_is_made_again() {
        let mut looks = Looks::default();
        looks.want(wanted(&[("q", Purpose::Work)]), at(0));
        assert_eq!(due(&mut looks, 0), ["q"]);
        looks.not_seen("q", at(0));
        assert!(!looks.is_complete());
        assert_eq!(due(&mut looks, 2_000), ["q"]);
    }
}

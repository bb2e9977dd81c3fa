//! What is remembered of messages whose channel was lost before their settlement was known to have arrived.
//!
//! # Which redelivery is which message
//! The broker gives such a message to somebody again, marked as redelivered; when it comes back here, it is
//! adopted: its run goes on, or its outcome is settled, and the handler does not run again.
//!
//! Two honest messages may look alike where they carry no id. Two rules keep both of them whole:
//! - Only a redelivery is adopted, or a copy, which has an id of its own: a message that is delivered for the first time is
//!   run, whatever it looks like.
//! - Of a message without an id only that is remembered which certainly was not settled: a run that goes
//!   on, an outcome that was never written. Then the broker still has a message for each memory, and which
//!   of two equal messages takes which makes no difference: as many runs are settled as there are messages.
//!   An acknowledgement that was written may have arrived; remembered, it might swallow an equal message
//!   that nobody has run.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Identity;
use crate::handler::Outcome;
use crate::retry::Pending;

/// How long a message is remembered: its redelivery may have gone to another worker.
pub(crate) const REMEMBERED_FOR: Duration = Duration::from_mins(15);

/// What is known of a message that may be delivered again.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Remembered {
    /// The run with this number goes on.
    Running(u64),
    /// The copy with this number is on its way.
    Copying(u64),
    /// The handler has decided, and nothing followed from that yet.
    Decided(Outcome),
    /// This copy is to be published, and is not known to have been.
    Unpublished(Arc<Pending>),
    /// All is done but for the acknowledgement.
    Finished,
}

impl Remembered {
    /// The word for it in logs and metrics.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Running(_) => "running",
            Self::Copying(_) => "copying",
            Self::Decided(_) => "decided",
            Self::Unpublished(_) => "unpublished",
            Self::Finished => "finished",
        }
    }

    /// Whether work goes on that has bounds of its own.
    const fn goes_on(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Copying(_))
    }

    /// The work that is going on comes first: it certainly has no settlement.
    const fn rank(&self) -> u8 {
        match self {
            Self::Running(_) => 0,
            Self::Copying(_) => 1,
            Self::Decided(_) | Self::Unpublished(_) => 2,
            Self::Finished => 3,
        }
    }
}

#[derive(Debug)]
struct Entry {
    number: u64,
    remembered: Remembered,
}

/// The messages of one node that may be delivered again. Bounded: the oldest are forgotten first.
#[derive(Debug)]
pub(crate) struct Adoption {
    limit: usize,
    /// How many are remembered whose work does not go on.
    rest: usize,
    next: u64,
    entries: HashMap<Identity, Vec<Entry>>,
    order: BTreeMap<u64, (Instant, Identity)>,
}

impl Adoption {
    /// Remembers at most `limit` messages beside those whose work goes on.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            rest: 0,
            next: 0,
            entries: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    /// How many messages are remembered.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// How many messages are remembered that the broker certainly has: a run or copy goes on, or an outcome
    /// waits for them.
    pub(crate) fn owed(&self) -> usize {
        let entries = self.entries.values().flatten();
        let owed = entries.filter(|entry| entry.remembered != Remembered::Finished);
        owed.count()
    }

    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Remembers a message.
    pub(crate) fn remember(&mut self, identity: Identity, remembered: Remembered, now: Instant) {
        self.forget_old(now);
        let number = self.next;
        self.next += 1;
        self.order.insert(number, (now, identity));
        self.rest += usize::from(!remembered.goes_on());
        let entry = Entry { number, remembered };
        self.entries.entry(identity).or_default().push(entry);
        self.forget_surplus();
    }

    /// The message comes again: what is known of it, which is then forgotten.
    pub(crate) fn take(&mut self, identity: Identity, now: Instant) -> Option<Remembered> {
        self.forget_old(now);
        let entries = self.entries.get(&identity)?;
        let best = entries
            .iter()
            .min_by_key(|entry| (entry.remembered.rank(), entry.number))?
            .number;
        self.order.remove(&best);
        self.remove(identity, |entry| entry.number == best)
    }

    /// What was `before` is `after` from now on; where `before` is not remembered any more, nothing changes.
    pub(crate) fn replace(&mut self, identity: Identity, before: &Remembered, after: Remembered) {
        let entries = self.entries.get_mut(&identity);
        let mut entries = entries.into_iter().flatten();
        if let Some(entry) = entries.find(|entry| entry.remembered == *before) {
            self.rest -= usize::from(!entry.remembered.goes_on());
            self.rest += usize::from(!after.goes_on());
            entry.remembered = after;
        }
        self.forget_surplus();
    }

    /// Forgets what is `before`, as of something that will be done anew.
    pub(crate) fn forget(&mut self, identity: Identity, before: &Remembered) {
        let entries = self.entries.get(&identity);
        let mut entries = entries.into_iter().flatten();
        let found = entries.find(|entry| entry.remembered == *before);
        if let Some(number) = found.map(|entry| entry.number) {
            self.order.remove(&number);
            self.remove(identity, |entry| entry.number == number);
        }
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some(first) = self.order.first_entry()
            && now.saturating_duration_since(first.get().0) > REMEMBERED_FOR
        {
            let (number, (_, identity)) = first.remove_entry();
            self.remove(identity, |entry| entry.number == number);
        }
    }

    /// Forgets the oldest messages beyond the limit whose work is over: their redelivery is long overdue.
    fn forget_surplus(&mut self) {
        while self.rest > self.limit {
            let is_over = |number: u64, identity: &Identity| {
                let entries = self.entries.get(identity);
                let mut entries = entries.into_iter().flatten();
                entries.any(|entry| entry.number == number && !entry.remembered.goes_on())
            };
            let oldest = self
                .order
                .iter()
                .find(|(number, (_, identity))| is_over(**number, identity));
            let Some((&number, &(_, identity))) = oldest else {
                return;
            };
            self.order.remove(&number);
            self.remove(identity, |entry| entry.number == number);
        }
    }

    fn remove(&mut self, identity: Identity, which: impl Fn(&Entry) -> bool) -> Option<Remembered> {
        let entries = self.entries.get_mut(&identity)?;
        let place = entries.iter().position(which)?;
        let entry = entries.remove(place);
        if entries.is_empty() {
            self.entries.remove(&identity);
        }
        self.rest -= usize::from(!entry.remembered.goes_on());
        Some(entry.remembered)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::identity;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_memory_serves_one_redelivery_and_work_that_goes_on_comes_first() {
        let now = Instant::now();
        let mut adoption = Adoption::new(10);
        let same = identity("tick");
        adoption.remember(same, Remembered::Finished, now);
        adoption.remember(same, Remembered::Decided(Outcome::Done), now);
        adoption.remember(same, Remembered::Running(3), now);
        adoption.remember(same, Remembered::Running(4), now);
        let mut taken = Vec::new();
        while let Some(remembered) = adoption.take(same, now) {
            taken.push(remembered);
        }
        let expected = [
            Remembered::Running(3),
            Remembered::Running(4),
            Remembered::Decided(Outcome::Done),
            Remembered::Finished,
        ];
        assert_eq!(taken, expected);
        assert!(adoption.is_empty() && adoption.entries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_ends_before_its_message_is_back_leaves_its_outcome() {
        let now = Instant::now();
        let mut adoption = Adoption::new(10);
        let (one, other) = (identity("1"), identity("2"));
        adoption.remember(one, Remembered::Running(1), now);
        adoption.remember(other, Remembered::Running(2), now);
        let decided = Remembered::Decided(Outcome::Done);
        adoption.replace(one, &Remembered::Running(1), decided.clone());
        adoption.forget(other, &Remembered::Running(2));
        assert_eq!(adoption.take(one, now), Some(decided));
        assert_eq!(adoption.take(other, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_are_forgotten_by_number_and_by_age() {
        let begin = Instant::now();
        let mut adoption = Adoption::new(2);
        for body in ["1", "2", "3"] {
            adoption.remember(identity(body), Remembered::Finished, begin);
        }
        assert_eq!(adoption.len(), 2);
        assert_eq!(adoption.take(identity("1"), begin), None);
        let later = begin + REMEMBERED_FOR + Duration::from_secs(1);
        assert_eq!(adoption.take(identity("2"), later), None);
        assert!(adoption.is_empty() && adoption.entries.is_empty());
    }

    proptest! {
        #[test]
        fn memory_is_bounded_and_nothing_is_taken_twice(
            steps in prop::collection::vec((0_u8..6, any::<bool>()), 0..200),
            limit in 1_usize..20,
        ) {
            let now = Instant::now();
            let mut adoption = Adoption::new(limit);
            let mut remembered = 0_usize;
            let mut taken = 0_usize;
            for (body, remember) in steps {
                let identity = identity(&body.to_string());
                if remember {
                    adoption.remember(identity, Remembered::Finished, now);
                    remembered += 1;
                } else if adoption.take(identity, now).is_some() {
                    taken += 1;
                }
                prop_assert!(adoption.len() <= limit);
                prop_assert!(taken <= remembered);
                let entries: usize = adoption.entries.values().map(Vec::len).sum();
                prop_assert_eq!(entries, adoption.len());
            }
        }
    }
}

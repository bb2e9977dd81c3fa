//! The memory of messages whose channel was lost before their settlement was known to have arrived.
//!
//! # Which redelivery is which message
//! The broker gives such a message to a consumer again, marked as redelivered. If it comes back here, it is
//! adopted: its run goes on, or its outcome is settled, and the handler does not run again.
//!
//! Two different messages may look alike if they carry no id. Two rules keep both of them whole:
//! - Only a redelivery is adopted, or a copy, which has an id of its own. A message that is delivered for the first time
//!   is run, whatever it looks like.
//! - For messages without an id we remember only what cannot have been settled: a run that goes on, an outcome that was
//!   never written. Then the broker still has a message for each memory, and it makes no difference which of two equal
//!   messages takes which: as many runs are settled as there are messages. An acknowledgement that was written may
//!   have arrived. If we remembered it, it might swallow an equal message that nobody has run.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Identity;
use crate::handler::Outcome;
use crate::retry::Pending;

/// How long a message is remembered once its work is over: its redelivery may have gone to another worker.
const REMEMBERED_FOR: Duration = Duration::from_mins(15);

/// Facts about a message that may be delivered again.
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
    /// Only the acknowledgement is missing.
    Finished(Acknowledgement),
}

/// What became of the acknowledgement of a finished message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    /// It was not written: the broker has the message.
    Unwritten,
    /// It was written during the drain, and may have arrived.
    WrittenInDrain,
    /// It was written before, and may have arrived.
    WrittenBefore,
}

impl Remembered {
    /// The word for it in logs and metrics.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Running(_) => "running",
            Self::Copying(_) => "copying",
            Self::Decided(_) => "decided",
            Self::Unpublished(_) => "unpublished",
            Self::Finished(_) => "finished",
        }
    }

    /// Whether work goes on, which has limits of its own.
    const fn goes_on(&self) -> bool {
        matches!(self, Self::Running(_) | Self::Copying(_))
    }

    /// Whether the broker certainly has the message.
    const fn is_owed(&self) -> bool {
        !matches!(
            self,
            Self::Finished(Acknowledgement::WrittenInDrain | Acknowledgement::WrittenBefore)
        )
    }

    /// Whether an outcome is decided whose settlement was not written, or was written during the drain without proof.
    const fn is_unconfirmed(&self) -> bool {
        !matches!(
            self,
            Self::Running(_) | Self::Finished(Acknowledgement::WrittenBefore)
        )
    }

    /// Work that goes on comes first: it certainly has no settlement.
    const fn rank(&self) -> u8 {
        match self {
            Self::Running(_) => 0,
            Self::Copying(_) => 1,
            Self::Decided(_) | Self::Unpublished(_) => 2,
            Self::Finished(_) => 3,
        }
    }
}

#[derive(Debug)]
struct Entry {
    number: u64,
    remembered: Remembered,
}

/// The messages of one node that may be delivered again.
///
/// Those whose work goes on are remembered for as long as it does; they are bounded by the work. The others are bounded
/// by number and age: the oldest are forgotten first.
#[derive(Debug)]
pub(crate) struct Adoption {
    limit: usize,
    next: u64,
    entries: HashMap<Identity, Vec<Entry>>,
    /// Those whose work is over, by number, with the time since when it is.
    over: BTreeMap<u64, (Instant, Identity)>,
    /// How many unconfirmed outcomes were forgotten.
    forgotten: u64,
}

impl Adoption {
    /// From now on it remembers at most `limit` messages beside those whose work goes on.
    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Remembers at most `limit` messages beside those whose work goes on.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            next: 0,
            entries: HashMap::new(),
            over: BTreeMap::new(),
            forgotten: 0,
        }
    }

    fn all(&self) -> impl Iterator<Item = &Remembered> {
        let entries = self.entries.values().flatten();
        entries.map(|entry| &entry.remembered)
    }

    /// The number of messages that are remembered.
    pub(crate) fn len(&self) -> usize {
        self.all().count()
    }

    /// How many messages are remembered that the broker certainly has: a run or copy goes on, or an outcome
    /// waits for them.
    pub(crate) fn owed(&self) -> usize {
        self.all().filter(|remembered| remembered.is_owed()).count()
    }

    /// How many outcomes are remembered that are not settled, and how many have been forgotten since the start.
    pub(crate) fn unconfirmed(&self) -> (u64, u64) {
        let unconfirmed = self.all().filter(|remembered| remembered.is_unconfirmed());
        (unconfirmed.count() as u64, self.forgotten)
    }

    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Remembers a message.
    pub(crate) fn remember(&mut self, identity: Identity, remembered: Remembered, now: Instant) {
        self.forget_old(now);
        let number = self.next;
        self.next += 1;
        if !remembered.goes_on() {
            self.over.insert(number, (now, identity));
        }
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
        self.remove(identity, best)
    }

    /// What was `before` is `after` from now on. Nothing changes if `before` is not remembered any more.
    pub(crate) fn replace(
        &mut self,
        identity: Identity,
        before: &Remembered,
        after: Remembered,
        now: Instant,
    ) {
        if let Some(number) = self.find(identity, before) {
            self.remove(identity, number);
            self.remember(identity, after, now);
        }
    }

    /// Forgets what is `before`: it will be done anew.
    pub(crate) fn forget(&mut self, identity: Identity, before: &Remembered) {
        if let Some(number) = self.find(identity, before) {
            self.remove(identity, number);
        }
    }

    /// A channel is there again: what is remembered may come back only now, so that its age counts from now.
    pub(crate) fn restart_clock(&mut self, now: Instant) {
        for (since, _) in self.over.values_mut() {
            *since = now;
        }
    }

    fn find(&self, identity: Identity, remembered: &Remembered) -> Option<u64> {
        let entries = self.entries.get(&identity)?;
        let found = entries
            .iter()
            .find(|entry| entry.remembered == *remembered)?;
        Some(found.number)
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((&number, &(since, identity))) = self.over.first_key_value()
            && now.saturating_duration_since(since) > REMEMBERED_FOR
        {
            self.forget_number(identity, number);
        }
    }

    fn forget_surplus(&mut self) {
        while self.over.len() > self.limit
            && let Some((&number, &(_, identity))) = self.over.first_key_value()
        {
            self.forget_number(identity, number);
        }
    }

    fn forget_number(&mut self, identity: Identity, number: u64) {
        let forgotten = self.remove(identity, number);
        let unconfirmed = forgotten.is_some_and(|forgotten| forgotten.is_unconfirmed());
        self.forgotten += u64::from(unconfirmed);
    }

    fn remove(&mut self, identity: Identity, number: u64) -> Option<Remembered> {
        self.over.remove(&number);
        let entries = self.entries.get_mut(&identity)?;
        let place = entries.iter().position(|entry| entry.number == number)?;
        let entry = entries.remove(place);
        if entries.is_empty() {
            self.entries.remove(&identity);
        }
        Some(entry.remembered)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::identity;
    use super::*;

    const FINISHED: Remembered = Remembered::Finished(Acknowledgement::WrittenBefore);

    #[tokio::test(start_paused = true)]
    async fn each_memory_serves_one_redelivery_and_work_that_goes_on_comes_first() {
        let now = Instant::now();
        let mut adoption = Adoption::new(10);
        let same = identity("tick");
        adoption.remember(same, FINISHED, now);
        adoption.remember(same, Remembered::Decided(Outcome::Done), now);
        adoption.remember(same, Remembered::Running(3), now);
        adoption.remember(same, Remembered::Running(4), now);
        assert_eq!((adoption.len(), adoption.owed()), (4, 3));
        let mut taken = Vec::new();
        while let Some(remembered) = adoption.take(same, now) {
            taken.push(remembered);
        }
        let expected = [
            Remembered::Running(3),
            Remembered::Running(4),
            Remembered::Decided(Outcome::Done),
            FINISHED,
        ];
        assert_eq!(taken, expected);
        assert!(adoption.is_empty() && adoption.over.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_ends_before_its_message_is_back_leaves_its_outcome() {
        let now = Instant::now();
        let mut adoption = Adoption::new(10);
        let (one, other) = (identity("1"), identity("2"));
        adoption.remember(one, Remembered::Running(1), now);
        adoption.remember(other, Remembered::Running(2), now);
        let decided = Remembered::Decided(Outcome::Done);
        adoption.replace(one, &Remembered::Running(1), decided.clone(), now);
        adoption.forget(other, &Remembered::Running(2));
        assert_eq!(adoption.unconfirmed(), (1, 0));
        assert_eq!(adoption.take(one, now), Some(decided));
        assert_eq!(adoption.take(other, now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_are_forgotten_by_number_and_by_age() {
        let begin = Instant::now();
        let mut adoption = Adoption::new(2);
        for body in ["1", "2", "3"] {
            adoption.remember(identity(body), FINISHED, begin);
        }
        assert_eq!(adoption.len(), 2);
        assert_eq!(adoption.take(identity("1"), begin), None);
        let later = begin + REMEMBERED_FOR + Duration::from_secs(1);
        assert_eq!(adoption.take(identity("2"), later), None);
        assert!(adoption.is_empty() && adoption.over.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_runs_or_is_being_copied_is_remembered_as_long_as_it_does() {
        let begin = Instant::now();
        let mut adoption = Adoption::new(1);
        let (runs, copies, decided) = (identity("1"), identity("2"), identity("3"));
        adoption.remember(runs, Remembered::Running(1), begin);
        adoption.remember(copies, Remembered::Copying(1), begin);
        let later = begin + REMEMBERED_FOR * 10;
        adoption.remember(decided, Remembered::Running(2), later);
        let outcome = Remembered::Decided(Outcome::Done);
        adoption.replace(decided, &Remembered::Running(2), outcome.clone(), later);
        assert_eq!(adoption.take(runs, later), Some(Remembered::Running(1)));
        assert_eq!(adoption.take(copies, later), Some(Remembered::Copying(1)));
        // Its age counts from the end of its run, and from the return of the channel.
        let back = later + REMEMBERED_FOR;
        adoption.restart_clock(back);
        assert_eq!(adoption.take(decided, back + REMEMBERED_FOR), Some(outcome));
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
                    adoption.remember(identity, FINISHED, now);
                    remembered += 1;
                } else if adoption.take(identity, now).is_some() {
                    taken += 1;
                }
                prop_assert!(adoption.len() <= limit);
                prop_assert!(taken <= remembered);
                prop_assert_eq!(adoption.over.len(), adoption.len());
            }
        }
    }
}

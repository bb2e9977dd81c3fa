//! The journal: which dead letters earlier passes have sent, or were about to send. Pure.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use ulid::Ulid;

use tidegate::delivery::Delivery;

/// The header that identifies an entry: the pass that sent the message, and the letter's identity.
pub(super) const MARK: &str = "x-tidegate-replay";
/// The property `type` of an intent; a receipt is a copy of the message itself.
pub(super) const INTENT_TYPE: &str = "tidegate.replay-intent.v1";
/// A receipt older than this without a letter is of no more use: its letter was acknowledged. Before, the letter may
/// still be on its way back from a connection that the broker believes to be open.
pub(super) const RECEIPT_AGE_LIMIT: Duration = Duration::from_hours(1);

/// What the journal says of a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// The broker has routed it to its destination.
    Receipt,
    /// It was about to be published. Whether it was is not known.
    Intent,
}

/// The mark of the letter with `identity` in the pass `pass`.
pub(super) fn mark(pass: Ulid, identity: &str) -> String {
    format!("{pass}.{identity}")
}

/// An entry of the journal as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    tag: u64,
    entry: Entry,
    pass: Ulid,
}

/// The entries that earlier passes have left, each with the tag of its delivery.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Journal {
    entries: HashMap<String, Vec<Found>>,
}

impl Journal {
    /// Adds what was delivered under `tag`. Returns `false` if it is no entry of a journal.
    pub(super) fn enter(&mut self, tag: u64, delivery: &Delivery) -> bool {
        let properties = &delivery.properties;
        let mark = properties
            .headers
            .get(MARK)
            .and_then(|value| value.as_str());
        let Some((pass, identity)) = mark.and_then(|mark| mark.split_once('.')) else {
            return false;
        };
        let Ok(pass) = pass.parse::<Ulid>() else {
            return false;
        };
        let entry = if properties.kind.as_deref() == Some(INTENT_TYPE) {
            Entry::Intent
        } else {
            Entry::Receipt
        };
        let found = Found { tag, entry, pass };
        self.entries
            .entry(identity.to_owned())
            .or_default()
            .push(found);
        true
    }

    /// Takes the entry for a letter with `identity`, with the tag of its delivery. Receipts come first, because they are
    /// certain.
    pub(super) fn take(&mut self, identity: &str) -> Option<(u64, Entry)> {
        let found = self.entries.get_mut(identity)?;
        let receipt = found.iter().position(|found| found.entry == Entry::Receipt);
        let taken = found.swap_remove(receipt.unwrap_or(0));
        if found.is_empty() {
            self.entries.remove(identity);
        }
        Some((taken.tag, taken.entry))
    }

    /// The tags of the remaining entries that are too old to be of use.
    pub(super) fn outdated(&self, now: SystemTime) -> Vec<u64> {
        let old = |pass: Ulid| {
            let age = now.duration_since(pass.datetime());
            age.is_ok_and(|age| age > RECEIPT_AGE_LIMIT)
        };
        let left = self.entries.values().flatten();
        left.filter(|found| found.entry == Entry::Receipt && old(found.pass))
            .map(|found| found.tag)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::testing::letter;
    use super::*;

    fn entry(kind: Option<&str>, mark: &str) -> Delivery {
        let mut delivery = letter(&[(MARK, mark.into())]).delivery;
        delivery.properties.kind = kind.map(str::to_owned);
        delivery
    }

    #[test]
    fn each_entry_stands_for_one_letter_and_receipts_come_first() {
        let mut journal = Journal::default();
        let mark = mark(Ulid::from_parts(1, 2), "abc");
        assert!(journal.enter(1, &entry(Some(INTENT_TYPE), &mark)));
        assert!(journal.enter(2, &entry(Some("order.v1"), &mark)));
        assert!(journal.enter(3, &entry(None, &mark)));
        assert_eq!(journal.take("other"), None);
        let mut taken: Vec<_> = std::iter::from_fn(|| journal.take("abc")).collect();
        assert_eq!(taken.pop(), Some((1, Entry::Intent)));
        taken.sort_unstable_by_key(|(tag, _)| *tag);
        assert_eq!(taken, [(2, Entry::Receipt), (3, Entry::Receipt)]);
    }

    #[test]
    fn what_is_no_entry_is_not_taken_for_one() {
        let mut journal = Journal::default();
        for mark in ["", "abc", "no-ulid.abc"] {
            assert!(!journal.enter(1, &entry(None, mark)), "{mark}");
        }
        assert_eq!(journal, Journal::default());
    }

    #[test]
    fn a_receipt_without_a_letter_is_kept_for_a_while_and_an_intent_for_ever() {
        let begun = SystemTime::UNIX_EPOCH + Duration::from_hours(100);
        let pass = Ulid::from_datetime(begun);
        let mut journal = Journal::default();
        journal.enter(1, &entry(None, &mark(pass, "a")));
        journal.enter(2, &entry(Some(INTENT_TYPE), &mark(pass, "b")));
        let later = begun + RECEIPT_AGE_LIMIT;
        assert!(journal.outdated(later).is_empty());
        assert_eq!(journal.outdated(later + Duration::from_secs(1)), [1]);
        assert!(
            journal.outdated(SystemTime::UNIX_EPOCH).is_empty(),
            "a clock that was set back throws nothing away"
        );
    }
}

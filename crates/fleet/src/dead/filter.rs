//! Which dead letters are meant.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Letter, identity};

/// Picks dead letters. An empty filter picks all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Reasons; empty for any.
    pub reasons: BTreeSet<String>,
    /// Message ids; empty for any, and for letters without one.
    pub ids: BTreeSet<String>,
    /// OpenCTI connectors by id or name, in any case; empty for any.
    pub connectors: Vec<String>,
    /// Letters by their [`identity`](super::identity()); empty for any.
    pub identities: BTreeSet<String>,
    /// The earliest time of death. A letter that does not say when it died is not picked.
    pub since: Option<Timestamp>,
}

impl Filter {
    /// Whether the filter picks `letter`.
    pub fn picks(&self, letter: &Letter) -> bool {
        let any_of = |wanted: &BTreeSet<String>, found: Option<&str>| {
            wanted.is_empty() || found.is_some_and(|found| wanted.contains(found))
        };
        let (id, name) = letter.connector();
        let is_connector = |wanted: &String| {
            let named = [id, name].into_iter().flatten();
            named
                .into_iter()
                .any(|known| known.eq_ignore_ascii_case(wanted))
        };
        any_of(&self.reasons, letter.reason())
            && (self.connectors.is_empty() || self.connectors.iter().any(is_connector))
            && any_of(&self.ids, letter.id())
            && (self.identities.is_empty() || self.identities.contains(&identity(letter)))
            && self
                .since
                .is_none_or(|since| letter.at().is_some_and(|at| at >= since))
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::testing::{letter, sealed};
    use super::*;
    use crate::dead::{CONNECTOR, CONNECTOR_NAME};
    use tidegate::delivery::header;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn every_condition_must_hold() {
        let at = "2026-11-23T10:00:00Z";
        let letter = sealed(&[(header::REASON, "handler".into()), (header::AT, at.into())]);
        let at: Timestamp = at.parse().unwrap();
        let with = |reasons: &[&str], ids: &[&str], since| Filter {
            reasons: set(reasons),
            ids: set(ids),
            since,
            ..Filter::default()
        };
        assert!(Filter::default().picks(&letter));
        assert!(with(&["crash", "handler"], &["m-1"], Some(at)).picks(&letter));
        assert!(!with(&["crash"], &["m-1"], Some(at)).picks(&letter));
        assert!(!with(&["handler"], &["m-2"], Some(at)).picks(&letter));
        let later = at.checked_add(std::time::Duration::from_millis(1)).unwrap();
        assert!(!with(&["handler"], &["m-1"], Some(later)).picks(&letter));
    }

    #[test]
    fn a_connector_is_picked_by_its_id_or_its_name() {
        let letter = sealed(&[
            (CONNECTOR, "c-1".into()),
            (CONNECTOR_NAME, "Mandiant".into()),
        ]);
        let with = |words: &[&str]| Filter {
            connectors: words.iter().map(|&word| word.to_owned()).collect(),
            ..Filter::default()
        };
        for words in [&["c-1"][..], &["mandiant"], &["other", "C-1"]] {
            assert!(with(words).picks(&letter), "{words:?}");
        }
        assert!(!with(&["other"]).picks(&letter));
    }

    #[test]
    fn a_letter_is_picked_by_its_identity() {
        let letter = letter(&[]);
        let with = |word: String| Filter {
            identities: [word].into(),
            ..Filter::default()
        };
        assert!(with(identity(&letter)).picks(&letter));
        assert!(!with("0".repeat(32)).picks(&letter));
    }

    #[test]
    fn what_a_letter_does_not_say_matches_no_condition() {
        let mut letter = letter(&[]);
        letter.delivery.properties.message_id = None;
        for filter in [
            Filter {
                reasons: set(&["handler"]),
                ..Filter::default()
            },
            Filter {
                ids: set(&[""]),
                ..Filter::default()
            },
            Filter {
                connectors: vec![String::new()],
                ..Filter::default()
            },
            Filter {
                since: Some(Timestamp::MIN),
                ..Filter::default()
            },
        ] {
            assert!(!filter.picks(&letter), "{filter:?}");
        }
    }
}

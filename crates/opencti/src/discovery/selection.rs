//! Which connectors this worker serves.

use super::Connector;

/// `only` and `except`: connectors by id, name or type, in any case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// If not empty, no other connector is served.
    pub only: Vec<String>,
    /// These are not served.
    pub except: Vec<String>,
}

impl Selection {
    /// Whether every connector is served.
    pub fn is_all(&self) -> bool {
        self.only.is_empty() && self.except.is_empty()
    }

    /// Whether `connector` is served.
    pub fn takes(&self, connector: &Connector) -> bool {
        let named = |words: &[String]| words.iter().any(|word| names(word, connector));
        (self.only.is_empty() || named(&self.only)) && !named(&self.except)
    }

    /// The words that name none of `connectors`.
    pub(super) fn unmatched(&self, connectors: &[Connector]) -> Vec<String> {
        self.only
            .iter()
            .chain(&self.except)
            .filter(|word| !connectors.iter().any(|connector| names(word, connector)))
            .cloned()
            .collect()
    }
}

fn names(word: &str, connector: &Connector) -> bool {
    let kind = connector.kind.as_deref().unwrap_or_default();
    [connector.id.as_str(), &connector.name, kind]
        .into_iter()
        .any(|known| !known.is_empty() && known.eq_ignore_ascii_case(word))
}

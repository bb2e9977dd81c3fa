//! Texts from messages: cut to their limits, and each kept once.

use std::collections::HashSet;
use std::sync::Arc;

/// Bytes of a worker's, host's or handler's name, or of a version.
pub(super) const NAME_LIMIT: usize = 255;
/// Bytes of a reason.
pub(super) const REASON_LIMIT: usize = 500;
/// Texts after which those are let go of that nobody holds, at first.
const SWEEP_FIRST: usize = 4_096;

/// Texts that many workers share: names of queues, hosts, handlers.
#[derive(Debug)]
pub(super) struct Texts {
    kept: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            kept: HashSet::new(),
            sweep_at: SWEEP_FIRST,
        }
    }
}

impl Texts {
    /// `text`, cut to `limit` bytes.
    pub(super) fn keep(&mut self, text: &str, limit: usize) -> Arc<str> {
        let text = cut(text, limit);
        if let Some(kept) = self.kept.get(text) {
            return Arc::clone(kept);
        }
        if self.kept.len() >= self.sweep_at {
            self.kept.retain(|text| Arc::strong_count(text) > 1);
            self.sweep_at = (self.kept.len() * 2).max(SWEEP_FIRST);
        }
        let kept = Arc::<str>::from(text);
        self.kept.insert(Arc::clone(&kept));
        kept
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.kept.len()
    }
}

/// `text` up to `limit` bytes, at the end of a character.
pub(super) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_kept_once_and_let_go_of_when_nobody_holds_it() {
        let mut texts = Texts::default();
        let first = texts.keep("orders", 255);
        assert!(Arc::ptr_eq(&first, &texts.keep("orders", 255)));
        for number in 0..100_000 {
            texts.keep(&number.to_string(), 255);
        }
        assert!(texts.len() <= SWEEP_FIRST);
        assert!(Arc::ptr_eq(&first, &texts.keep("orders", 255)));
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("tide≈", 5), "tide");
        assert_eq!(cut("tide≈", 7), "tide≈");
        assert_eq!(cut("", 0), "");
    }
}

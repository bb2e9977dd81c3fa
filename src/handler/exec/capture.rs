//! The part of a child's output that is kept.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Bytes that are read at once.
const CHUNK: usize = 8 * 1024;

/// A bounded part of a stream: all of it is read, its beginning or its end is kept.
#[derive(Debug)]
pub(super) struct Capture {
    end: End,
    limit: usize,
    kept: Vec<u8>,
    dropped: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    First,
    Last,
}

impl Capture {
    /// Keeps the first `limit` bytes.
    pub(super) fn first(limit: usize) -> Self {
        Self::new(End::First, limit)
    }

    /// Keeps the last `limit` bytes.
    pub(super) fn last(limit: usize) -> Self {
        Self::new(End::Last, limit)
    }

    fn new(end: End, limit: usize) -> Self {
        Self {
            end,
            limit,
            kept: Vec::new(),
            dropped: 0,
        }
    }

    /// Reads `stream` to its end; an error counts as the end. Cancel safe: what has been read is kept.
    pub(super) async fn fill(&mut self, mut stream: impl AsyncRead + Unpin) {
        let mut chunk = vec![0; CHUNK];
        while let Ok(read @ 1..) = stream.read(&mut chunk).await {
            self.take(&chunk[..read]);
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        match self.end {
            End::First => {
                let room = (self.limit - self.kept.len()).min(bytes.len());
                self.kept.extend_from_slice(&bytes[..room]);
                self.dropped += bytes.len() - room;
            }
            End::Last => {
                self.kept.extend_from_slice(bytes);
                let over = self.kept.len().saturating_sub(self.limit);
                self.kept.drain(..over);
                self.dropped += over;
            }
        }
    }

    /// What was kept as text of at most the limit's bytes: what is not UTF-8 replaced, white space at both
    /// ends removed.
    pub(super) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.kept);
        // Replacement characters are longer than what they replace, so the limit is kept here again.
        match self.end {
            End::First => text[..text.floor_char_boundary(self.limit)].trim(),
            End::Last => {
                let start = text.ceil_char_boundary(text.len().saturating_sub(self.limit));
                let cut = self.dropped > 0;
                // A cut may go through a character: what is left of it says nothing.
                let whole = text[start..].trim_start_matches(|c| cut && c == '\u{fffd}');
                whole.trim()
            }
        }
        .to_owned()
    }

    /// Bytes that were read and not kept.
    pub(super) fn dropped(&self) -> usize {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn the_end_or_the_beginning_is_kept() {
        let stream = "one two three\n".as_bytes();
        let mut first = Capture::first(5);
        first.fill(stream).await;
        assert_eq!((first.text().as_str(), first.dropped()), ("one t", 9));
        let mut last = Capture::last(6);
        last.fill(stream).await;
        assert_eq!((last.text().as_str(), last.dropped()), ("three", 8));
    }

    #[tokio::test]
    async fn a_cut_through_a_character_leaves_no_debris() {
        let mut last = Capture::last(4);
        last.fill("xüüx".as_bytes()).await;
        assert_eq!(last.text(), "üx");
    }

    proptest! {
        #[test]
        fn whatever_comes_the_limit_holds(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..20),
            limit in 0_usize..100,
        ) {
            for mut capture in [Capture::first(limit), Capture::last(limit)] {
                for chunk in &chunks {
                    capture.take(chunk);
                }
                let total: usize = chunks.iter().map(Vec::len).sum();
                prop_assert_eq!(capture.dropped(), total.saturating_sub(limit));
                prop_assert!(capture.text().len() <= limit);
            }
        }
    }
}

//! A piece of the stream of events: made once for all clients, and compressed once for those that want it so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// The head of a gzip stream (RFC 1952): no name, no time, no system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The last block of a deflate stream (RFC 1951), which is empty.
const LAST_BLOCK: [u8; 2] = [3, 0];
/// Bytes by which the room for compressed data grows at least.
const ROOM: usize = 4 << 10;

/// The bytes of all pieces that somebody still sends. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct BytesHeld(Arc<AtomicUsize>);

impl BytesHeld {
    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts `data` until the last of those that send it has done so.
    fn hold(&self, data: Vec<u8>) -> Bytes {
        self.0.fetch_add(data.len(), Ordering::Relaxed);
        let held = self.clone();
        Bytes::from_owner(Held { data, held })
    }
}

/// Data that is counted.
struct Held {
    data: Vec<u8>,
    held: BytesHeld,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.0.fetch_sub(self.data.len(), Ordering::Relaxed);
    }
}

/// One piece.
#[derive(Debug)]
pub(crate) struct EventPart {
    plain: Bytes,
    deflated: OnceLock<Bytes>,
    held: BytesHeld,
}

impl EventPart {
    /// A piece whose bytes are counted in `held`.
    pub(crate) fn new(plain: Vec<u8>, held: &BytesHeld) -> Self {
        Self {
            plain: held.hold(plain),
            deflated: OnceLock::new(),
            held: held.clone(),
        }
    }

    /// The piece as it is.
    pub(crate) fn plain(&self) -> Bytes {
        self.plain.clone()
    }

    /// The piece as deflate blocks that refer to nothing before them and end at a byte: so pieces can follow each other
    /// in the streams of clients that began at different times.
    fn deflated(&self) -> Bytes {
        let deflated = self
            .deflated
            .get_or_init(|| self.held.hold(deflate(&self.plain)));
        deflated.clone()
    }
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::fast(), false);
    let mut deflated = Vec::with_capacity(plain.len() / 8 + ROOM);
    loop {
        let done = usize::try_from(compress.total_in()).expect("it was in memory");
        let status = compress
            .compress_vec(&plain[done..], &mut deflated, FlushCompress::Sync)
            .expect("compressing does not fail");
        let all = usize::try_from(compress.total_in()).expect("it was in memory") == plain.len();
        // Room that is left says that everything was flushed.
        if all && deflated.len() < deflated.capacity() && status == Status::Ok {
            return deflated;
        }
        deflated.reserve(deflated.capacity().max(ROOM));
    }
}

/// One client's stream of pieces as gzip.
#[derive(Debug, Default)]
pub(crate) struct Gzip {
    begun: bool,
    check: Crc,
}

impl Gzip {
    /// What to send for the next piece.
    pub(crate) fn next(&mut self, told: &EventPart) -> Bytes {
        self.check.update(&told.plain);
        let deflated = told.deflated();
        if std::mem::replace(&mut self.begun, true) {
            return deflated;
        }
        [&HEAD[..], &deflated].concat().into()
    }

    /// The end of the stream.
    pub(crate) fn end(&self) -> Bytes {
        let sum = self.check.sum().to_le_bytes();
        let bytes = self.check.amount().to_le_bytes();
        [&LAST_BLOCK[..], &sum, &bytes].concat().into()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    fn part(text: &str) -> EventPart {
        EventPart::new(text.as_bytes().to_vec(), &BytesHeld::default())
    }

    #[test]
    fn bytes_are_counted_until_they_are_sent() {
        let held = BytesHeld::default();
        let piece = EventPart::new(vec![b'x'; 1_000], &held);
        let sending = piece.plain();
        let compressed = piece.deflated();
        drop(piece);
        assert_eq!(held.count(), 1_000 + compressed.len());
        drop(sending);
        assert_eq!(held.count(), compressed.len());
        drop(compressed);
        assert_eq!(held.count(), 0);
    }

    #[test]
    fn pieces_that_were_compressed_apart_are_one_stream() {
        let long = "0123456789,".repeat(100_000);
        let pieces = ["first", "", &long, "last"].map(part);
        for from in 0..pieces.len() {
            let mut gzip = Gzip::default();
            let mut sent = Vec::new();
            for piece in &pieces[from..] {
                sent.extend_from_slice(&gzip.next(piece));
            }
            sent.extend_from_slice(&gzip.end());
            let mut read = Vec::new();
            GzDecoder::new(&*sent)
                .read_to_end(&mut read)
                .expect("it is gzip");
            let plain: Vec<u8> = pieces[from..]
                .iter()
                .flat_map(super::EventPart::plain)
                .collect();
            assert_eq!(read, plain);
        }
    }

    #[test]
    fn a_piece_can_be_read_as_soon_as_it_is_there() {
        let mut gzip = Gzip::default();
        let sent = gzip.next(&part("event: summary\n\n"));
        let mut read = [0; 16];
        GzDecoder::new(&*sent)
            .read_exact(&mut read)
            .expect("it is all there");
        assert_eq!(&read, b"event: summary\n\n");
    }
}

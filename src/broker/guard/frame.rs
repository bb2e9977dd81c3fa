//! Frames on the wire (AMQP 0-9-1, 4.2.3): type, channel, size, payload, end octet.

use super::Violation;

/// Type, channel and size.
pub(super) const HEAD_BYTES: usize = 7;
/// Bytes of a frame beside its payload.
pub(super) const FRAME_OVERHEAD: usize = HEAD_BYTES + 1;
/// The byte that ends every frame.
pub(super) const FRAME_END: u8 = 0xce;
/// The smallest `frame_max` that AMQP 0-9-1 allows.
pub(super) const FRAME_MIN: usize = 4096;
/// The beginning of a protocol header. A broker that wants another version answers with one and hangs up.
pub(super) const PROTOCOL_HEADER: u8 = b'A';
/// The length of a protocol header.
pub(super) const PROTOCOL_HEADER_BYTES: usize = 8;

/// The kind of a frame's payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Method,
    Header,
    Body,
    Heartbeat,
}

/// The fields before a frame's payload.
#[derive(Debug, Clone, Copy)]
pub(super) struct FrameHead {
    pub(super) kind: Kind,
    pub(super) channel: u16,
    /// Bytes of the payload.
    pub(super) size: usize,
}

impl FrameHead {
    /// The head at the front of `bytes`; `None` if it is not complete.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let kind = match bytes.first() {
            Some(1) => Kind::Method,
            Some(2) => Kind::Header,
            Some(3) => Kind::Body,
            Some(8) => Kind::Heartbeat,
            Some(other) => return Err(Violation::FrameType(*other)),
            None => return Ok(None),
        };
        let Some([_, c0, c1, s0, s1, s2, s3]) = bytes.first_chunk::<HEAD_BYTES>().copied() else {
            return Ok(None);
        };
        Ok(Some(Self {
            kind,
            channel: u16::from_be_bytes([c0, c1]),
            size: usize::try_from(u32::from_be_bytes([s0, s1, s2, s3])).unwrap_or(usize::MAX),
        }))
    }
}

/// A whole frame. `payload` fits a frame, so its length fits 32 bits.
pub(super) fn write(kind: Kind, channel: u16, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).expect("a replaced payload fits a frame");
    let mut frame = Vec::with_capacity(payload.len() + FRAME_OVERHEAD);
    frame.push(match kind {
        Kind::Method => 1,
        Kind::Header => 2,
        Kind::Body => 3,
        Kind::Heartbeat => 8,
    });
    frame.extend_from_slice(&channel.to_be_bytes());
    frame.extend_from_slice(&size.to_be_bytes());
    frame.extend_from_slice(payload);
    frame.push(FRAME_END);
    frame
}

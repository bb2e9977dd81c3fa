//! AMQP frames cut out of a byte stream. The bytes stay as they are; the decoded frame is for the record.

use amq_protocol::frame::{AMQPFrame, WriteContext, gen_frame, parse_frame};

/// Type, channel and size before a frame's payload.
const HEAD: usize = 7;
/// `AMQP` and the version, which open a connection.
const PROTOCOL_HEADER: usize = 8;
/// The end marker behind the payload.
const END: usize = 1;

/// A frame as it crossed the wire.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Exactly what came.
    pub bytes: Vec<u8>,
    /// What it means, or why it cannot be decoded.
    pub decoded: Result<AMQPFrame, String>,
}

impl Frame {
    /// A frame made here, to be injected.
    pub(super) fn made(frame: AMQPFrame) -> Self {
        let written = gen_frame(&frame)(WriteContext::from(Vec::new()))
            .expect("a frame can be written to memory");
        let (bytes, _position) = written.into_inner();
        Self {
            bytes,
            decoded: Ok(frame),
        }
    }

    /// The channel it belongs to; 0 for the connection's own.
    pub(super) fn channel(&self) -> u16 {
        match &self.decoded {
            Ok(
                AMQPFrame::Method(channel, _)
                | AMQPFrame::Header(channel, _)
                | AMQPFrame::Body(channel, _)
                | AMQPFrame::InvalidHeartbeat(channel),
            ) => *channel,
            Ok(AMQPFrame::ProtocolHeader(_) | AMQPFrame::Heartbeat) | Err(_) => 0,
        }
    }
}

/// Collects bytes and gives whole frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    buffer: Vec<u8>,
    taken: usize,
}

impl Frames {
    /// Adds what was read.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let rest = &self.buffer[self.taken..];
        let length = length(rest)?;
        let bytes = rest.get(..length)?.to_vec();
        self.taken += length;
        let decoded = match parse_frame(bytes.as_slice()) {
            Ok((_, frame)) => Ok(frame),
            Err(error) => Err(format!("{error:?}")),
        };
        Some(Frame { bytes, decoded })
    }

    /// Bytes of a frame that is not whole yet.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }
}

fn length(bytes: &[u8]) -> Option<usize> {
    if *bytes.first()? == b'A' {
        return Some(PROTOCOL_HEADER);
    }
    let size: [u8; 4] = bytes.get(3..HEAD)?.try_into().ok()?;
    let payload = usize::try_from(u32::from_be_bytes(size)).ok()?;
    Some(HEAD + payload + END)
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::protocol::{AMQPClass, basic};

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let ack = AMQPFrame::Method(
            3,
            AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack {
                delivery_tag: 7,
                multiple: true,
            })),
        );
        let sent = [
            AMQPFrame::ProtocolHeader(amq_protocol::frame::ProtocolVersion::amqp_0_9_1()),
            ack,
            AMQPFrame::Heartbeat,
            AMQPFrame::Body(3, vec![206; 300]),
        ];
        let bytes: Vec<u8> = sent
            .iter()
            .cloned()
            .flat_map(|f| Frame::made(f).bytes)
            .collect();
        for step in [1, 2, 7, 8, 100, bytes.len()] {
            let mut frames = Frames::default();
            let mut seen = Vec::new();
            for piece in bytes.chunks(step) {
                frames.feed(piece);
                while let Some(frame) = frames.next() {
                    seen.push(frame);
                }
            }
            let decoded: Vec<_> = seen.iter().map(|f| f.decoded.clone().unwrap()).collect();
            assert_eq!(decoded, sent, "in pieces of {step}");
            let forwarded: Vec<u8> = seen.into_iter().flat_map(|frame| frame.bytes).collect();
            assert_eq!(forwarded, bytes);
            assert!(frames.rest().is_empty());
        }
    }

    #[test]
    fn a_frame_that_means_nothing_is_passed_on_as_it_is() {
        let mut frames = Frames::default();
        let bytes = [1, 0, 1, 0, 0, 0, 2, 9, 9, 206];
        frames.feed(&bytes);
        let frame = frames.next().unwrap();
        assert!(frame.decoded.is_err());
        assert_eq!(frame.bytes, bytes);
    }
}

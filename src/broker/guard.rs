//! Checks every frame from the broker before the client library parses it.
//!
//! A message that the library cannot read would end the whole connection, again and again: text that is not UTF-8,
//! a table nested so deeply that the parser overflows its stack, a content header larger than a frame. The guard
//! replaces such a content header by one that the library can read. The new header keeps the properties that can be
//! read, and carries the mark [`MARK`]: what is wrong, and the original bytes.
//!
//! A sender cannot forge the mark. A message that arrives with a header of that name counts as undecodable itself.
//!
//! Pure: bytes in, a verdict out. Frames of a body, which are most of the bytes, are not looked into.

mod content;
mod field;
mod frame;
mod method;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use thiserror::Error;

pub(super) use content::{MARK, MARK_PROPERTIES, MARK_REASON};
use field::Fault;

use frame::{
    FRAME_END, FRAME_MIN, FRAME_OVERHEAD, FrameHead, HEAD_BYTES, Kind, PROTOCOL_HEADER_BYTES,
};
use method::Checked;

/// A content header this many times larger than a frame is still taken into memory whole, so that the properties
/// behind its headers can be read. Of a larger one only the beginning is kept.
const WHOLE_HEADER_FRAMES: usize = 4;

/// The broker broke the protocol in a way that no replacement can mend. The connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Violation {
    /// A frame of a type that AMQP 0-9-1 does not have.
    #[error("the broker sent a frame of unknown type {0}")]
    FrameType(u8),
    /// A frame that is not followed by the octet that ends frames.
    #[error("the broker sent a frame without its end octet")]
    FrameEnd,
    /// A frame, other than a content header, that is larger than agreed.
    #[error("the broker sent a frame of {bytes} bytes; at most {limit} were agreed")]
    FrameSize {
        /// Its size, with the octets around its payload.
        bytes: usize,
        /// The size that `connection.tune` allows.
        limit: usize,
    },
    /// A method that a broker does not send, or whose fields do not fill its frame.
    #[error("the broker sent method {class}.{method}, which cannot be read")]
    Method {
        /// The class.
        class: u16,
        /// The method.
        method: u16,
    },
    /// A content header without a body size.
    #[error("the broker sent a content header of {0} bytes, which is too short to be one")]
    ShortHeader(usize),
}

/// The decision about the bytes given to [`Guard::check`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How many leading bytes may be passed on as they are.
    pub pass: usize,
    /// The bytes that follow them, if the guard replaces a frame.
    pub replacement: Option<Replacement>,
}

/// A replaced frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Replacement {
    /// How many bytes behind the passed ones are dropped.
    pub dropped: usize,
    /// The bytes that are passed on in their place.
    pub bytes: Vec<u8>,
}

/// The state of one connection's incoming side.
#[derive(Debug)]
pub struct Guard {
    frame_max: usize,
    state: State,
    /// Channels on which a method was mended. The content header that follows gets the mark.
    mended: HashMap<u16, Fault>,
    /// The payload of `connection.start`.
    start: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The next byte begins a frame.
    Boundary,
    /// Inside a body or heartbeat frame; so many bytes are left, the end octet included.
    Body { left: usize },
    /// Inside a content header that has been replaced already; so many bytes are left, the end octet included.
    Rest { left: usize },
}

/// The decision about the frame at the front.
enum Front {
    /// It, or a part of a body, may be passed on.
    Pass(usize),
    /// More bytes are needed.
    Incomplete,
    Replace(Replacement),
}

impl Guard {
    /// A guard for a new connection that asks for frames of at most `frame_max` bytes.
    pub fn new(frame_max: u32) -> Self {
        Self {
            frame_max: usize::try_from(frame_max)
                .unwrap_or(usize::MAX)
                .max(FRAME_MIN),
            state: State::Boundary,
            mended: HashMap::new(),
            start: None,
        }
    }

    /// Checks `bytes`, which follow those that earlier calls passed or replaced. Bytes that a verdict neither passes
    /// nor drops are to be given again, with more behind them if there is no replacement.
    ///
    /// # Errors
    /// `Violation` if the connection cannot go on.
    pub fn check(&mut self, bytes: &[u8]) -> Result<Verdict, Violation> {
        let mut pass = 0;
        while pass < bytes.len() {
            match self.front(&bytes[pass..])? {
                Front::Pass(count) => pass += count,
                Front::Incomplete => break,
                Front::Replace(replacement) => {
                    return Ok(Verdict {
                        pass,
                        replacement: Some(replacement),
                    });
                }
            }
        }
        Ok(Verdict {
            pass,
            replacement: None,
        })
    }

    /// Takes the payload of the broker's `connection.start`, once it has been seen.
    pub fn take_start(&mut self) -> Option<Vec<u8>> {
        self.start.take()
    }

    fn front(&mut self, bytes: &[u8]) -> Result<Front, Violation> {
        match self.state {
            State::Boundary => self.frame(bytes),
            State::Body { left } => {
                let count = left.min(bytes.len());
                self.state = remaining(left - count, |left| State::Body { left });
                if count == left && bytes[count - 1] != FRAME_END {
                    return Err(Violation::FrameEnd);
                }
                Ok(Front::Pass(count))
            }
            State::Rest { left } => {
                let dropped = left.min(bytes.len());
                self.state = remaining(left - dropped, |left| State::Rest { left });
                if dropped == left && bytes[dropped - 1] != FRAME_END {
                    return Err(Violation::FrameEnd);
                }
                let bytes = Vec::new();
                Ok(Front::Replace(Replacement { dropped, bytes }))
            }
        }
    }

    fn frame(&mut self, bytes: &[u8]) -> Result<Front, Violation> {
        if bytes[0] == frame::PROTOCOL_HEADER {
            let Some(header) = bytes.get(..PROTOCOL_HEADER_BYTES) else {
                return Ok(Front::Incomplete);
            };
            if !header.starts_with(b"AMQP\0") {
                return Err(Violation::FrameType(frame::PROTOCOL_HEADER));
            }
            return Ok(Front::Pass(PROTOCOL_HEADER_BYTES));
        }
        let Some(head) = FrameHead::parse(bytes)? else {
            return Ok(Front::Incomplete);
        };
        let frame_bytes = head.size.saturating_add(FRAME_OVERHEAD);
        if frame_bytes > self.frame_max && head.kind != Kind::Header {
            return Err(Violation::FrameSize {
                bytes: frame_bytes,
                limit: self.frame_max,
            });
        }
        match head.kind {
            Kind::Body | Kind::Heartbeat => {
                self.state = State::Body {
                    left: head.size + 1,
                };
                Ok(Front::Pass(HEAD_BYTES))
            }
            Kind::Header if frame_bytes > self.frame_max.saturating_mul(WHOLE_HEADER_FRAMES) => {
                self.huge_header(bytes, head)
            }
            Kind::Method | Kind::Header => {
                let Some(frame) = bytes.get(..frame_bytes) else {
                    return Ok(Front::Incomplete);
                };
                if frame[frame_bytes - 1] != FRAME_END {
                    return Err(Violation::FrameEnd);
                }
                let payload = &frame[HEAD_BYTES..frame_bytes - 1];
                let replacement = if head.kind == Kind::Method {
                    self.method(head, payload)?
                } else {
                    self.header(head, payload)?
                };
                Ok(replacement.map_or(Front::Pass(frame_bytes), |payload| {
                    Front::Replace(Replacement {
                        dropped: frame_bytes,
                        bytes: frame::write(head.kind, head.channel, &payload),
                    })
                }))
            }
        }
    }

    /// The payload that replaces a method's, if it has to be replaced.
    fn method(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Vec<u8>>, Violation> {
        if !self.mended.is_empty() {
            self.mended.remove(&head.channel);
        }
        match method::check(payload)? {
            Checked::Fine => Ok(None),
            Checked::Start => {
                self.start = Some(payload.to_vec());
                Ok(None)
            }
            Checked::Tune { frame_max } => {
                let offered = usize::try_from(frame_max).unwrap_or(usize::MAX);
                if offered != 0 {
                    self.frame_max = self.frame_max.min(offered).max(FRAME_MIN);
                }
                Ok(None)
            }
            Checked::Mended {
                payload,
                fault,
                content_follows,
            } => {
                if content_follows {
                    self.mended.insert(head.channel, fault);
                }
                Ok(Some(payload))
            }
        }
    }

    /// The payload that replaces a content header's, if it has to be replaced.
    fn header(&mut self, head: FrameHead, payload: &[u8]) -> Result<Option<Vec<u8>>, Violation> {
        let mended = if self.mended.is_empty() {
            None
        } else {
            self.mended.remove(&head.channel)
        };
        if payload.len() < content::FIXED_BYTES {
            return Err(Violation::ShortHeader(payload.len()));
        }
        let limit = self.frame_max - FRAME_OVERHEAD;
        let fault = mended.or_else(|| {
            (payload.len() > limit).then_some(Fault::TooLarge {
                bytes: payload.len(),
                limit,
            })
        });
        let fault = fault.or_else(|| content::check(payload).err());
        Ok(fault.map(|fault| content::replace(payload, payload.len(), &fault, limit)))
    }

    /// Replaces a content header that is not taken into memory whole.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "it stands beside functions that can fail"
    )]
    fn huge_header(&mut self, bytes: &[u8], head: FrameHead) -> Result<Front, Violation> {
        let seen = HEAD_BYTES + self.frame_max;
        let Some(begin) = bytes.get(..seen) else {
            return Ok(Front::Incomplete);
        };
        self.mended.remove(&head.channel);
        let limit = self.frame_max - FRAME_OVERHEAD;
        let fault = Fault::TooLarge {
            bytes: head.size,
            limit,
        };
        let payload = content::replace(&begin[HEAD_BYTES..], head.size, &fault, limit);
        self.state = State::Rest {
            left: head.size + FRAME_OVERHEAD - seen,
        };
        Ok(Front::Replace(Replacement {
            dropped: seen,
            bytes: frame::write(Kind::Header, head.channel, &payload),
        }))
    }
}

fn remaining(left: usize, inside: impl Fn(usize) -> State) -> State {
    if left == 0 {
        State::Boundary
    } else {
        inside(left)
    }
}

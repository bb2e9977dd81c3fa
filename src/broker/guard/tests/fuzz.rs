//! Whatever a broker sends.

use amq_protocol::frame::{AMQPFrame, parse_frame};

use super::super::testing::through;
use super::super::*;

/// Small, so that content headers larger than a frame come up.
const FRAME_MAX: u32 = 4_096;

/// The guard passes only what the client library's parser can read, in the order of the frames and with the sizes of the
/// bodies. The parser would overflow its stack on what nests deeper than the guard lets pass.
#[test]
fn whatever_a_broker_sends_the_library_can_read_what_is_passed() {
    tidegate_fuzzing::run("guard", &[], |input| {
        // The first byte says into how large pieces the rest is cut.
        let Some((step, bytes)) = input.split_first() else {
            return;
        };
        let step = usize::from(*step).max(1);
        let mut guard = Guard::new(FRAME_MAX);
        let Ok(passed) = through(&mut guard, bytes, step) else {
            // The connection ends here, in words.
            return;
        };
        assert!(
            passed.len() <= bytes.len() + added(bytes),
            "the guard makes much of little"
        );
        let mut rest = &passed[..];
        while !rest.is_empty() {
            match parse_frame(rest) {
                Ok((left, frame)) => {
                    if matches!(frame, AMQPFrame::Header(..)) {
                        assert!(rest.len() - left.len() <= FRAME_MAX as usize);
                    }
                    rest = left;
                }
                Err(error) if error.is_incomplete() => return,
                Err(error) => panic!("the library cannot read what was passed: {error:?}"),
            }
        }
    });
}

/// The most bytes that marks add: one to each content header, which has eight bytes at least.
fn added(bytes: &[u8]) -> usize {
    (bytes.len() / 8 + 1) * 512
}

//! Whatever a broker sends: the guard neither panics nor lets pass what the client library's parser cannot read, and it
//! keeps the order of frames and the sizes of bodies.
//!
//! `cargo +nightly fuzz run guard fuzz/corpus/guard fuzz/seeds/guard`

#![no_main]

use amq_protocol::frame::{AMQPFrame, parse_frame};
use libfuzzer_sys::fuzz_target;
use tidegate::internal::broker::Guard;

/// Small, so that content headers larger than a frame come up.
const FRAME_MAX: u32 = 4096;

fuzz_target!(|data: &[u8]| {
    // The first byte says into how large pieces the rest is cut.
    let Some((step, bytes)) = data.split_first() else {
        return;
    };
    let mut guard = Guard::new(FRAME_MAX);
    let (mut out, mut held) = (Vec::new(), Vec::new());
    'pieces: for piece in bytes.chunks(usize::from(*step).max(1)) {
        held.extend_from_slice(piece);
        loop {
            let Ok(verdict) = guard.check(&held) else {
                // The connection ends here, in words.
                break 'pieces;
            };
            out.extend(held.drain(..verdict.pass));
            let Some(replacement) = verdict.replacement else {
                break;
            };
            held.drain(..replacement.dropped);
            out.extend(replacement.bytes);
        }
    }
    let mut rest = &out[..];
    while !rest.is_empty() {
        match parse_frame(rest) {
            Ok((left, frame)) => {
                if let AMQPFrame::Header(_, header) = frame {
                    assert!(rest.len() - left.len() <= FRAME_MAX as usize);
                    std::hint::black_box(header.body_size);
                }
                rest = left;
            }
            Err(error) if error.is_incomplete() => return,
            Err(error) => panic!("the library cannot read what the guard let pass: {error:?}"),
        }
    }
});

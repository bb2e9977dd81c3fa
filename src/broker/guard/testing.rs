//! Frames for the guard's tests, and what comes out of it.

use std::iter;

use lapin::protocol::basic;
use lapin::types::{AMQPValue, FieldTable};

use super::*;

pub(super) const FRAME_MAX: u32 = 8192;

pub(super) fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend_from_slice(&channel.to_be_bytes());
    frame.extend_from_slice(&u32::try_from(payload.len()).expect("small").to_be_bytes());
    frame.extend_from_slice(payload);
    frame.push(0xce);
    frame
}

pub(super) fn short(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("short");
    iter::once(length).chain(text.iter().copied()).collect()
}

pub(super) fn long(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("it fits");
    [&length.to_be_bytes(), content].concat()
}

pub(super) fn deliver(channel: u16, routing_key: &[u8]) -> Vec<u8> {
    let payload = [
        &[0, 60, 0, 60][..],
        &short(b"tag"),
        &7_u64.to_be_bytes(),
        &[0],
        &short(b"amq.topic"),
        &short(routing_key),
    ];
    frame(1, channel, &payload.concat())
}

pub(super) fn header(channel: u16, flags: u16, properties: &[u8]) -> Vec<u8> {
    let payload = [
        &[0, 60, 0, 0][..],
        &4_u64.to_be_bytes(),
        &flags.to_be_bytes(),
        properties,
    ];
    frame(2, channel, &payload.concat())
}

/// Content headers with these headers (a table's content), delivery mode and message id.
pub(super) fn with_headers(headers: &[u8]) -> Vec<u8> {
    let flags = 1 << 13 | 1 << 12 | 1 << 7;
    header(
        3,
        flags,
        &[&long(headers), &[2][..], &short(b"id-1")].concat(),
    )
}

pub(super) fn body(channel: u16) -> Vec<u8> {
    frame(3, channel, b"body")
}

/// The output of a guard that is given `bytes` in pieces of `step`.
pub(super) fn through(guard: &mut Guard, bytes: &[u8], step: usize) -> Result<Vec<u8>, Violation> {
    let (mut out, mut held) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(step) {
        held.extend_from_slice(piece);
        loop {
            let verdict = guard.check(&held)?;
            out.extend(held.drain(..verdict.pass));
            let Some(replacement) = verdict.replacement else {
                break;
            };
            held.drain(..replacement.dropped);
            out.extend(replacement.bytes);
        }
    }
    Ok(out)
}

pub(super) fn guarded(bytes: &[u8]) -> Vec<u8> {
    through(&mut Guard::new(FRAME_MAX), bytes, bytes.len()).expect("nothing is violated")
}

/// The frames in `bytes`, as type, channel and payload, each small enough.
pub(super) fn frames(mut bytes: &[u8]) -> Vec<(u8, u16, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Ok(Some(head)) = FrameHead::parse(bytes) {
        assert!(head.size + FRAME_OVERHEAD <= FRAME_MAX as usize);
        let Some(whole) = bytes.get(..head.size + FRAME_OVERHEAD) else {
            break;
        };
        assert_eq!(whole[head.size + HEAD_BYTES], FRAME_END);
        frames.push((whole[0], head.channel, whole[7..7 + head.size].to_vec()));
        bytes = &bytes[whole.len()..];
    }
    frames
}

/// The library's own parser on a content header's payload.
pub(super) fn parse(payload: &[u8]) -> basic::AMQPProperties {
    let (rest, properties) =
        basic::parse_properties(&payload[12..]).expect("the library can read it");
    assert!(rest.is_empty());
    properties
}

/// The properties in the content header with this payload, once the guard has seen it.
pub(in crate::broker) fn properties_of(payload: &[u8]) -> Option<basic::AMQPProperties> {
    let sent = frame(2, 1, payload);
    let passed = through(&mut Guard::new(FRAME_MAX), &sent, sent.len()).ok()?;
    let frames = frames(&passed);
    Some(parse(&frames.first()?.2))
}

/// The properties of the only content header in `bytes`, and the table of its mark.
pub(super) fn marked(bytes: &[u8]) -> (basic::AMQPProperties, FieldTable) {
    let frames = frames(bytes);
    let header = frames
        .iter()
        .find(|(kind, ..)| *kind == 2)
        .expect("there is one");
    assert_eq!(
        header.2[4..12],
        4_u64.to_be_bytes(),
        "the body's size is kept"
    );
    let properties = parse(&header.2);
    let headers = properties.headers().clone().expect("there are headers");
    match headers.inner().get(MARK) {
        Some(AMQPValue::FieldTable(mark)) => (properties, mark.clone()),
        other => panic!("no mark, but {other:?}"),
    }
}

pub(super) fn reason(mark: &FieldTable) -> String {
    match mark.inner().get(MARK_REASON) {
        Some(AMQPValue::LongString(reason)) => reason.to_string(),
        other => panic!("no reason, but {other:?}"),
    }
}

pub(super) fn original(mark: &FieldTable) -> Vec<u8> {
    match mark.inner().get(MARK_PROPERTIES) {
        Some(AMQPValue::ByteArray(bytes)) => bytes.as_slice().to_vec(),
        other => panic!("no properties, but {other:?}"),
    }
}

pub(super) fn nested(kind: u8, depth: usize) -> Vec<u8> {
    let mut value = vec![b'V'];
    for _ in 0..depth {
        let inside = if kind == b'F' {
            [&short(b"n")[..], &value].concat()
        } else {
            value
        };
        value = [&[kind][..], &long(&inside)].concat();
    }
    value
}

use std::iter;

use lapin::protocol::basic;
use lapin::types::{AMQPValue, FieldArray, FieldTable};
use proptest::prelude::*;

use super::*;

const FRAME_MAX: u32 = 8192;

fn frame(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![kind];
    frame.extend_from_slice(&channel.to_be_bytes());
    frame.extend_from_slice(&u32::try_from(payload.len()).expect("small").to_be_bytes());
    frame.extend_from_slice(payload);
    frame.push(0xce);
    frame
}

fn short(text: &[u8]) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("short");
    iter::once(length).chain(text.iter().copied()).collect()
}

fn long(content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).expect("it fits");
    [&length.to_be_bytes(), content].concat()
}

fn deliver(channel: u16, routing_key: &[u8]) -> Vec<u8> {
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

fn header(channel: u16, flags: u16, properties: &[u8]) -> Vec<u8> {
    let payload = [
        &[0, 60, 0, 0][..],
        &4_u64.to_be_bytes(),
        &flags.to_be_bytes(),
        properties,
    ];
    frame(2, channel, &payload.concat())
}

/// Content headers with these headers (a table's content), delivery mode and message id.
fn with_headers(headers: &[u8]) -> Vec<u8> {
    let flags = 1 << 13 | 1 << 12 | 1 << 7;
    header(
        3,
        flags,
        &[&long(headers), &[2][..], &short(b"id-1")].concat(),
    )
}

fn body(channel: u16) -> Vec<u8> {
    frame(3, channel, b"body")
}

/// What comes out of a guard that is given `bytes` in pieces of `step`.
fn through(guard: &mut Guard, bytes: &[u8], step: usize) -> Result<Vec<u8>, Violation> {
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

fn guarded(bytes: &[u8]) -> Vec<u8> {
    through(&mut Guard::new(FRAME_MAX), bytes, bytes.len()).expect("nothing is violated")
}

/// The frames in `bytes`, as type, channel and payload, each small enough.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u16, Vec<u8>)> {
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
fn parse(payload: &[u8]) -> basic::AMQPProperties {
    let (rest, properties) =
        basic::parse_properties(&payload[12..]).expect("the library can read it");
    assert!(rest.is_empty());
    properties
}

/// The properties of the only content header in `bytes`, and the table of its mark.
fn marked(bytes: &[u8]) -> (basic::AMQPProperties, FieldTable) {
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

fn reason(mark: &FieldTable) -> String {
    match mark.inner().get(MARK_REASON) {
        Some(AMQPValue::LongString(reason)) => reason.to_string(),
        other => panic!("no reason, but {other:?}"),
    }
}

fn original(mark: &FieldTable) -> Vec<u8> {
    match mark.inner().get(MARK_PROPERTIES) {
        Some(AMQPValue::ByteArray(bytes)) => bytes.as_slice().to_vec(),
        other => panic!("no properties, but {other:?}"),
    }
}

fn nested(kind: u8, depth: usize) -> Vec<u8> {
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

#[test]
fn what_the_library_can_read_passes_as_it_is() {
    let headers = [
        &short(b"text")[..],
        b"S",
        &long(b"\xff\xfe"),
        &short(b"list"),
        &nested(b'A', 20),
    ];
    let bytes = [
        b"AMQP\x00\x00\x09\x01".to_vec(),
        deliver(3, "café".as_bytes()),
        with_headers(&headers.concat()),
        body(3),
        frame(8, 0, b""),
    ]
    .concat();
    assert_eq!(guarded(&bytes), bytes);
}

#[test]
fn a_bad_property_costs_that_property_alone() {
    let flags = 1 << 15 | 1 << 12 | 1 << 7 | 1 << 3;
    let properties = [
        &short(b"text/plain")[..],
        &[2],
        &short(b"m\xfc-\xff"),
        &short(b"shop"),
    ];
    let properties = properties.concat();
    let bytes = [deliver(3, b"q"), header(3, flags, &properties), body(3)].concat();
    let (kept, mark) = marked(&guarded(&bytes));
    assert_eq!(reason(&mark), "the property message_id is not UTF-8");
    assert_eq!(original(&mark)[2..], properties);
    assert_eq!(
        kept.content_type().as_ref().expect("kept").as_str(),
        "text/plain"
    );
    assert_eq!(kept.delivery_mode(), &Some(2));
    assert_eq!(kept.message_id(), &None);
    assert_eq!(kept.app_id().as_ref().expect("kept").as_str(), "shop");
}

#[test]
fn a_bad_header_costs_that_header_alone() {
    let good = [&short(b"good")[..], b"t\x01"].concat();
    let unknown = [&good[..], &short(b"u"), b"?", &short(b"lost"), b"V"].concat();
    let cases = [
        (
            [&short(b"na\xefve")[..], b"V", &good].concat(),
            "name of a header",
        ),
        (
            [&short(b"deep")[..], &nested(b'F', 40), &good].concat(),
            "32 levels",
        ),
        (
            [&short(b"deep")[..], &nested(b'A', 1_000), &good].concat(),
            "32 levels",
        ),
        (unknown, "unknown type 0x3f"),
        (
            [&good[..], &short(b"cut"), b"S\x00\x00\x01\x00x"].concat(),
            "do not add up",
        ),
        (
            [&short(MARK.as_bytes())[..], b"S", &long(b"forged"), &good].concat(),
            "reserved",
        ),
    ];
    for (headers, expected) in cases {
        let bytes = [deliver(3, b"q"), with_headers(&headers), body(3)].concat();
        let (kept, mark) = marked(&guarded(&bytes));
        assert!(reason(&mark).contains(expected), "{}", reason(&mark));
        assert_eq!(kept.message_id().as_ref().expect("kept").as_str(), "id-1");
        let headers = kept.headers().clone().expect("there are some");
        let names: Vec<_> = headers.inner().keys().map(ToString::to_string).collect();
        assert_eq!(names, ["good", MARK]);
    }
}

#[test]
fn a_routing_key_that_is_not_text_marks_its_own_message_alone() {
    let bytes = [
        deliver(3, b"caf\xe9"),
        deliver(4, b"q"),
        header(4, 0, b""),
        body(4),
        header(3, 0, b""),
        body(3),
        deliver(3, b"q"),
        header(3, 0, b""),
    ]
    .concat();
    let out = frames(&guarded(&bytes));
    let text = String::from_utf8_lossy(&out[0].2).into_owned();
    assert!(text.ends_with("\u{6}caf%E9"), "{text:?}");
    let marks: Vec<_> = out
        .iter()
        .filter(|(kind, ..)| *kind == 2)
        .map(|(_, channel, payload)| (*channel, parse(payload).headers().is_some()))
        .collect();
    assert_eq!(marks, [(4, false), (3, true), (3, false)]);
}

#[test]
fn text_of_other_methods_is_mended_without_a_mark() {
    let text = [b'x'; 253]
        .into_iter()
        .chain(*b"\xc3\xa9")
        .collect::<Vec<_>>();
    let mut cut = text.clone();
    cut.pop();
    for (text, expected) in [(&text, "é"), (&cut, "x")] {
        let payload = [&[0, 20, 0, 40, 1, 0x94][..], &short(text), &[0, 50, 0, 10]].concat();
        let out = frames(&guarded(&frame(1, 1, &payload)));
        let text = &out[0].2[7..out[0].2.len() - 4];
        assert!(
            String::from_utf8(text.to_vec())
                .expect("text")
                .ends_with(expected)
        );
    }
}

#[test]
fn a_content_header_larger_than_a_frame_is_cut() {
    let limit = FRAME_MAX as usize;
    for size in [limit - 30, limit, 3 * limit, 5 * limit, 40 * limit] {
        let headers = [&short(b"h")[..], b"S", &long(&vec![b'x'; size])].concat();
        let bytes = [
            deliver(3, b"q"),
            with_headers(&headers),
            body(3),
            deliver(3, b"next"),
        ];
        for step in [1_000, 100_000_000] {
            let mut guard = Guard::new(FRAME_MAX);
            let out = through(&mut guard, &bytes.concat(), step).expect("nothing is violated");
            let (kept, mark) = marked(&out);
            assert!(reason(&mark).contains("a frame of this connection holds 8184"));
            assert_eq!(kept.message_id().is_some(), size < 4 * limit);
            assert!(original(&mark).len() > limit / 4);
            assert_eq!(frames(&out).len(), 4);
        }
    }
}

#[test]
fn tune_lowers_the_limit() {
    let tune = [
        &[0, 10, 0, 30, 0, 0][..],
        &4_096_u32.to_be_bytes(),
        &[0, 60],
    ]
    .concat();
    let mut guard = Guard::new(FRAME_MAX);
    let mut bytes = frame(1, 0, &tune);
    bytes.extend(frame(3, 1, &[0; 4_088]));
    assert_eq!(through(&mut guard, &bytes, 64).expect("it fits"), bytes);
    let error = through(&mut guard, &frame(3, 1, &[0; 4_089]), 64).expect_err("too large");
    assert_eq!(
        error,
        Violation::FrameSize {
            bytes: 4_097,
            limit: 4_096
        }
    );
}

#[test]
fn the_brokers_greeting_is_kept() {
    let payload = [
        &[0, 10, 0, 10, 0, 9][..],
        &long(b""),
        &long(b"PLAIN"),
        &long(b"en_US"),
    ];
    let payload = payload.concat();
    let mut guard = Guard::new(FRAME_MAX);
    through(&mut guard, &frame(1, 0, &payload), 5).expect("it is fine");
    assert_eq!(guard.take_start(), Some(payload));
}

#[test]
fn what_no_replacement_can_mend_is_an_error() {
    let refused = |bytes: &[u8]| through(&mut Guard::new(FRAME_MAX), bytes, 64).expect_err("bad");
    assert_eq!(refused(b"HTTP/1.1 400"), Violation::FrameType(b'H'));
    let mut unended = body(1);
    unended[11] = 0;
    assert_eq!(refused(&unended), Violation::FrameEnd);
    let method = Violation::Method {
        class: 60,
        method: 40,
    };
    assert_eq!(refused(&frame(1, 1, &[0, 60, 0, 40])), method);
    assert_eq!(refused(&frame(2, 1, &[0; 13])), Violation::ShortHeader(13));
}

/// A table's content, well-formed or not.
fn table() -> impl Strategy<Value = Vec<u8>> {
    let scalar = prop::collection::vec(any::<u8>(), 0..12);
    let value = (
        prop::sample::select(b"tbBsuIiLlfdDTSxAFV?".to_vec()),
        scalar,
    )
        .prop_map(|(kind, bytes)| match kind {
            b'S' | b'x' | b'A' | b'F' => [&[kind][..], &long(&bytes)].concat(),
            _ => [&[kind][..], &bytes].concat(),
        });
    let name = prop_oneof![
        "[a-z]{0,5}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..5)
    ];
    prop::collection::vec((name, value), 0..4).prop_map(|entries| {
        entries
            .into_iter()
            .flat_map(|(name, value)| [short(&name), value].concat())
            .collect()
    })
}

proptest! {
    #[test]
    fn whatever_the_properties_are_the_library_reads_what_comes_out(
        flags in any::<u16>(),
        table in table(),
        text in prop::collection::vec(prop_oneof![Just(b'a'), any::<u8>()], 0..10),
        rest in prop::collection::vec(any::<u8>(), 0..60),
        key in prop::collection::vec(any::<u8>(), 0..10),
        step in 1_usize..200,
    ) {
        let properties = [&short(&text)[..], &long(&table), &rest].concat();
        let flags = if rest.len() % 2 == 0 { flags } else { 1 << 15 | 1 << 13 };
        let bytes = [deliver(9, &key), header(9, flags, &properties), body(9)].concat();
        let mut guard = Guard::new(FRAME_MAX);
        let out = through(&mut guard, &bytes, step).expect("nothing is violated");
        let out = frames(&out);
        let kinds: Vec<_> = out.iter().map(|(kind, ..)| *kind).collect();
        prop_assert_eq!(kinds, [1, 2, 3]);
        prop_assert!(lapin::protocol::parse_class(&out[0].2[..]).is_ok());
        let (left, properties) = basic::parse_properties(&out[1].2[12..]).expect("it is read");
        prop_assert!(left.is_empty());
        let marked = properties.headers().as_ref().is_some_and(|headers| headers.contains_key(MARK));
        // What the library could read before is left alone.
        let before = basic::parse_properties(&bytes[deliver(9, &key).len() + 19..][..properties_len(&bytes, &key)]);
        let readable = matches!(before, Ok((b"", _))) && flags & 3 == 0 && std::str::from_utf8(&key).is_ok();
        prop_assert_eq!(marked, !readable);
        prop_assert_eq!(&out[2].2[..], b"body");
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), step in 1_usize..50) {
        let _ = through(&mut Guard::new(FRAME_MAX), &bytes, step);
    }
}

/// Bytes of flags and properties in a delivery of [`deliver`], [`header`] and [`body`].
fn properties_len(bytes: &[u8], key: &[u8]) -> usize {
    bytes.len() - deliver(9, key).len() - body(9).len() - FRAME_OVERHEAD - 12
}

#[test]
fn lists_of_nothing_are_read_to_their_end() {
    let list = FieldArray::from(vec![AMQPValue::Void; 3]);
    assert_eq!(list.as_slice().len(), 3);
    let headers = [&short(b"voids")[..], b"A", &long(b"VVV")].concat();
    let bytes = with_headers(&headers);
    assert_eq!(guarded(&bytes), bytes);
}

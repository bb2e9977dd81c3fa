//! The guard passes good frames, and replaces bad ones.

use lapin::types::{AMQPValue, FieldArray};

use super::testing::*;
use super::*;

mod fuzz;
mod properties;

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

#[test]
fn lists_of_nothing_are_read_to_their_end() {
    let list = FieldArray::from(vec![AMQPValue::Void; 3]);
    assert_eq!(list.as_slice().len(), 3);
    let headers = [&short(b"voids")[..], b"A", &long(b"VVV")].concat();
    let bytes = with_headers(&headers);
    assert_eq!(guarded(&bytes), bytes);
}

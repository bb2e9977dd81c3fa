//! Whatever comes in, the library's parser reads what comes out.

use lapin::protocol::basic;
use proptest::prelude::*;

use crate::broker::guard::testing::*;
use crate::broker::guard::*;

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
        let readable = matches!(before, Ok((b"", _))) && flags.trailing_zeros() >= 2 && std::str::from_utf8(&key).is_ok();
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

//! Bodies made to measure: the same number gives the same body, on every machine.

use bytes::Bytes;

/// The characters of a made body: printable, one byte each, the same in JSON and in a shell.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The body of message `number`: exactly `size` bytes of printable ASCII that look random and are not, so
/// that a receiver can check them and a second run repeats them.
pub(crate) fn payload(number: u64, size: usize) -> Bytes {
    let mut state = number;
    let mut body = Vec::with_capacity(size.next_multiple_of(8));
    while body.len() < size {
        let word = split_mix(&mut state);
        body.extend(
            word.to_le_bytes()
                .map(|byte| ALPHABET[usize::from(byte & 63)]),
        );
    }
    body.truncate(size);
    Bytes::from(body)
}

/// One step of `SplitMix64` (Steele, Lea, Flood 2014): eight bytes a step, good from any seed, 0 included.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_body_has_the_size_asked_for_and_only_printable_characters() {
        for size in [0, 1, 7, 8, 9, 256, 10_001] {
            let body = payload(3, size);
            assert_eq!(body.len(), size);
            assert!(body.iter().all(u8::is_ascii_graphic));
        }
    }

    #[test]
    fn a_body_is_the_same_each_time_and_differs_from_its_neighbours() {
        // The generator's first output for the seed 0 is 0xe220_a839_7b1d_cdaf.
        assert_eq!(&payload(0, 16)[..], b"vNd75ogi0l5hqe4u");
        let bodies: HashSet<_> = (0..1000).map(|number| payload(number, 16)).collect();
        assert_eq!(bodies.len(), 1000);
    }
}

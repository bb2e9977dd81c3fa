//! Changes to inputs.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// The most changes to one input.
const CHANGES: usize = 8;
/// The longest piece that is copied or removed.
const PIECE: usize = 64;
/// How often a piece is repeated at most: nesting and long lists grow from that.
const REPEATS: usize = 200;
/// Bytes at which formats and lengths turn.
const TURNING: [u8; 8] = [0, 1, 0x7f, 0x80, 0xfe, 0xff, b'\n', b'"'];
/// Lengths and numbers at which formats turn.
const NUMBERS: [u32; 8] = [
    0,
    1,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
];

/// One of `corpus`, changed in a few places.
pub(crate) fn mutated(corpus: &[&[u8]], words: &[&str], random: &mut StdRng) -> Vec<u8> {
    let mut input = corpus[random.random_range(0..corpus.len())].to_vec();
    for _ in 0..random.random_range(1..=CHANGES) {
        let at = random.random_range(0..=input.len());
        change(&mut input, at, corpus, words, random);
    }
    input
}

fn change(input: &mut Vec<u8>, at: usize, corpus: &[&[u8]], words: &[&str], random: &mut StdRng) {
    let piece = at..(at + random.random_range(0..=PIECE)).min(input.len());
    match random.random_range(0..9) {
        0 => {
            if let Some(byte) = input.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(at) {
                *byte = TURNING[random.random_range(0..TURNING.len())];
            }
        }
        2 => insert(input, at, &random.random::<[u8; 4]>()),
        3 => drop(input.drain(piece)),
        4 => {
            let copied = input[piece].to_vec();
            let to = random.random_range(0..=input.len());
            insert(input, to, &copied);
        }
        5 => {
            let number = NUMBERS[random.random_range(0..NUMBERS.len())].to_be_bytes();
            let width = [1, 2, 4][random.random_range(0..3)];
            let end = (at + width).min(input.len());
            input[at..end].copy_from_slice(&number[..end - at]);
        }
        6 => {
            // The beginning of this one, and the end of another.
            let other = corpus[random.random_range(0..corpus.len())];
            let from = random.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        7 => {
            let short = at..(at + random.random_range(0..8)).min(input.len());
            let repeated = input[short].repeat(random.random_range(0..REPEATS));
            insert(input, at, &repeated);
        }
        _ => {
            if !words.is_empty() {
                let word = words[random.random_range(0..words.len())];
                insert(input, at, word.as_bytes());
            }
        }
    }
}

fn insert(input: &mut Vec<u8>, at: usize, more: &[u8]) {
    input.splice(at..at, more.iter().copied());
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn mutations_follow_from_their_seed_and_differ_from_each_other() {
        let corpus: [&[u8]; 2] = [b"{\"a\":[1,2]}", b""];
        let of = |seed| mutated(&corpus, &["null"], &mut StdRng::seed_from_u64(seed));
        let all: Vec<_> = (0..500).map(of).collect();
        let again: Vec<_> = (0..500).map(of).collect();
        assert_eq!(all, again);
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert!(different.len() > 300, "{}", different.len());
        assert!(
            all.iter()
                .any(|input| input.windows(4).any(|it| it == b"null"))
        );
    }
}

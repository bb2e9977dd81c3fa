//! Fuzzing in ordinary tests, on stable Rust: a check runs on each input of a committed corpus, and then on mutations of
//! them.
//!
//! The inputs follow from their number alone, so that a failure comes again. `TIDEGATE_FUZZ_ITERATIONS` sets how many
//! mutations a target gets, `TIDEGATE_FUZZ_FIRST` the number of the first.

mod mutate;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Mutations that a target gets if the environment does not say otherwise.
const ITERATIONS: u64 = 1_000;
/// The longest input, in bytes.
const LONGEST: usize = 64 * 1024;

/// The number that the environment names.
///
/// # Panics
/// The variable is set, and is not a number.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().expect("the variable is a whole number"))
}

/// Runs `check` on each file in `fuzz/corpus/<target>`, and on mutations of them. `words` are texts that mutations put
/// into inputs, such as the keywords of a format.
///
/// # Panics
/// If `check` panics: the message names the input, and where it was written. If there is no corpus.
pub fn run(target: &str, words: &[&str], check: impl Fn(&[u8])) {
    let corpus = corpus(target);
    for (name, input) in &corpus {
        checked(&check, target, name, input);
    }
    let inputs: Vec<&[u8]> = corpus.iter().map(|(_, input)| input.as_slice()).collect();
    let first = number("TIDEGATE_FUZZ_FIRST").unwrap_or(0);
    let iterations = number("TIDEGATE_FUZZ_ITERATIONS").unwrap_or(ITERATIONS);
    for seed in first..first + iterations {
        let mut random = StdRng::seed_from_u64(seed);
        let mut input = mutate::mutated(&inputs, words, &mut random);
        input.truncate(LONGEST);
        let name = format!("TIDEGATE_FUZZ_FIRST={seed}");
        checked(&check, target, &name, &input);
    }
}

fn checked(check: impl Fn(&[u8]), target: &str, name: &str, input: &[u8]) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(input))) else {
        return;
    };
    let file = format!("{target}-{}", name.replace('=', "-"));
    let kept = std::env::temp_dir().join(file);
    if fs::write(&kept, input).is_err() {
        resume_unwind(panic);
    }
    let text = String::from_utf8_lossy(input);
    let kept = kept.display();
    panic!("{target} fails with {name}, kept as {kept}:\n{text}");
}

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let folder = folder.join(target);
    let entries = fs::read_dir(&folder);
    let entries = entries.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let read = |path: &PathBuf| {
        let name = path.file_name()?.to_string_lossy().into_owned();
        Some((name, fs::read(path).ok()?))
    };
    let corpus: Vec<_> = paths.iter().filter_map(read).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    corpus
}

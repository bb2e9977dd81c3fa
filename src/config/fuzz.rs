//! Whatever a file says: settings, or errors that help and give nothing away.

use std::fs;

use super::{HandlersFrom, load};

/// A password that files of the corpus have. Mutations may change it, but not make it up.
const SECRET: &str = "s3cr3t-Zb7q";
/// Characters of one error, at most.
const ERROR_LIMIT: usize = 2_000;

#[test]
fn whatever_a_file_says_is_settings_or_errors_without_secrets() {
    let words = [
        "[[node]]\n",
        "[broker]\n",
        "queue = ",
        "\"18446744073709551616s\"",
        "-1",
        "\"1e9GiB\"",
        "handler = { log = {} }",
        "node[9999999] = 1\n",
        "&a [*a, *a]",
        "[[[[[[[[",
    ];
    let folder = tempfile::tempdir().expect("a folder for the test");
    let yaml = if cfg!(feature = "yaml") {
        "yaml"
    } else {
        "json"
    };
    tidegate_fuzzing::run("settings", &words, |input| {
        // The first byte names the format.
        let Some((format, text)) = input.split_first() else {
            return;
        };
        let extension = match format {
            b'y' => yaml,
            b'j' => "json",
            _ => "toml",
        };
        let path = folder.path().join(format!("tidegate.{extension}"));
        fs::write(&path, text).expect("the folder is there");
        for handlers in [HandlersFrom::Configuration, HandlersFrom::Nobody] {
            let Err(errors) = load(&path, [], handlers) else {
                continue;
            };
            let told = errors.to_string();
            assert!(!told.contains(SECRET), "{told}");
            for error in told.lines() {
                assert!(error.len() <= ERROR_LIMIT, "{error}");
            }
        }
    });
}

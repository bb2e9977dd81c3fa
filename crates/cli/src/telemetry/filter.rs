//! The log filter. Pure.

use std::str::FromStr;

use tracing_subscriber::EnvFilter;

/// The levels, as `--log` takes them.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A level, or directives such as `tidegate=debug`, separated by commas. Checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFilter(String);

impl LogFilter {
    /// One level for everything.
    pub(crate) fn level(level: &'static str) -> Self {
        debug_assert!(is_level(level));
        Self(level.to_owned())
    }

    /// Whether nothing is said.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The filter itself.
    pub(super) fn directives(&self) -> EnvFilter {
        EnvFilter::try_new(&self.0).expect("it was read when it was given")
    }
}

impl FromStr for LogFilter {
    type Err = String;

    /// The library takes a word that is no level for the name of a target, and logs nothing else: a misspelt level
    /// would mean silence.
    fn from_str(text: &str) -> Result<Self, String> {
        let directives = text.split(',').map(str::trim);
        let directives: Vec<&str> = directives.filter(|word| !word.is_empty()).collect();
        for directive in &directives {
            if !directive.contains(['=', '[']) && !is_level(directive) {
                return Err(format!(
                    "{directive:?} is no level; expected {}, or directives such as tidegate=debug",
                    LEVELS.join(", ")
                ));
            }
        }
        let filter = directives.join(",");
        let read = EnvFilter::try_new(&filter).map_err(|error| error.to_string());
        read.map(|_filter| Self(filter))
    }
}

fn is_level(word: &str) -> bool {
    let number = word.parse::<u8>().is_ok_and(|level| level <= 5);
    number || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_taken() {
        for text in [
            "info",
            "WARN",
            "off",
            "4",
            "tidegate=debug",
            "warn, tidegate=trace",
            "[span]=debug",
            "",
        ] {
            assert!(text.parse::<LogFilter>().is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_refused_by_name() {
        for text in ["inof", "info,tidegaet", "verbose", "6", "tidegate=inof"] {
            assert!(text.parse::<LogFilter>().is_err(), "{text:?}");
        }
        let error = "inof".parse::<LogFilter>().unwrap_err();
        assert!(
            error.starts_with("\"inof\" is no level; expected off, error,"),
            "{error}"
        );
    }
}

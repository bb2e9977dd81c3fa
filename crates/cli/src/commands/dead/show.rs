//! What a look at dead letters prints, gathered until the letters are back in their place.

use std::io::{self, BufReader, Read as _, Seek as _, Write as _};

use serde::Serialize;
use tempfile::SpooledTempFile;

use crate::output::{OutputError, print_aside};

/// How much is kept in memory; more goes to a temporary file.
const MEMORY_LIMIT: usize = 8 << 20;
/// How much is printed at a time.
const CHUNK: usize = 256 << 10;

/// Lines to print.
#[derive(Debug)]
pub(super) struct Shown {
    text: SpooledTempFile,
    failure: Option<io::Error>,
}

impl Default for Shown {
    fn default() -> Self {
        Self {
            text: SpooledTempFile::new(MEMORY_LIMIT),
            failure: None,
        }
    }
}

impl Shown {
    /// Adds a line of JSON.
    pub(super) fn add_json(&mut self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(line) => self.add(&line),
            Err(error) => self.fail(error.into()),
        }
    }

    /// Adds a line, or several.
    pub(super) fn add(&mut self, line: &str) {
        if let Err(error) = writeln!(self.text, "{line}") {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.failure.get_or_insert(error);
    }

    /// Prints everything. The inner result says how standard output took it.
    ///
    /// # Errors
    /// If the lines could not be gathered.
    pub(super) async fn print(mut self) -> io::Result<Result<(), OutputError>> {
        if let Some(failure) = self.failure {
            let text = format!("cannot gather what to print: {failure}");
            return Err(io::Error::new(failure.kind(), text));
        }
        self.text.rewind()?;
        let mut reader = BufReader::new(self.text);
        loop {
            let mut chunk = Vec::with_capacity(CHUNK);
            if (&mut reader).take(CHUNK as u64).read_to_end(&mut chunk)? == 0 {
                return Ok(Ok(()));
            }
            let printed = print_aside(chunk).await;
            if printed.is_err() {
                return Ok(printed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_moves_to_a_file_and_stays_whole() {
        let mut shown = Shown::default();
        let line = "x".repeat(MEMORY_LIMIT / 2);
        shown.add(&line);
        assert!(!shown.text.is_rolled());
        shown.add(&line);
        shown.add_json(&"end");
        assert!(shown.text.is_rolled(), "memory is bounded");
        shown.text.rewind().unwrap();
        let mut text = String::new();
        shown.text.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("{line}\n{line}\n\"end\"\n"));
    }
}

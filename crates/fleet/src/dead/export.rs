//! Dead letters written to a file before they are dropped.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::{Letter, Record};

/// A file of JSON lines that grows. It blocks: a line is on the disk when [`flush`](Self::flush) has returned.
#[derive(Debug)]
pub struct Export {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Export {
    /// Opens the file, or creates it. Its content stays.
    ///
    /// # Errors
    /// If the operating system refuses; the error names the file.
    pub fn open(path: &Path) -> io::Result<Self> {
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let mut options = OpenOptions::new();
        options.create(true).append(true);
        let file = options.open(path).map_err(named)?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
        })
    }

    /// Writes `letter` in full, as one line.
    ///
    /// # Errors
    /// If the file cannot be written, such as on a full disk.
    pub fn write(&mut self, letter: &Letter) -> io::Result<()> {
        let record = Record::full(letter, usize::MAX);
        serde_json::to_writer(&mut self.file, &record)?;
        self.file.write_all(b"\n")
    }

    /// Writes the gathered lines, and waits until the disk has them (`fsync`).
    ///
    /// # Errors
    /// If that fails; the error names the file. Lines written since the last flush are not certain then.
    pub fn flush(&mut self) -> io::Result<()> {
        let flushed = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_data());
        flushed.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", self.path.display()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::letter::testing::letter;
    use super::*;

    #[test]
    fn letters_are_appended_a_line_each() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dropped.jsonl");
        for _ in 0..2 {
            let mut export = Export::open(&path).unwrap();
            export.write(&letter(&[])).unwrap();
            export.flush().unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[1]["body"], "body");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = Export::open(Path::new("/nowhere/at/all")).unwrap_err();
        assert!(
            error.to_string().starts_with("/nowhere/at/all: "),
            "{error}"
        );
    }
}

//! The output of commands, for people and scripts.
//!
//! A reader of standard output that has gone ends a command quietly, as it ends ripgrep. Every other failure to write,
//! such as a full disk, is an error. Nothing here panics.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::commands::Exit;

/// Standard output cannot be written to.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub(crate) struct OutputError(#[from] pub(crate) io::Error);

impl OutputError {
    /// Whether the reader has gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Whether descriptor 1 was closed when the program started. Rust then opens `/dev/null` in its place, for reading and
/// writing, so that no write fails. A shell's `>/dev/null` is open for writing only.
pub(crate) fn is_output_closed() -> bool {
    let closed = || -> io::Result<bool> {
        let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        if output.metadata()?.rdev() != std::fs::metadata("/dev/null")?.rdev() {
            return Ok(false);
        }
        // Fails unless the descriptor is open for reading, too.
        output.read(&mut [0]).map(|bytes| bytes == 0)
    };
    closed().unwrap_or(false)
}

/// Writes `text` to standard output. It may block: for commands that do nothing else meanwhile.
///
/// # Errors
/// If it cannot be written.
pub(crate) fn print(text: impl AsRef<[u8]>) -> Result<(), OutputError> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_ref())?;
    output.flush()?;
    Ok(())
}

/// Writes `text` to standard output on a thread that may block, so that a signal can end the wait for a reader that
/// has stalled. Dropping the future leaves that thread to itself.
///
/// # Errors
/// If it cannot be written.
pub(crate) async fn print_aside(
    text: impl AsRef<[u8]> + Send + 'static,
) -> Result<(), OutputError> {
    let written = tokio::task::spawn_blocking(move || print(text));
    written
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error).into()))
}

/// Prints lines while a command works, without a wait for the reader.
#[derive(Debug)]
pub(crate) struct Printer {
    lines: mpsc::UnboundedSender<String>,
    printing: JoinHandle<Result<(), OutputError>>,
}

impl Printer {
    /// Starts the task that prints.
    pub(crate) fn start() -> Self {
        let (lines, mut waiting) = mpsc::unbounded_channel();
        let printing = tokio::spawn(async move {
            while let Some(line) = waiting.recv().await {
                print_aside(line + "\n").await?;
            }
            Ok(())
        });
        Self { lines, printing }
    }

    /// Has `line` printed. The caller bounds how many there are.
    pub(crate) fn line(&self, line: String) {
        // After a failure nobody takes lines any more; `finish` reports it.
        let _ = self.lines.send(line);
    }

    /// Waits until every line is printed.
    ///
    /// # Errors
    /// If one of them could not be printed.
    pub(crate) async fn finish(self) -> Result<(), OutputError> {
        drop(self.lines);
        let printed = self.printing.await;
        printed.unwrap_or_else(|error| Err(io::Error::other(error).into()))
    }
}

/// Says something about the command on standard error. If it cannot be written, nothing happens.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "tidegate: {text}");
}

/// Says what is wrong with a command line, in clap's form.
pub(crate) fn usage_error(text: impl Display) -> Exit {
    let _ = writeln!(io::stderr().lock(), "error: {text}");
    Exit::Usage
}

/// Ends a command that did its work with `exit`, however its report was received: a reader that has gone changes
/// nothing, and every other failure to write is an error.
///
/// # Errors
/// If standard output failed otherwise than by a reader that has gone.
pub(crate) fn conclude(printed: Result<(), OutputError>, exit: Exit) -> Result<Exit, OutputError> {
    match printed {
        Err(error) if !error.is_closed() => Err(error),
        _ => Ok(exit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: ErrorKind) -> Result<(), OutputError> {
        Err(io::Error::from(kind).into())
    }

    #[test]
    fn a_reader_that_has_gone_changes_nothing_and_a_full_disk_is_an_error() {
        let gone = conclude(failed(ErrorKind::BrokenPipe), Exit::Interrupted);
        assert_eq!(gone.unwrap(), Exit::Interrupted);
        let full = conclude(failed(ErrorKind::StorageFull), Exit::Clean);
        let text = full.unwrap_err().to_string();
        assert!(
            text.starts_with("cannot write to standard output: "),
            "{text}"
        );
    }
}

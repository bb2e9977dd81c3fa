//! What a process writes, line by line.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};

/// Lines kept; older ones are forgotten and counted.
const LINE_LIMIT: usize = 20_000;

/// A line that the program logged.
#[derive(Debug, Clone)]
pub(crate) struct LogLine(pub Value);

impl LogLine {
    /// Its message.
    pub(crate) fn message(&self) -> &str {
        self.0["message"].as_str().unwrap_or_default()
    }

    /// Its level: `ERROR`, `WARN`, `INFO`, `DEBUG` or `TRACE`.
    pub(crate) fn level(&self) -> &str {
        self.0["level"].as_str().unwrap_or_default()
    }

    /// A field as text; empty if it has none.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.0[field].as_str().unwrap_or_default()
    }

    /// A field as a number.
    ///
    /// # Panics
    /// Where it has none.
    pub(crate) fn number(&self, field: &str) -> u64 {
        let number = self.0[field].as_u64();
        number.unwrap_or_else(|| panic!("no number {field} in {}", self.0))
    }
}

/// The lines of one stream, as they come. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    forgotten: usize,
    ended: bool,
}

impl Output {
    /// Reads `stream` to its end.
    pub(crate) async fn read(self, stream: impl AsyncRead + Unpin) {
        let mut stream = BufReader::new(stream);
        let mut line = Vec::new();
        while let Ok(1..) = stream.read_until(b'\n', &mut line).await {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            let mut lines = self.lines();
            if lines.kept.len() >= LINE_LIMIT {
                lines.kept.pop_front();
                lines.forgotten += 1;
            }
            lines.kept.push_back(text);
        }
        self.lines().ended = true;
    }

    /// Everything so far, as text.
    pub(crate) fn text(&self) -> String {
        let lines = self.lines();
        let mut text = String::new();
        if lines.forgotten > 0 {
            text = format!("… {} lines before …\n", lines.forgotten);
        }
        for line in &lines.kept {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// The lines so far that are log lines in JSON.
    pub(crate) fn log(&self) -> Vec<LogLine> {
        let lines = self.lines();
        let json = lines.kept.iter().map(|line| serde_json::from_str(line));
        json.filter_map(Result::ok).map(LogLine).collect()
    }

    /// How many log lines so far have this message.
    pub(crate) fn count(&self, message: &str) -> usize {
        let log = self.log();
        log.iter().filter(|line| line.message() == message).count()
    }

    /// Whether the stream has ended and everything is here.
    pub(crate) fn has_ended(&self) -> bool {
        self.lines().ended
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

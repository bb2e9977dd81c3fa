//! Lines from a child, bounded.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

/// Bytes that are read at once.
const CHUNK: usize = 8 * 1024;

/// Reads lines of at most `limit` bytes.
pub(super) struct Lines {
    pipe: pipe::Receiver,
    limit: usize,
    buffer: BytesMut,
    /// Bytes of the buffer without the end of a line.
    searched: usize,
}

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// The other end was closed, and what came last was no whole line.
    #[error("it closed its output")]
    Closed,
    /// More bytes than a line may have.
    #[error("it sent a line of more than {0} bytes")]
    TooLong(usize),
    /// The pipe failed.
    #[error("its output cannot be read: {0}")]
    Failed(#[from] io::Error),
}

impl Lines {
    pub(super) fn new(pipe: pipe::Receiver, limit: usize) -> Self {
        Self {
            pipe,
            limit,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// The next line, without its end. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Bytes, LineError> {
        loop {
            if let Some(line) = self.take_line() {
                return Ok(line);
            }
            if self.buffer.len() > self.limit {
                return Err(LineError::TooLong(self.limit));
            }
            self.buffer.reserve(CHUNK);
            if self.pipe.read_buf(&mut self.buffer).await? == 0 {
                return Err(LineError::Closed);
            }
        }
    }

    /// All that is there, as one line, when there is no whole one.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
        self.searched = 0;
        (!self.buffer.is_empty()).then(|| self.buffer.split().freeze())
    }

    fn take_line(&mut self) -> Option<Bytes> {
        let found = self.buffer[self.searched..]
            .iter()
            .position(|&byte| byte == b'\n');
        let Some(length) = found else {
            self.searched = self.buffer.len();
            return None;
        };
        let end = self.searched + length;
        self.searched = 0;
        let mut line = self.buffer.split_to(end + 1);
        line.truncate(end);
        Some(line.freeze())
    }
}

/// Logs what a child prints on `stream` until it ends, line by line; longer lines in pieces.
pub(super) async fn log(mut lines: Lines, stream: &'static str, pid: i32) {
    loop {
        let line = match lines.next().await {
            Ok(line) => line,
            Err(LineError::TooLong(_)) => match lines.rest() {
                Some(piece) => piece,
                None => continue,
            },
            Err(LineError::Closed | LineError::Failed(_)) => break,
        };
        print(&line, stream, pid);
    }
    if let Some(rest) = lines.rest() {
        print(&rest, stream, pid);
    }
}

fn print(line: &[u8], stream: &'static str, pid: i32) {
    let line = String::from_utf8_lossy(line);
    let line = line.trim_end();
    if !line.is_empty() {
        tracing::info!(pid, stream, "{line}");
    }
}

//! The source of bodies: one body, the lines of a file, or generated bodies.

use std::io;
use std::path::Path;

use bytes::Bytes;
use thiserror::Error;
use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use super::payload;

/// The largest body in bytes: no RabbitMQ can be configured to take more (`max_message_size`, by default
/// 16 MiB since RabbitMQ 4.0).
pub(crate) const BODY_LIMIT: usize = 512 << 20;
/// Bytes of a file that are read at once.
const READ_AHEAD: usize = 64 << 10;

/// A sequence of bodies.
pub(crate) struct BodySource(Kind);

enum Kind {
    One(Option<Bytes>),
    Lines(Lines),
    Made { next: u64, end: u64, size: usize },
}

struct Lines {
    name: String,
    reader: Box<dyn AsyncBufRead + Send + Unpin>,
    /// The number of the line that is read next; the first is 1.
    line: u64,
    to_skip: u64,
    /// Size of the file, if it is a regular one.
    length: Option<u64>,
}

/// The size of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputSize {
    /// This many messages.
    Messages(u64),
    /// This many bytes of a file.
    Bytes(u64),
    /// Unknown: a pipe.
    Unknown,
}

/// Why there is no next body.
#[derive(Debug, Error)]
pub(crate) enum SourceError {
    /// The input cannot be read.
    #[error("cannot read {name}: {cause}")]
    Read {
        /// The file, or standard input.
        name: String,
        /// The operating system's error.
        cause: io::Error,
    },
    /// A body is larger than any broker takes.
    #[error("{name} is larger than {BODY_LIMIT} bytes, more than any broker takes as one message")]
    TooLarge {
        /// The file or line.
        name: String,
    },
    /// Fewer lines than were to be skipped.
    #[error("{name} has {lines} lines, so that {skip} cannot be skipped")]
    TooFewLines {
        /// The file.
        name: String,
        /// Lines it has.
        lines: u64,
        /// Lines to skip.
        skip: u64,
    },
}

impl BodySource {
    /// One body.
    pub(crate) fn body(body: impl Into<Bytes>) -> Self {
        Self(Kind::One(Some(body.into())))
    }

    /// One body: all of the file at `path`, or of standard input for `-`.
    ///
    /// # Errors
    /// If it cannot be read, or is larger than [`BODY_LIMIT`].
    pub(crate) async fn file(path: &Path) -> Result<Self, SourceError> {
        let (name, reader, _) = open(path).await?;
        let mut body = Vec::new();
        let mut reader = reader.take(BODY_LIMIT as u64 + 1);
        if let Err(cause) = reader.read_to_end(&mut body).await {
            return Err(SourceError::Read { name, cause });
        }
        if body.len() > BODY_LIMIT {
            return Err(SourceError::TooLarge { name });
        }
        Ok(Self::body(body))
    }

    /// A body for each line of the file at `path`, or of standard input for `-`, after the first `skip`.
    ///
    /// A line ends with `\n` or `\r\n`, which is not part of the body, or with the file. An empty line is an
    /// empty body, so that line and message numbers agree.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub(crate) async fn lines(path: &Path, skip: u64) -> Result<Self, SourceError> {
        let (name, reader, length) = open(path).await?;
        Ok(Self::lines_of(name, reader, length, skip))
    }

    fn lines_of(
        name: String,
        reader: impl AsyncRead + Send + Unpin + 'static,
        length: Option<u64>,
        skip: u64,
    ) -> Self {
        Self(Kind::Lines(Lines {
            name,
            reader: Box::new(BufReader::with_capacity(READ_AHEAD, reader)),
            line: 1,
            to_skip: skip,
            length,
        }))
    }

    /// `count` bodies of `size` bytes, without the first `skip`: see [`payload()`].
    pub(crate) fn made(count: u64, size: usize, skip: u64) -> Self {
        Self(Kind::Made {
            next: skip.min(count),
            end: count,
            size,
        })
    }

    /// The size of the input that is left.
    pub(crate) fn extent(&self) -> InputSize {
        match &self.0 {
            Kind::One(body) => InputSize::Messages(u64::from(body.is_some())),
            Kind::Lines(lines) => lines.length.map_or(InputSize::Unknown, InputSize::Bytes),
            Kind::Made { next, end, .. } => InputSize::Messages(end - next),
        }
    }

    /// The next body with the number of bytes of input it used up, skipped ones included; `None` at the end.
    /// Dropping the future before it is ready may lose part of a line.
    ///
    /// # Errors
    /// See [`SourceError`].
    pub(crate) async fn next(&mut self) -> Result<Option<(Bytes, u64)>, SourceError> {
        match &mut self.0 {
            Kind::One(body) => Ok(body.take().map(|body| {
                let used = body.len() as u64;
                (body, used)
            })),
            Kind::Lines(lines) => lines.next().await,
            Kind::Made { next, end, .. } if *next >= *end => Ok(None),
            Kind::Made { next, size, .. } => {
                let body = payload(*next, *size);
                *next += 1;
                Ok(Some((body, *size as u64)))
            }
        }
    }
}

impl Lines {
    async fn next(&mut self) -> Result<Option<(Bytes, u64)>, SourceError> {
        let mut used = 0;
        while self.to_skip > 0 {
            let Some((_, bytes)) = self.read().await? else {
                let lines = self.line - 1;
                return Err(SourceError::TooFewLines {
                    name: self.name.clone(),
                    lines,
                    skip: lines + self.to_skip,
                });
            };
            used += bytes;
            self.to_skip -= 1;
        }
        let line = self.read().await?;
        Ok(line.map(|(body, bytes)| (body, used + bytes)))
    }

    async fn read(&mut self) -> Result<Option<(Bytes, u64)>, SourceError> {
        let mut line = Vec::new();
        // Two more for the end of the line.
        let mut reader = (&mut self.reader).take(BODY_LIMIT as u64 + 2);
        let read = reader.read_until(b'\n', &mut line).await;
        let bytes = read.map_err(|cause| SourceError::Read {
            name: format!("line {} of {}", self.line, self.name),
            cause,
        })?;
        if bytes == 0 {
            return Ok(None);
        }
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        if line.len() > BODY_LIMIT {
            return Err(SourceError::TooLarge {
                name: format!("line {} of {}", self.line, self.name),
            });
        }
        self.line += 1;
        Ok(Some((Bytes::from(line), bytes as u64)))
    }
}

type Opened = (String, Box<dyn AsyncRead + Send + Unpin>, Option<u64>);

async fn open(path: &Path) -> Result<Opened, SourceError> {
    if path == Path::new("-") {
        let input = Box::new(tokio::io::stdin());
        return Ok(("standard input".to_owned(), input, None));
    }
    let named = |cause| SourceError::Read {
        name: path.display().to_string(),
        cause,
    };
    let file = File::open(path).await.map_err(named)?;
    let metadata = file.metadata().await.map_err(named)?;
    if metadata.is_dir() {
        return Err(named(io::ErrorKind::IsADirectory.into()));
    }
    let length = metadata.is_file().then_some(metadata.len());
    Ok((path.display().to_string(), Box::new(file), length))
}

impl std::fmt::Debug for BodySource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BodySource").field(&self.extent()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut source: BodySource) -> Result<Vec<Vec<u8>>, SourceError> {
        let mut bodies = Vec::new();
        while let Some((body, _)) = source.next().await? {
            bodies.push(body.to_vec());
        }
        Ok(bodies)
    }

    fn lines(text: &'static [u8], skip: u64) -> BodySource {
        BodySource::lines_of("input".to_owned(), text, None, skip)
    }

    #[tokio::test]
    async fn each_line_is_a_body_without_its_end() {
        let bodies = all(lines(b"one\r\n\ntw\ro\n\xff three", 0)).await.unwrap();
        assert_eq!(
            bodies,
            [&b"one"[..], b"", b"tw\ro", b"\xff three"].map(<[u8]>::to_vec)
        );
        assert!(all(lines(b"", 0)).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn skipped_lines_are_counted_as_used_but_not_sent() {
        let mut source = lines(b"a\nbb\nccc\n", 2);
        assert_eq!(source.next().await.unwrap(), Some((Bytes::from("ccc"), 9)));
        assert_eq!(source.next().await.unwrap(), None);
    }

    #[tokio::test]
    async fn skipping_every_line_sends_nothing_and_skipping_more_is_an_error() {
        assert!(all(lines(b"a\nb\n", 2)).await.unwrap().is_empty());
        let error = all(lines(b"a\nb\n", 5)).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "input has 2 lines, so that 5 cannot be skipped"
        );
    }

    #[tokio::test]
    async fn made_bodies_go_on_where_an_earlier_run_stopped() {
        let whole = all(BodySource::made(5, 20, 0)).await.unwrap();
        let rest = all(BodySource::made(5, 20, 3)).await.unwrap();
        assert_eq!(whole.len(), 5);
        assert_eq!(whole[3..], rest);
        assert!(all(BodySource::made(5, 20, 9)).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_file_is_one_body_and_its_lines_know_its_length() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "x\ny\n").unwrap();
        let whole = BodySource::file(file.path()).await.unwrap();
        assert_eq!(all(whole).await.unwrap(), [b"x\ny\n".to_vec()]);
        let lines = BodySource::lines(file.path(), 0).await.unwrap();
        assert_eq!(lines.extent(), InputSize::Bytes(4));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_named() {
        let missing = BodySource::file(Path::new("/nowhere/at/all")).await;
        let error = missing.unwrap_err().to_string();
        assert!(
            error.starts_with("cannot read /nowhere/at/all: "),
            "{error}"
        );
        let folder = BodySource::lines(Path::new("/"), 0).await.unwrap_err();
        assert!(
            folder.to_string().starts_with("cannot read /: "),
            "{folder}"
        );
    }
}

//! One child, seen from here.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::protocol::{AnswerLine, Element, RequestLine, TAIL, Versions};
use super::{PythonError, Split};

/// How much is read at once, in bytes.
const READ_BYTES: usize = 64 << 10;

/// Kills a child when it is dropped. A child that is not busy ends by itself when its connection closes; killing it,
/// too, does no harm.
pub(super) type Kill = Box<dyn FnOnce() + Send>;

/// A child that waits for requests.
pub struct Child {
    name: String,
    versions: Versions,
    lines: Lines,
    kill: Option<Kill>,
    requests: u64,
    memory: u64,
}

impl Child {
    pub(super) fn new(name: String, versions: Versions, lines: Lines, kill: Kill) -> Self {
        Self {
            name,
            versions,
            lines,
            kill: Some(kill),
            requests: 0,
            memory: 0,
        }
    }

    /// Its name, for the log.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The versions that it runs.
    pub fn versions(&self) -> &Versions {
        &self.versions
    }

    /// How many requests it has begun.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// How much memory it held after its last request, in bytes.
    pub fn memory(&self) -> u64 {
        self.memory
    }

    pub(super) async fn import(&mut self, line: &RequestLine<'_>) -> Result<(), PythonError> {
        self.request(line, &mut Split::default()).await
    }

    pub(super) async fn split(&mut self, line: &RequestLine<'_>) -> Result<Split, PythonError> {
        let mut split = Split::default();
        self.request(line, &mut split).await?;
        Ok(split)
    }

    async fn request(
        &mut self,
        line: &RequestLine<'_>,
        split: &mut Split,
    ) -> Result<(), PythonError> {
        self.requests += 1;
        let id = self.requests;
        let died = |error: std::io::Error| {
            PythonError::Died(format!(
                "the Python child ended during the request: {error}"
            ))
        };
        for piece in [line.head(id).as_bytes(), line.json(), TAIL.as_bytes()] {
            self.lines.write(piece).await.map_err(died)?;
        }
        loop {
            let text = self.lines.next().await.map_err(died)?;
            let answer: AnswerLine = serde_json::from_slice(&text)
                .ok()
                .filter(|answer: &AnswerLine| answer.id == id)
                .ok_or_else(|| PythonError::Died("the Python child answered nonsense".into()))?;
            if let Some(memory) = answer.memory {
                self.memory = memory;
            }
            if let Some(sign) = answer.failed {
                return Err(PythonError::Raised(sign.into()));
            }
            if answer.done {
                return Ok(());
            }
            let elements = if answer.incompatible {
                &mut split.incompatible
            } else {
                &mut split.elements
            };
            elements.extend(answer.part.or(answer.item).map(|json| Element {
                json,
                id: answer.element,
                references: answer.references,
            }));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(kill) = self.kill.take() {
            kill();
        }
    }
}

/// Lines on a connection.
pub(super) struct Lines {
    stream: UnixStream,
    buffer: BytesMut,
}

impl Lines {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
        }
    }

    pub(super) async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// The next line, without its end.
    pub(super) async fn next(&mut self) -> std::io::Result<BytesMut> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.buffer[searched..]
                .iter()
                .position(|byte| *byte == b'\n')
            {
                let mut line = self.buffer.split_to(searched + end + 1);
                line.truncate(searched + end);
                if self.buffer.is_empty() {
                    // A child that waits keeps no room for a line that was large.
                    self.buffer = BytesMut::new();
                }
                return Ok(line);
            }
            searched = self.buffer.len();
            self.buffer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

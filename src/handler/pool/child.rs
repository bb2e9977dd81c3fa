//! One child of a pool: its pipes, its lines and its end.

use std::fs;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::lines::{self, LineError, Lines};
use crate::config::PoolChannel;
use crate::process::{self, Child, Program, Starter, Variables};

/// The longest line that a child may send, in bytes.
const LINE_LIMIT: usize = 1024 * 1024;

/// The longest line of a child's prints in the log, in bytes; longer ones come in pieces.
const LOG_LINE_LIMIT: usize = 8 * 1024;

/// How long an answer may take that was sent before the child ended.
const AFTER_EXIT: Duration = Duration::from_millis(200);

/// The time limit for a child's last output to reach the log.
const LAST_PRINTS: Duration = Duration::from_secs(1);

/// Where a child's protocol goes, and its name for it.
const DESCRIPTORS: (&str, &str) = ("TIDEGATE_POOL_FDS", "3,4");

/// A child that runs. Dropped, it is killed with its group.
pub(super) struct PoolChild {
    process: Child,
    input: pipe::Sender,
    output: Lines,
    /// What it said of itself.
    pub(super) hello: Option<Value>,
    /// The number of requests that it has answered.
    pub(super) answered: u64,
    /// The request that it answered last.
    pub(super) last: Option<String>,
    /// Whether it has answered that once more.
    pub(super) repeats: bool,
    /// Its prints are read for a little longer than it lives.
    _prints: oneshot::Sender<()>,
}

impl PoolChild {
    /// Starts a child.
    ///
    /// # Errors
    /// The program cannot be run, or the worker lacks something.
    pub(super) async fn start(
        starter: &Starter,
        program: &Arc<Program>,
        channel: PoolChannel,
    ) -> io::Result<Self> {
        let stdin = process::input()?;
        let stdout = process::output()?;
        let stderr = process::output()?;
        let own = match channel {
            PoolChannel::Stdio => None,
            PoolChannel::Fd => Some((process::input()?, process::output()?)),
        };
        let mut inherited = vec![(stdin.theirs, 0), (stdout.theirs, 1), (stderr.theirs, 2)];
        let mut prints = vec![("stderr", stderr.ours)];
        let mut variables = Vec::new();
        let (input, output) = match own {
            None => (stdin.ours, stdout.ours),
            Some((requests, answers)) => {
                inherited.extend([(requests.theirs, 3), (answers.theirs, 4)]);
                prints.push(("stdout", stdout.ours));
                variables.push((DESCRIPTORS.0.to_owned(), DESCRIPTORS.1.to_owned()));
                // Its stdin is at its end from the start.
                drop(stdin.ours);
                (requests.ours, answers.ours)
            }
        };
        let input = pipe::Sender::from_owned_fd_unchecked(input)?;
        let output = pipe::Receiver::from_owned_fd_unchecked(output)?;
        let prints = prints
            .into_iter()
            .map(|(name, pipe)| Ok((name, pipe::Receiver::from_owned_fd_unchecked(pipe)?)))
            .collect::<io::Result<Vec<_>>>()?;
        let variables = Variables::new(variables).expect("no NUL is in them");
        let process = starter.start(program, variables, inherited).await?;
        Ok(Self {
            _prints: log_prints(prints, process.id()),
            process,
            input,
            output: Lines::new(output, LINE_LIMIT),
            hello: None,
            answered: 0,
            last: None,
            repeats: false,
        })
    }

    pub(super) fn id(&self) -> i32 {
        self.process.id()
    }

    /// Writes the rest of `request` after its first `sent` bytes. A line that the child sends meanwhile interrupts it,
    /// and is returned; `None` says that all is written. Cancel safe.
    ///
    /// # Errors
    /// The child does not read any more.
    pub(super) async fn send(
        &mut self,
        request: &[u8],
        sent: &mut usize,
    ) -> Result<Option<Bytes>, String> {
        while *sent < request.len() {
            tokio::select! {
                biased;
                written = self.input.write(&request[*sent..]) => match written {
                    Ok(written) => *sent += written,
                    Err(_broken) => return Err(self.end().await),
                },
                line = self.output.next() => return match line {
                    Ok(line) => Ok(Some(line)),
                    Err(LineError::Closed) => Err(self.end().await),
                    Err(error) => Err(error.to_string()),
                },
                () = self.process.ended() => return Err(self.end().await),
            }
        }
        Ok(None)
    }

    /// The child's next line.
    ///
    /// # Errors
    /// It ended or sent too much. A process that it left behind may hold the pipe open; what counts is its own end.
    pub(super) async fn receive(&mut self) -> Result<Bytes, String> {
        let Self {
            output, process, ..
        } = self;
        let line = tokio::select! {
            biased;
            line = output.next() => Some(line),
            () = process.ended() => None,
        };
        let line = match line {
            Some(line) => line,
            None => timeout(AFTER_EXIT, output.next())
                .await
                .unwrap_or(Err(LineError::Closed)),
        };
        match line {
            Ok(line) => Ok(line),
            Err(LineError::Closed) => Err(self.end().await),
            Err(error) => Err(error.to_string()),
        }
    }

    /// A line that came unasked, if there is one: a greeting, or rubbish.
    pub(super) fn unasked(&mut self) -> Option<Result<Bytes, String>> {
        let line = self.output.next().now_or_never()?;
        Some(line.map_err(|error| error.to_string()))
    }

    /// Whether it has ended while nobody asked it anything.
    pub(super) fn has_ended(&mut self) -> bool {
        self.process.ended().now_or_never().is_some()
    }

    /// How it ended, in words; it gets a moment for it. What is left of its group is killed.
    async fn end(&mut self) -> String {
        if timeout(AFTER_EXIT, self.process.ended()).await.is_err() {
            return "closed its input or its output".to_owned();
        }
        self.process.kill();
        match self.process.wait().await {
            Ok(status) => format!("ended ({status})"),
            Err(error) => format!("ended, and how was lost: {error}"),
        }
    }

    /// Its resident memory in bytes; `None` when that cannot be read.
    pub(super) fn resident(&self) -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.id())).ok()?;
        let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }

    /// Tells the child by the end of its input that nothing follows, and waits until it has ended, for `limit` at
    /// most; then it is killed.
    pub(super) async fn retire(self, limit: Duration) {
        let Self {
            mut process,
            input,
            mut output,
            _prints,
            ..
        } = self;
        drop(input);
        // What it still says is read, so that it is not kept from ending.
        let rest = async {
            while output.next().await.is_ok() {}
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = process.ended() => {}
            () = rest => {}
            () = sleep(limit) => {
                tracing::warn!(pid = process.id(), ?limit, "a child did not end with its input; it is killed");
            }
        }
        process.kill();
    }
}

/// Logs a child's prints until it is gone, and a little longer.
fn log_prints(prints: Vec<(&'static str, pipe::Receiver)>, pid: i32) -> oneshot::Sender<()> {
    let (alive, gone) = oneshot::channel::<()>();
    let gone = gone.map(|_gone| ()).shared();
    for (stream, pipe) in prints {
        let gone = gone.clone();
        tokio::spawn(async move {
            let last = async {
                gone.await;
                sleep(LAST_PRINTS).await;
            };
            tokio::select! {
                () = lines::log(Lines::new(pipe, LOG_LINE_LIMIT), stream, pid) => {}
                () = last => {}
            }
        });
    }
    alive
}

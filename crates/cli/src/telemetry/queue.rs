//! The log's queue: bounded, lossy, written by a thread of its own.
//!
//! Guarantee: whoever logs never waits for the log's reader. If the reader stalls or goes, the disk is full or the
//! descriptor is closed, lines are lost and counted, and the first line that can be written again says how many.
//!
//! tracing-appender has such a queue, but it does not count lines that fail to be written, and its guard prints to
//! standard output when the queue is full at the end: that blocks the exit if standard output is the same full pipe.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tidegate::internal::metrics::log_lines_lost;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that may wait to be written.
const QUEUE_LIMIT: usize = 4 << 20;
/// The wait before the writer tries again, if standard error is in non-blocking mode and full.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// Takes log lines. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct LogQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Box<[u8]>>,
    /// Bytes of all lines that are not written yet.
    bytes: usize,
    /// Lines lost since the log last said so.
    lost: u64,
}

/// Standard error without a lock and without a buffer.
pub(super) fn standard_error() -> Box<dyn Write + Send> {
    // A descriptor of its own: the standard library's handle hides that the descriptor is closed.
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(descriptor) => Box::new(File::from(descriptor)),
        Err(_) => Box::new(io::stderr()),
    }
}

impl LogQueue {
    /// Starts the thread that writes to `output`. `notice` makes the line that says how many lines were lost.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub(super) fn start(
        output: Box<dyn Write + Send>,
        notice: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Self> {
        Self::with_limit(output, notice, QUEUE_LIMIT)
    }

    fn with_limit(
        output: Box<dyn Write + Send>,
        notice: impl Fn(u64) -> String + Send + 'static,
        limit: usize,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            limit,
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            output,
            notice,
            torn: false,
        };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || writer.run())?;
        Ok(Self(shared))
    }

    /// Adds a line. If there is no room for it, it is lost.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.0.state();
        if state.bytes + line.len() > self.0.limit {
            state.lose(1);
            return;
        }
        state.bytes += line.len();
        state.waiting.push_back(line.into());
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until every line so far is written or lost, for at most `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        let mut state = self.0.state();
        while state.bytes > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.0.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lose(&mut self, lines: u64) {
        self.lost += lines;
        log_lines_lost().inc_by(lines);
    }
}

impl Write for LogQueue {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LogQueue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// The thread that writes.
struct Writer<N> {
    shared: Arc<Shared>,
    output: Box<dyn Write + Send>,
    notice: N,
    /// Whether the last line was cut off in its middle.
    torn: bool,
}

impl<N: Fn(u64) -> String> Writer<N> {
    fn run(mut self) {
        loop {
            for line in self.next_batch() {
                let written = self.write(&line);
                let mut state = self.shared.state();
                state.bytes -= line.len();
                if written.is_err() {
                    state.lose(1);
                }
            }
            self.say_lost();
            self.shared.changed.notify_all();
        }
    }

    fn next_batch(&self) -> VecDeque<Box<[u8]>> {
        let mut state = self.shared.state();
        while state.waiting.is_empty() {
            let waited = self.shared.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::take(&mut state.waiting)
    }

    /// Says how many lines were lost, once the log works again.
    fn say_lost(&mut self) {
        let lost = self.shared.state().lost;
        if lost > 0 && self.write((self.notice)(lost).as_bytes()).is_ok() {
            self.shared.state().lost -= lost;
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            write_all(&mut *self.output, b"\n")?;
            self.torn = false;
        }
        let mut written = 0;
        let result = write_counted(&mut *self.output, line, &mut written);
        self.torn = result.is_err() && written > 0;
        result
    }
}

fn write_all(output: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    write_counted(output, bytes, &mut 0)
}

/// As [`Write::write_all`], but it waits if the descriptor is in non-blocking mode and full, and it counts the bytes written.
fn write_counted(output: &mut dyn Write, bytes: &[u8], written: &mut usize) -> io::Result<()> {
    while *written < bytes.len() {
        match output.write(&bytes[*written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => *written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(RETRY_INTERVAL);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

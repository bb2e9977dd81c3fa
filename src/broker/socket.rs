//! The socket below the client library: TCP or TLS, with the guard on its incoming side.

mod dial;
mod kit;
mod race;
#[cfg(test)]
mod tests;
mod tls;
mod unverified;

use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::guard::{Guard, Replacement};
use super::runtime::{Borrower, Turn};

pub(super) use dial::dial;
pub(super) use kit::Kit;

/// The least room for a read. If the library offers less, the socket reads into a buffer of its own.
const LEAST_READ_BYTES: usize = 4 * 1024;
/// More bytes of an incomplete frame than this stay in the socket's own buffer.
const MOST_MOVED_BYTES: usize = 16 * 1024;

/// One connection's socket. The client library reads from it and writes to it.
#[derive(Debug)]
pub(super) struct Socket {
    stream: Stream,
    guard: Guard,
    handle: Arc<SocketHandle>,
    /// Bytes that were read and not passed on yet.
    held: Vec<u8>,
    /// Whether `held` may have more than an incomplete frame.
    held_is_unchecked: bool,
    /// The bytes that may be passed on begin at `passed`.
    ready: Vec<u8>,
    passed: usize,
    /// If there is one, a read that has to wait runs the AMQP runtime meanwhile.
    borrower: Option<Borrower>,
    /// Whether the library has got bytes since it was last told that there are none.
    has_news: bool,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The view that the rest of the program has of a socket that the client library owns.
#[derive(Debug, Default)]
pub(super) struct SocketHandle {
    /// The payload of the broker's `connection.start`.
    greeting: OnceLock<Vec<u8>>,
    abandoned: AtomicBool,
    reader: AtomicWaker,
}

impl SocketHandle {
    /// The payload of the broker's `connection.start`, once it is here.
    pub(super) fn greeting(&self) -> Option<&[u8]> {
        self.greeting.get().map(Vec::as_slice)
    }

    /// Has the client library's next read fail, so that the connection is lost.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Release);
        self.reader.wake();
    }
}

impl Socket {
    fn new(stream: Stream, frame_max: u32) -> Self {
        Self {
            stream,
            guard: Guard::new(frame_max),
            handle: Arc::default(),
            held: Vec::new(),
            held_is_unchecked: false,
            ready: Vec::new(),
            passed: 0,
            borrower: None,
            has_news: false,
        }
    }

    /// Has reads that wait run the tasks of the AMQP runtime.
    pub(super) fn borrow(&mut self, borrower: Borrower) {
        self.borrower = Some(borrower);
    }

    /// The handle that stays with the rest of the program.
    pub(super) fn handle(&self) -> Arc<SocketHandle> {
        Arc::clone(&self.handle)
    }

    /// Moves to `buffer` what may be passed on; how many bytes.
    fn pass(&mut self, buffer: &mut [u8]) -> usize {
        let left = &self.ready[self.passed..];
        let count = left.len().min(buffer.len());
        buffer[..count].copy_from_slice(&left[..count]);
        self.passed += count;
        count
    }

    fn has_ready(&self) -> bool {
        self.passed < self.ready.len()
    }

    /// Reads into the library's buffer, behind what is held, and checks it there: most bytes are never copied.
    fn poll_in_place(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<Read>> {
        let held = self.held.len();
        buffer[..held].copy_from_slice(&self.held);
        let count = ready!(self.stream.poll_read(context, &mut buffer[held..]))?;
        if count == 0 {
            return Poll::Ready(Ok(Read::End));
        }
        self.held.clear();
        let bytes = &buffer[..held + count];
        let verdict = self.guard.check(bytes).map_err(invalid)?;
        let rest = self.replaced(verdict.replacement);
        self.held.extend_from_slice(&bytes[verdict.pass + rest..]);
        Poll::Ready(Ok(Read::Passed(verdict.pass)))
    }

    /// Reads behind what is held.
    fn poll_aside(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Read>> {
        let mut buffer = [0; LEAST_READ_BYTES];
        let count = ready!(self.stream.poll_read(context, &mut buffer))?;
        if count == 0 {
            return Poll::Ready(Ok(Read::End));
        }
        self.held.extend_from_slice(&buffer[..count]);
        self.held_is_unchecked = true;
        Poll::Ready(Ok(Read::Passed(0)))
    }

    /// Checks what is held, and makes ready what may be passed on.
    fn check_held(&mut self) -> io::Result<()> {
        let verdict = self.guard.check(&self.held).map_err(invalid)?;
        let passed: Vec<u8> = self.held.drain(..verdict.pass).collect();
        let dropped = self.replaced(verdict.replacement);
        self.ready.splice(0..0, passed);
        self.held.drain(..dropped);
        Ok(())
    }

    /// Makes a replacement ready; how many bytes it replaces.
    fn replaced(&mut self, replacement: Option<Replacement>) -> usize {
        self.passed = 0;
        self.held_is_unchecked = replacement.is_some();
        let Some(replacement) = replacement else {
            self.ready.clear();
            return 0;
        };
        self.ready = replacement.bytes;
        replacement.dropped
    }

    fn greet(&mut self) {
        if self.handle.greeting.get().is_none()
            && let Some(start) = self.guard.take_start()
        {
            // It is set by this socket alone.
            let _ = self.handle.greeting.set(start);
        }
    }

    /// Reads what the guard lets pass.
    fn poll_checked(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.handle.reader.register(context.waker());
        if self.handle.abandoned.load(Ordering::Acquire) {
            let error = "tidegate gave the connection up: the broker no longer answers on it";
            return Poll::Ready(Err(io::Error::other(error)));
        }
        loop {
            if self.has_ready() {
                return Poll::Ready(Ok(self.pass(buffer)));
            }
            if self.held_is_unchecked {
                self.check_held()?;
                self.greet();
                continue;
            }
            let held = self.held.len();
            let in_place =
                held <= MOST_MOVED_BYTES && buffer.len() >= held.saturating_add(LEAST_READ_BYTES);
            let read = if in_place {
                self.poll_in_place(context, buffer)
            } else {
                self.poll_aside(context)
            };
            match ready!(read)? {
                Read::End => return Poll::Ready(Ok(0)),
                Read::Passed(0) => {}
                Read::Passed(count) => {
                    self.greet();
                    return Poll::Ready(Ok(count));
                }
            }
        }
    }

    /// Reads. If there is nothing to read, it blocks for one turn of the AMQP runtime, and has the library come again.
    ///
    /// The library asks until it hears that there is nothing more, and only then handles what it got: so the first such
    /// answer is given at once.
    fn poll_while_running(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
        borrower: &mut Borrower,
    ) -> Poll<io::Result<usize>> {
        let read = if mem::take(&mut self.has_news) {
            self.poll_checked(context, buffer)
        } else {
            match borrower.turn(|context| self.poll_checked(context, buffer)) {
                Turn::Ready(read) => Poll::Ready(read),
                Turn::NotLent => return self.poll_checked(context, buffer),
                Turn::Over => Poll::Pending,
            }
        };
        self.has_news = read.is_ready();
        if read.is_pending() {
            context.waker().wake_by_ref();
        }
        read
    }
}

/// The result of a read.
enum Read {
    /// So many bytes at the front of the library's buffer may be used.
    Passed(usize),
    /// The broker has hung up.
    End,
}

fn invalid(violation: super::guard::Violation) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation)
}

impl futures_util::io::AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let socket = self.get_mut();
        let Some(mut borrower) = socket.borrower.take() else {
            return socket.poll_checked(context, buffer);
        };
        let read = socket.poll_while_running(context, buffer, &mut borrower);
        socket.borrower = Some(borrower);
        read
    }
}

impl futures_util::io::AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(context),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        // The library does not read any more.
        socket.borrower = None;
        match &mut socket.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

impl Stream {
    fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(match self {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, &mut buffer),
        })?;
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

//! Connections: a bounded number, each of which must get on.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

/// Connections at a time; others wait to be accepted.
const CONNECTIONS: usize = 1_024;
/// How long a connection may go without a byte in either direction. Events say something every 15 s.
const IDLE_LIMIT: Duration = Duration::from_secs(60);

/// How long a connection may take from the first byte of a request to the first of its answer: a request that
/// comes in drops would otherwise keep it for ever. Twice what an answer may take.
const ANSWER_LIMIT: Duration = super::REQUEST_LIMIT.saturating_mul(2);

/// Accepts a bounded number of connections.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Bounded {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS)),
        }
    }
}

impl Listener for Bounded {
    type Io = Watched<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        // Tries again by itself after an error that is not a connection's.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Watched::new(stream, Some(place)), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that ends where nothing moves on it for too long, or no answer: a client that does not read what it
/// asked for, or does not get on with asking, would otherwise keep it for ever.
pub(super) struct Watched<S> {
    stream: S,
    limit: Pin<Box<Sleep>>,
    /// By when something is to be written, where a request has begun.
    answer: Option<Instant>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Watched<S> {
    fn new(stream: S, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            stream,
            limit: Box::pin(sleep(IDLE_LIMIT)),
            answer: None,
            _place: place,
        }
    }

    /// Bytes came.
    fn has_read(&mut self) {
        self.answer
            .get_or_insert_with(|| Instant::now() + ANSWER_LIMIT);
        self.moved();
    }

    /// Bytes went.
    fn has_written(&mut self) {
        self.answer = None;
        self.moved();
    }

    fn moved(&mut self) {
        let idle = Instant::now() + IDLE_LIMIT;
        let until = self.answer.map_or(idle, |answer| answer.min(idle));
        self.limit.as_mut().reset(until);
    }

    /// Whether its time is over.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.limit.as_mut().poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "nothing moved, or nothing was answered, for too long",
            )),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.has_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        self.has_written();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(context, bytes))?;
        self.has_written();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_ends() {
        let (near, mut far) = duplex(64);
        let mut near = Watched::new(near, None);
        let mut buffer = [0; 4];
        far.write_all(b"ping").await.unwrap();
        near.read_exact(&mut buffer).await.unwrap();
        let error = near.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_stops_reading_is_dropped_and_one_that_is_written_to_is_kept() {
        let (near, mut far) = duplex(64);
        let mut near = Watched::new(near, None);
        let begun = Instant::now();
        for _ in 0..10 {
            tokio::time::advance(IDLE_LIMIT / 2).await;
            near.write_all(b"event").await.unwrap();
            let mut buffer = [0; 5];
            far.read_exact(&mut buffer).await.unwrap();
        }
        assert!(begun.elapsed() > IDLE_LIMIT * 2);
        let error = near.write_all(&[0; 65]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_in_drops_is_cut_off() {
        let (near, mut far) = duplex(64);
        let mut near = Watched::new(near, None);
        let begun = Instant::now();
        let error = loop {
            far.write_all(b"x").await.unwrap();
            if let Err(error) = near.read_u8().await {
                break error;
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let took = begun.elapsed();
        assert!(took >= ANSWER_LIMIT && took < IDLE_LIMIT, "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_answered_begins_anew() {
        let (near, mut far) = duplex(64);
        let mut near = Watched::new(near, None);
        for _ in 0..10 {
            tokio::time::advance(ANSWER_LIMIT.saturating_sub(Duration::from_secs(1))).await;
            far.write_all(b"x").await.unwrap();
            near.read_u8().await.unwrap();
            near.write_all(b"y").await.unwrap();
            far.read_u8().await.unwrap();
        }
    }
}

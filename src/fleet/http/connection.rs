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

/// A connection that ends where nothing moves on it for too long: a client that does not read what it asked for
/// would otherwise keep it for ever.
pub(super) struct Watched<S> {
    stream: S,
    idle: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl<S> Watched<S> {
    fn new(stream: S, place: Option<OwnedSemaphorePermit>) -> Self {
        Self {
            stream,
            idle: Box::pin(sleep(IDLE_LIMIT)),
            _place: place,
        }
    }

    /// A try moved something, or waits for as long as it may.
    fn watch<T>(&mut self, tried: Poll<T>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if let Poll::Ready(moved) = tried {
            self.idle.as_mut().reset(Instant::now() + IDLE_LIMIT);
            return Poll::Ready(Ok(moved));
        }
        ready!(self.idle.as_mut().poll(context));
        let error = io::Error::new(io::ErrorKind::TimedOut, "nothing moved for too long");
        Poll::Ready(Err(error))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let tried = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(tried, context).map(|result| result?)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(tried, context).map(|result| result?)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.watch(tried, context).map(|result| result?)
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
}

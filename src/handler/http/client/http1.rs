//! One HTTP/1.1 connection, driven by whoever uses it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use futures_util::FutureExt as _;
use futures_util::future::{Fuse, FusedFuture as _};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;

use super::Body;
use super::stream::{Bytes, Stream};

/// An HTTP/1.1 connection for one request at a time.
pub(in crate::handler::http) struct Http1 {
    sender: SendRequest<Body>,
    connection: Fuse<Connection<TokioIo<Stream>, Body>>,
    received: Arc<AtomicBool>,
}

impl Http1 {
    /// Speaks HTTP/1.1 over `bytes`.
    pub(super) async fn new(bytes: Box<dyn Bytes>) -> Result<Self, hyper::Error> {
        let received = Arc::new(AtomicBool::new(false));
        let stream = Stream {
            bytes,
            received: Arc::clone(&received),
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            sender,
            connection: connection.fuse(),
            received,
        })
    }

    /// Sends `request` and waits for the head of the response.
    pub(super) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, hyper::Error> {
        self.received.store(false, Ordering::Relaxed);
        let response = self.sender.send_request(request);
        self.drive(response).await
    }

    /// Whether a byte of an answer to the last request came.
    pub(super) fn has_answered(&self) -> bool {
        self.received.load(Ordering::Relaxed)
    }

    /// Waits until the next request can be sent.
    ///
    /// # Errors
    /// The connection is closed after this response.
    pub(super) async fn until_ready(&mut self) -> Result<(), hyper::Error> {
        let Self {
            sender, connection, ..
        } = self;
        drive(connection, sender.ready()).await
    }

    /// Whether the next request can be sent, as far as is known.
    pub(super) fn is_open(&mut self) -> bool {
        // A close that has arrived is seen here.
        self.connection.is_terminated()
            || (&mut self.connection).now_or_never().is_none() && self.sender.is_ready()
    }

    /// Awaits `future`, which waits for this connection.
    pub(super) async fn drive<T>(&mut self, future: impl Future<Output = T>) -> T {
        drive(&mut self.connection, future).await
    }
}

/// Awaits `future` while `connection` reads and writes. Its errors come out of the future, too.
async fn drive<T>(
    connection: &mut Fuse<Connection<TokioIo<Stream>, Body>>,
    future: impl Future<Output = T>,
) -> T {
    let mut future = pin!(future);
    std::future::poll_fn(|task| {
        if let Poll::Ready(value) = future.as_mut().poll(task) {
            return Poll::Ready(value);
        }
        let _ = connection.poll_unpin(task);
        future.as_mut().poll(task)
    })
    .await
}

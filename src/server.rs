//! The HTTP server behind the worker's endpoints and the fleet program: a bounded number of connections, and each
//! of them must make progress.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::Request;
use axum::response::Response;
use axum::{Extension, Router};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tower::{Layer as _, Service};
use tracing::{debug, warn};

/// Bytes buffered for one connection: the longest head of a request.
const BUFFER: usize = 64 << 10;
/// The wait before the next accept when the system is out of descriptors or memory.
const ACCEPT_AGAIN: Duration = Duration::from_millis(500);

/// The limits of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Open connections; further ones wait in the system's backlog.
    pub connections: usize,
    /// The time limit for the head of a client's next request. It also ends idle connections.
    pub head: Duration,
    /// A client that reads nothing of an answer for this long is cut off.
    pub write: Duration,
    /// The time limit for open requests after the server begins to stop.
    pub stop: Duration,
}

/// Serves `router` on `listener` until `stop` is cancelled, and then for at most `limits.stop`. Each request has the
/// client's address as `ConnectInfo`.
///
/// A handler's own duration is not limited here. Dropping the future ends every connection.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ServerLimits,
    stop: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (
                place.expect("the semaphore is never closed"),
                accept(&listener).await,
            )
        };
        let (place, (stream, address)) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        let router = Extension(ConnectInfo(address)).layer(router.clone());
        let connection = connection(stream, router, limits, graceful.watcher());
        connections.spawn(async move {
            connection.await;
            drop(place);
        });
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    if tokio::time::timeout(limits.stop, graceful.shutdown())
        .await
        .is_err()
    {
        debug!("http connections were still open at the end; they are closed");
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // Small answers leave at once; an error here would show at the first write.
                let _ = stream.set_nodelay(true);
                return (stream, address);
            }
            Err(error) => {
                warn!(%error, "an http connection could not be accepted; trying again");
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Serves one connection to its end.
async fn connection<S, R>(stream: S, router: R, limits: ServerLimits, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
    R: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    R::Future: Send,
{
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write));
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(BUFFER)
        .serve_connection(
            TokioIo::new(Box::pin(stream)),
            TowerToHyperService::new(router),
        );
    if let Err(error) = watcher.watch(served).await {
        debug!(%error, "an http connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, Bytes};
    use axum::routing::get;
    use futures_util::stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::{Instant, sleep};

    use super::*;

    const LIMITS: ServerLimits = ServerLimits {
        connections: 2,
        head: Duration::from_secs(10),
        write: Duration::from_secs(30),
        stop: Duration::from_secs(1),
    };

    /// `/` answers at once; `/slow` sends a byte every 20 s, three times; `/large` answers with a mebibyte.
    fn router() -> Router {
        let slow = async || {
            Body::from_stream(stream::unfold(0, async |sent| {
                (sent < 3).then_some(())?;
                sleep(Duration::from_secs(20)).await;
                Some((Ok::<_, std::io::Error>(Bytes::from_static(b"x")), sent + 1))
            }))
        };
        Router::new()
            .route("/", get(async || "ok"))
            .route("/slow", get(slow))
            .route("/large", get(async || vec![b'x'; 1 << 20]))
    }

    fn open() -> DuplexStream {
        let (near, far) = duplex(1_024);
        tokio::spawn(async move {
            let running = GracefulShutdown::new();
            connection(near, router(), LIMITS, running.watcher()).await;
        });
        far
    }

    async fn rest(stream: &mut DuplexStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("it is text");
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_half_sent_is_cut_off() {
        let mut stream = open();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n")
            .await
            .unwrap();
        let begun = Instant::now();
        assert!(!rest(&mut stream).await.contains("200"));
        assert_eq!(begun.elapsed().as_secs(), LIMITS.head.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_comes_in_drops_is_cut_off() {
        let mut stream = open();
        stream.write_all(b"GET / HTTP/1.1\r\nx: ").await.unwrap();
        let begun = Instant::now();
        while stream.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
        assert!(begun.elapsed() <= LIMITS.head * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_asks_for_nothing_or_nothing_more_ends() {
        for request in ["", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
            let mut stream = open();
            stream.write_all(request.as_bytes()).await.unwrap();
            let begun = Instant::now();
            let answer = rest(&mut stream).await;
            assert_eq!(answer.contains("200 OK"), !request.is_empty(), "{answer}");
            assert_eq!(begun.elapsed().as_secs(), LIMITS.head.as_secs());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_keeps_no_connection() {
        let mut stream = open();
        let request = b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let begun = Instant::now();
        assert!(rest(&mut stream).await.contains("200 OK"));
        assert!(begun.elapsed() <= LIMITS.head);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_longer_than_a_request() {
        let mut stream = open();
        let request = b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let begun = Instant::now();
        let answer = rest(&mut stream).await;
        assert_eq!(answer.matches("1\r\nx\r\n").count(), 3, "{answer}");
        assert_eq!(begun.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_its_answer_is_dropped() {
        let mut stream = open();
        let request = b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        sleep(LIMITS.write * 2).await;
        assert!(rest(&mut stream).await.len() < 1 << 16);
    }

    #[tokio::test]
    async fn connections_are_bounded_and_free_their_place() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, router(), LIMITS, stop.clone()));
        let mut kept = Vec::new();
        for _ in 0..LIMITS.connections {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
            stream.write_all(request).await.unwrap();
            stream.read_u8().await.unwrap();
            kept.push(stream);
        }
        let mut waiting = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        waiting.write_all(request).await.unwrap();
        // Its answer cannot come before a place is free.
        kept.pop();
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("200 OK"), "{answer}");
        stop.cancel();
        serving.await.unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}

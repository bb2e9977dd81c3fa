//! A small HTTP/1.1 server that records what arrives and answers as it is told.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub(super) request_line: String,
    pub(super) headers: Vec<String>,
    pub(super) body: Vec<u8>,
}

/// How the server answers each request.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    /// With these bytes; the connection stays open.
    Bytes(Vec<u8>),
    /// With these bytes, and then with bytes of a body that never ends.
    Endless(Vec<u8>),
    /// The first of each connection with 200; the next with these bytes, and then the connection is closed.
    Once(Vec<u8>),
    /// With 200; then the connection is closed, without having said so.
    ThenClose,
    /// Not at all: the connection is closed.
    Close,
    /// Not at all: the connection stays open.
    Silence,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    received: Arc<Mutex<Vec<Received>>>,
    connections: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

impl Record {
    pub(super) fn received(&self) -> Vec<Received> {
        self.received
            .lock()
            .expect("no test panics with it")
            .clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many connections are closed, by the client or after [`Answer::ThenClose`].
    pub(super) fn closed(&self) -> usize {
        self.closed.load(Ordering::SeqCst)
    }
}

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

/// A response with `status` (code and phrase), further header lines, and a body.
pub(super) fn response(status: &str, headers: &[&str], body: &str) -> Answer {
    let mut text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.push_str(body);
    Answer::Bytes(text.into_bytes())
}

/// Serves plain HTTP on a free port of 127.0.0.1, until the runtime ends.
pub(super) async fn serve(answer: Answer) -> (SocketAddr, Record) {
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback works");
    let address = listener.local_addr().expect("loopback works");
    let record = Record::default();
    let seen = record.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("loopback works");
            tokio::spawn(converse(stream, answer.clone(), seen.clone()));
        }
    });
    (address, record)
}

/// Serves HTTPS with a certificate for `localhost`.
pub(super) async fn serve_tls(answer: Answer, authority: &Authority) -> (SocketAddr, Record) {
    let acceptor = TlsAcceptor::from(Arc::new(authority.server(&[b"http/1.1"])));
    let listener = TcpListener::bind("127.0.0.1:0")
        .await
        .expect("loopback works");
    let address = listener.local_addr().expect("loopback works");
    let record = Record::default();
    let seen = record.clone();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("loopback works");
            let (acceptor, answer, seen) = (acceptor.clone(), answer.clone(), seen.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    converse(stream, answer, seen).await;
                }
            });
        }
    });
    (address, record)
}

/// A certificate authority of the test's own.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("loopback works");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("loopback works");
        Self(CertifiedIssuer::self_signed(params, key).expect("loopback works"))
    }

    pub(super) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The configuration of a server named `localhost` that speaks `protocols`.
    pub(super) fn server(&self, protocols: &[&[u8]]) -> ServerConfig {
        let key = KeyPair::generate().expect("loopback works");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("loopback works");
        let certificate = params.signed_by(&key, &self.0).expect("loopback works");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("loopback works")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("loopback works");
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        config
    }
}

async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: Answer, record: Record) {
    record.connections.fetch_add(1, Ordering::SeqCst);
    let mut answered = 0;
    while let Some(request) = receive(&mut stream).await {
        record
            .received
            .lock()
            .expect("no test panics with it")
            .push(request);
        match &answer {
            Answer::Bytes(bytes) => {
                stream.write_all(bytes).await.expect("loopback works");
                stream.flush().await.expect("loopback works");
            }
            Answer::Endless(head) => {
                let mut more = stream.write_all(head).await;
                while more.is_ok() {
                    more = stream.write_all(&[b'x'; 4096]).await;
                }
                break;
            }
            Answer::Once(last) if answered > 0 => {
                stream.write_all(last).await.expect("loopback works");
                return;
            }
            Answer::Once(_) | Answer::ThenClose => {
                stream.write_all(FINE).await.expect("loopback works");
                if matches!(answer, Answer::ThenClose) {
                    break;
                }
            }
            Answer::Close => return,
            Answer::Silence => {}
        }
        answered += 1;
    }
    drop(stream);
    record.closed.fetch_add(1, Ordering::SeqCst);
}

/// One request; `None` at the end of the connection.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Option<Received> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("loopback works");
    let mut lines = head.trim_end().lines().map(str::to_owned);
    let request_line = lines.next()?;
    let headers: Vec<String> = lines.collect();
    let length = headers
        .iter()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.parse().expect("loopback works"));
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(Received {
        request_line,
        headers,
        body,
    })
}

//! `amqps`: the broker's certificate is checked, and the client shows its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use url::Url;

use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, pem: &str) {
        std::fs::write(self.path(name), pem).unwrap();
    }
}

/// An authority, a server certificate for `localhost`, a client certificate, and another authority.
fn certificates() -> Files {
    let files = Files {
        directory: tempfile::tempdir().unwrap(),
    };
    let authority = || {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let ca = authority();
    files.write("ca.pem", &ca.pem());
    files.write("other-ca.pem", &authority().pem());
    for name in ["localhost", "client"] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &ca).unwrap();
        files.write(&format!("{name}.pem"), &certificate.pem());
        files.write(&format!("{name}.key"), &key.serialize_pem());
    }
    files
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// A TLS listener before the broker's plain port, which lets in only clients with a certificate.
async fn listener(files: &Files, broker: &Url) -> SocketAddr {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(certificate(&files.path("ca.pem"))).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![certificate(&files.path("localhost.pem"))],
            PrivateKeyDer::from_pem_file(files.path("localhost.key")).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let upstream = (
        broker.host_str().unwrap().to_owned(),
        broker.port().unwrap_or(5672),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (acceptor, upstream) = (acceptor.clone(), upstream.clone());
            tokio::spawn(async move {
                let mut client = acceptor.accept(client).await?;
                let mut broker = TcpStream::connect(upstream).await?;
                tokio::io::copy_bidirectional(&mut client, &mut broker).await
            });
        }
    });
    address
}

fn amqps(vhost: &Vhost, address: SocketAddr) -> Url {
    let url = vhost.url();
    let password = url.password().unwrap_or_default();
    let port = address.port();
    let path = url.path();
    Url::parse(&format!(
        "amqps://{}:{password}@localhost:{port}{path}",
        url.username()
    ))
    .unwrap()
}

fn lines(files: &Files, ca: &str, identity: bool) -> String {
    let mut lines = format!("ca = '{}'", files.path(ca).display());
    if identity {
        let (cert, key) = (files.path("client.pem"), files.path("client.key"));
        lines = format!(
            "{lines}\ncert = '{}'\nkey = '{}'",
            cert.display(),
            key.display()
        );
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_speaks_tls_and_shows_its_certificate() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 20).await;
    let files = certificates();
    let url = amqps(&vhost, listener(&files, vhost.url()).await);
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(&url, &gate, "").broker(&lines(&files, "ca.pem", true));
    let mut worker = Worker::ready(&config).await;
    gate.finished(20).await;
    let report = worker.drained().await;
    assert_eq!(report.number("unconfirmed"), 0);
    assert_eq!(vhost.ready("orders").await, 0);
}

/// A worker that cannot connect: it says `cause`, keeps trying, and drains.
async fn is_refused(ca: &str, identity: bool, cause: &str) {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let files = certificates();
    let url = amqps(&vhost, listener(&files, vhost.url()).await);
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(&url, &gate, "").broker(&lines(&files, ca, identity));
    let mut worker = Worker::spawn(&config);
    worker
        .logged_where(cause, |line| {
            line.message().contains("cannot connect") && line.text("error").contains(cause)
        })
        .await;
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_signed_by_another_authority_is_not_trusted() {
    is_refused("other-ca.pem", true, "invalid peer certificate").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_its_certificate_is_turned_away() {
    is_refused("ca.pem", false, "CertificateRequired").await;
}

/// An image that was built from nothing has no certificates at all.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_authority_of_its_own_no_store_of_the_system_is_needed() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 5).await;
    let files = certificates();
    let url = amqps(&vhost, listener(&files, vhost.url()).await);
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(&url, &gate, "").broker(&lines(&files, "ca.pem", true));
    let nowhere = files.path("nowhere").display().to_string();
    let store = [("SSL_CERT_FILE", &*nowhere), ("SSL_CERT_DIR", &*nowhere)];
    let mut worker = Worker::spawn_toml(&config.toml(), &store);
    gate.finished(5).await;
    worker.drained().await;

    let config = WorkerConfig::for_orders(&url, &gate, "");
    let mut worker = Worker::spawn_toml(&config.toml(), &store);
    worker
        .logged_where("no authority", |line| {
            line.text("error").contains("broker.ca")
        })
        .await;
    worker.drained().await;
}

//! Whom the `http` handler trusts.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::handler::HandlerError;

/// The TLS of a client that trusts the system's authorities, and those in the PEM file `ca` beside them.
pub(super) fn config(ca: Option<&Path>) -> Result<ClientConfig, HandlerError> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        add_file(&mut roots, path)?;
    }
    add_system(&mut roots);
    if roots.is_empty() {
        return Err(HandlerError::NoAuthorities);
    }
    // The provider is named here, not installed for the process: a library must not choose for its program.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), HandlerError> {
    let refused = |cause: String| HandlerError::Ca {
        path: path.to_owned(),
        cause,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| refused(error.to_string()))?;
    if certificates.is_empty() {
        return Err(refused("there is no certificate in it".into()));
    }
    for certificate in certificates {
        roots
            .add(certificate)
            .map_err(|error| refused(error.to_string()))?;
    }
    Ok(())
}

/// The system's store may hold a certificate that cannot be read; the others still count.
fn add_system(roots: &mut RootCertStore) {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "one of the system's certificate authorities cannot be read");
    }
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    tracing::debug!(added, ignored, "read the system's certificate authorities");
}

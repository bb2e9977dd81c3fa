//! TLS: the authorities that may sign the broker's certificate, and the client's own certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::unverified::Unverified;
use crate::broker::BrokerError;
use crate::config::BrokerSettings;

/// Reads the files that `settings` name, and the system's store of authorities.
///
/// With `ca` that store may be missing or empty: a minimal image has none. Without it, it is an error.
///
/// # Errors
/// [`BrokerError::File`] names the file that cannot be used.
pub(super) async fn config(settings: &BrokerSettings) -> Result<Arc<ClientConfig>, BrokerError> {
    let settings = settings.clone();
    // It reads many files.
    let built = tokio::task::spawn_blocking(move || build(&settings));
    built.await.unwrap_or_else(|error| {
        Err(BrokerError::Lost {
            what: "reading certificates",
            cause: error.to_string(),
        })
    })
}

fn build(settings: &BrokerSettings) -> Result<Arc<ClientConfig>, BrokerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions");
    let builder = if settings.verify {
        builder.with_root_certificates(roots(settings.ca.as_deref())?)
    } else {
        let anybody = Arc::new(Unverified(provider));
        builder
            .dangerous()
            .with_custom_certificate_verifier(anybody)
    };
    let config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = certificates(certificate)?;
            let private = PrivateKeyDer::from_pem_file(key)
                .map_err(|_what_it_quotes| unusable(key, "there is no private key in PEM in it"))?;
            builder
                .with_client_auth_cert(chain, private)
                .map_err(|error| unusable(certificate, error))?
        }
    };
    Ok(Arc::new(config))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, BrokerError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(ca) = ca {
        for certificate in certificates(ca)? {
            let added = roots.add(certificate);
            added.map_err(|error| unusable(ca, error))?;
        }
    }
    if roots.is_empty() {
        let cause = system
            .errors
            .first()
            .map_or_else(|| "it holds no certificate".to_owned(), ToString::to_string);
        return Err(BrokerError::File {
            path: "the system's store of certificates".to_owned(),
            cause: format!("{cause}; broker.ca can name the authority instead"),
        });
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let found =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match found {
        Ok(found) if found.is_empty() => Err(unusable(path, "there is no certificate in it")),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(path, error)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "errors are handed over")]
fn unusable(path: &Path, cause: impl ToString) -> BrokerError {
    BrokerError::File {
        path: path.display().to_string(),
        cause: cause.to_string(),
    }
}

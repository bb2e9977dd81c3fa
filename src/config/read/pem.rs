//! PEM files that the configuration names: looked into now, so that a wrong one does not wait for the first
//! connection.

use std::path::PathBuf;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::super::error::Rule;
use super::super::tree::Tree;
use super::super::{file, value};

/// A file of at least one certificate.
pub(super) fn certificates(tree: &Tree) -> Result<PathBuf, Rule> {
    let (path, text) = text(tree)?;
    let certificates = CertificateDer::pem_slice_iter(text.as_bytes());
    match certificates.collect::<Result<Vec<_>, _>>() {
        Ok(found) if found.is_empty() => Err("there is no certificate in the file".into()),
        Ok(_) => Ok(path),
        Err(_) => Err("is not a PEM file of certificates".into()),
    }
}

/// A file of a private key.
pub(super) fn private_key(tree: &Tree) -> Result<PathBuf, Rule> {
    let (path, text) = text(tree)?;
    match PrivateKeyDer::from_pem_slice(text.as_bytes()) {
        Ok(_) => Ok(path),
        // What the parser says of the file may quote it.
        Err(_) => Err("there is no private key in PEM in the file".into()),
    }
}

fn text(tree: &Tree) -> Result<(PathBuf, String), Rule> {
    let path = value::path(tree)?;
    let text = file::text(&path).map_err(|cause| format!("cannot be read: {cause}"))?;
    Ok((path, text))
}

//! The broker as discovery names it, with the TLS of `MQ_USE_SSL_*`.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;

use tidegate::config::{BrokerSettings, UrlError};
use tracing::warn;

use crate::broker_group::Broker;
use crate::settings::{BrokerTls, Pem};

/// Why a broker's settings cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum BrokerSettingsError {
    /// The address that the platform gives cannot be used.
    #[error("the broker's address, as the platform gives it, {0}")]
    Url(#[from] UrlError),
    /// PEM text cannot be kept in memory.
    #[error("MQ_USE_SSL_*: {0}")]
    Memory(#[from] std::io::Error),
}

/// The settings of the connections to `broker`.
///
/// # Errors
/// See [`BrokerSettingsError`].
pub fn broker_settings(
    broker: &Broker,
    tls: &BrokerTls,
) -> Result<BrokerSettings, BrokerSettingsError> {
    let mut settings = BrokerSettings::from_url(broker.url().as_str())?;
    if broker.key.tls {
        settings.ca = tls.ca.as_ref().map(file).transpose()?;
        if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
            settings.identity = Some((file(cert)?, file(key)?));
        }
        settings.verify = tls.reject_unauthorized;
        if !settings.verify {
            warn!(
                "the broker's certificate is not verified; MQ_USE_SSL_REJECT_UNAUTHORIZED=true has it verified"
            );
        }
    }
    Ok(settings)
}

/// The path of PEM text. Inline text goes to a file in memory: the file system may be read-only.
fn file(pem: &Pem) -> std::io::Result<PathBuf> {
    match pem {
        Pem::File(path) => Ok(path.clone()),
        Pem::Inline(text) => {
            let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
            let descriptor = nix::sys::memfd::memfd_create("pem", flags)?;
            let mut file = File::from(descriptor);
            file.write_all(text.as_bytes())?;
            let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
            // It has to stay for as long as the worker connects.
            std::mem::forget(file);
            Ok(path)
        }
    }
}

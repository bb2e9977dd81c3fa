//! HTTP clients: of the platform, and of connectors' callbacks.

use std::path::Path;

use reqwest::{Certificate, ClientBuilder, NoProxy, Proxy, redirect};

use crate::graphql::ClientError;
use crate::settings::{Pem, Proxies, Settings, Verify};

/// A client of the platform.
pub(crate) fn platform(settings: &Settings) -> Result<ClientBuilder, ClientError> {
    let mut builder = base(&settings.proxies, ("HTTP_PROXY", "HTTPS_PROXY"))?;
    if let Some(pem) = &settings.ca_certificates {
        builder = builder.tls_certs_merge(certificates("HTTPS_CA_CERTIFICATES", pem)?);
    }
    Ok(match &settings.verify {
        // Additional authorities mean that certificates are verified, as in pycti.
        Verify::No if settings.ca_certificates.is_none() => {
            builder.tls_danger_accept_invalid_certs(true)
        }
        Verify::System if settings.ca_certificates.is_none() => with_bundle(builder, settings)?,
        Verify::No | Verify::System => builder,
        Verify::Ca(path) => {
            let pem = Pem::File(path.clone());
            builder.tls_certs_only(certificates("OPENCTI_SSL_VERIFY", &pem)?)
        }
    })
}

/// A client of callbacks.
pub(crate) fn callback(settings: &Settings) -> Result<ClientBuilder, ClientError> {
    let callback = &settings.callback;
    let keys = (
        "WORKER_LISTEN_API_HTTP_PROXY",
        "WORKER_LISTEN_API_HTTPS_PROXY",
    );
    let builder = base(&callback.proxies, keys)?;
    if callback.verify {
        with_bundle(builder, settings)
    } else {
        Ok(builder.tls_danger_accept_invalid_certs(true))
    }
}

/// Takes the authorities of `REQUESTS_CA_BUNDLE` for the system's, as Python's `requests` does.
fn with_bundle(builder: ClientBuilder, settings: &Settings) -> Result<ClientBuilder, ClientError> {
    let Some(bundle) = &settings.ca_bundle else {
        return Ok(builder);
    };
    let pem = Pem::File(bundle.clone());
    Ok(builder.tls_certs_only(certificates("REQUESTS_CA_BUNDLE", &pem)?))
}

/// The error of a client that cannot be made.
pub(crate) fn refused(key: &'static str, error: &dyn std::error::Error) -> ClientError {
    let cause = error.source().map(|cause| format!(": {cause}"));
    ClientError::Setting {
        key,
        rule: format!("{error}{}", cause.unwrap_or_default()),
    }
}

fn base(
    proxies: &Proxies,
    (http, https): (&'static str, &'static str),
) -> Result<ClientBuilder, ClientError> {
    // It fails if there is a provider already, and then that one serves.
    let _there = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none());
    let except = proxies.except.as_deref().and_then(NoProxy::from_string);
    if let Some(url) = &proxies.http {
        let proxy = Proxy::http(url).map_err(|error| refused(http, &error))?;
        builder = builder.proxy(proxy.no_proxy(except.clone()));
    }
    if let Some(url) = &proxies.https {
        let proxy = Proxy::https(url).map_err(|error| refused(https, &error))?;
        builder = builder.proxy(proxy.no_proxy(except));
    }
    Ok(builder)
}

fn certificates(key: &'static str, pem: &Pem) -> Result<Vec<Certificate>, ClientError> {
    let text = match pem {
        Pem::Inline(text) => text.clone().into_bytes(),
        Pem::File(path) => read(path)?,
    };
    let read = Certificate::from_pem_bundle(&text).map_err(|error| refused(key, &error))?;
    if read.is_empty() {
        let rule = "has no certificate".to_owned();
        return Err(ClientError::Setting { key, rule });
    }
    Ok(read)
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path).map_err(|cause| ClientError::File {
        file: path.display().to_string(),
        cause,
    })
}

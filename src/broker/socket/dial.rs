//! From a host's name to an open socket.

use std::io;
use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::race::first_to_connect;
use super::{Socket, Stream, tls};
use crate::broker::BrokerError;
use crate::config::BrokerSettings;

/// Connects to the broker of `settings`, with TLS if they say so; the socket, and the address that answered. Addresses
/// in `silent` come last. It has no limit of its own.
///
/// # Errors
/// [`BrokerError::Unreachable`] names the host; [`BrokerError::File`] a file of certificates.
pub(in crate::broker) async fn dial(
    settings: &BrokerSettings,
    silent: &[SocketAddr],
    frame_max: u32,
) -> Result<(Socket, SocketAddr), BrokerError> {
    let config = if settings.tls {
        Some(tls::config(settings).await?)
    } else {
        None
    };
    let unreachable = |cause: io::Error| BrokerError::Unreachable {
        address: settings.address(),
        cause: cause.to_string(),
    };
    let (stream, address) = connect(settings, silent).await.map_err(unreachable)?;
    let Some(config) = config else {
        return Ok((Socket::new(Stream::Plain(stream), frame_max), address));
    };
    let name = ServerName::try_from(settings.host.clone())
        .map_err(|error| unreachable(io::Error::other(error)))?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| unreachable(io::Error::new(error.kind(), format!("TLS: {error}"))))?;
    let stream = Stream::Tls(Box::new(stream));
    Ok((Socket::new(stream, frame_max), address))
}

async fn connect(
    settings: &BrokerSettings,
    silent: &[SocketAddr],
) -> io::Result<(TcpStream, SocketAddr)> {
    let found = lookup_host((settings.host.as_str(), settings.port)).await?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.sort_by_key(|address| silent.contains(address));
    let (stream, address) = first_to_connect(&addresses, TcpStream::connect).await?;
    stream.set_nodelay(true)?;
    Ok((stream, address))
}

//! What a broker says of itself before anybody logs in.

use std::io;

use async_rs::Runtime;
use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use lapin::protocol::connection::AMQPMethod;
use lapin::protocol::{AMQPClass, parse_class};
use lapin::tcp::AMQPUriTcpExt as _;
use lapin::types::AMQPValue;
use tokio::runtime::Handle;

use super::{AmqpRuntime, BrokerError, link};
use crate::config::BrokerSettings;

/// AMQP 0-9-1's protocol header (specification 4.2.2).
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Type, channel and size of a frame.
const FRAME_HEADER_BYTES: usize = 7;
/// The type of a method's frame.
const METHOD: u8 = 1;
/// The largest `connection.start` read; a broker sends about 500 bytes.
const START_LIMIT_BYTES: u32 = 64 * 1024;

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The product's name, such as `RabbitMQ`; empty where it says none.
    pub product: String,
    /// Its version; empty where it says none.
    pub version: String,
}

impl Server {
    /// Whether it is `RabbitMQ` of this version or a newer one; not, where the version cannot be read.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.split(|c: char| !c.is_ascii_digit());
        let mut part = || parts.next().and_then(|part| part.parse::<u32>().ok());
        self.product == "RabbitMQ"
            && part()
                .zip(part())
                .is_some_and(|found| found >= (major, minor))
    }
}

/// Connects, with TLS where the settings say so, reads the broker's `connection.start`, and hangs up; all
/// within `settings.connect_timeout`. The client library keeps the broker's properties to itself.
///
/// # Errors
/// [`BrokerError::Unreachable`] for the network, TLS, and a peer that does not speak AMQP 0-9-1;
/// [`BrokerError::TimedOut`], [`BrokerError::File`].
pub async fn server(
    settings: &BrokerSettings,
    runtime: &AmqpRuntime,
) -> Result<Server, BrokerError> {
    server_on(settings, runtime.handle()).await
}

/// As [`server`], on the runtime of `handle`.
pub(super) async fn server_on(
    settings: &BrokerSettings,
    handle: &Handle,
) -> Result<Server, BrokerError> {
    let tls = link::tls(settings).await?;
    let reactor = Runtime::tokio_with_handle(handle.clone());
    let uri = link::uri(settings);
    let greet = async {
        let mut stream = uri
            .connect_with_config_async(tls.as_ref(), &reactor)
            .await?;
        stream.write_all(PROTOCOL_HEADER).await?;
        stream.flush().await?;
        let mut header = [0; FRAME_HEADER_BYTES];
        stream.read_exact(&mut header).await?;
        let [kind, _, _, size @ ..] = header;
        let size = u32::from_be_bytes(size);
        if kind != METHOD || size > START_LIMIT_BYTES {
            return Err(not_amqp());
        }
        let size = usize::try_from(size).expect("the limit fits");
        let mut payload = vec![0; size];
        stream.read_exact(&mut payload).await?;
        parse(&payload).ok_or_else(not_amqp)
    };
    match tokio::time::timeout(settings.connect_timeout, greet).await {
        Ok(answer) => answer.map_err(|error| BrokerError::Unreachable {
            address: format!("{}:{}", settings.host, settings.port),
            cause: cause(&error, settings.tls),
        }),
        Err(_elapsed) => Err(BrokerError::TimedOut {
            what: "connecting",
            limit: settings.connect_timeout,
        }),
    }
}

fn not_amqp() -> io::Error {
    io::Error::other("the peer does not speak AMQP 0-9-1")
}

/// The error in words; what a wrong port looks like gets a hint.
fn cause(error: &io::Error, tls: bool) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof if !tls => {
            "the peer hung up without a word; it may expect TLS (amqps), or not speak AMQP"
                .to_owned()
        }
        io::ErrorKind::InvalidData if tls => {
            format!("TLS failed: {error}")
        }
        _ => error.to_string(),
    }
}

fn parse(payload: &[u8]) -> Option<Server> {
    let Ok((_, AMQPClass::Connection(AMQPMethod::Start(start)))) = parse_class(payload) else {
        return None;
    };
    let text = |key: &str| match start.server_properties.inner().get(key) {
        Some(AMQPValue::LongString(text)) => text.to_string(),
        _ => String::new(),
    };
    Some(Server {
        product: text("product"),
        version: text("version"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let server = |version: &str| Server {
            product: "RabbitMQ".to_owned(),
            version: version.to_owned(),
        };
        for (version, expected) in [
            ("4.3.0", true),
            ("4.10.1", true),
            ("5.0.0-rc.1", true),
            ("4.2.9", false),
            ("3.13.7", false),
            ("4", false),
            ("", false),
        ] {
            assert_eq!(server(version).is_at_least(4, 3), expected, "{version:?}");
        }
        let other = Server {
            product: "Other".to_owned(),
            ..server("9.9")
        };
        assert!(!other.is_at_least(4, 0));
    }
}

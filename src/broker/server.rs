//! The broker's product and version, from its greeting (`connection.start`).

use lapin::protocol::connection::AMQPMethod;
use lapin::protocol::{AMQPClass, parse_class};
use lapin::types::AMQPValue;

use super::socket::SocketHandle;

/// The server at the other end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// The product's name, such as `RabbitMQ`; empty if it gives none.
    pub product: String,
    /// Its version; empty if it gives none.
    pub version: String,
}

impl Server {
    /// Whether it is `RabbitMQ` of this version or a newer one; not if the version cannot be read.
    pub fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.split(|c: char| !c.is_ascii_digit());
        let mut part = || parts.next().and_then(|part| part.parse::<u32>().ok());
        self.product == "RabbitMQ"
            && part()
                .zip(part())
                .is_some_and(|found| found >= (major, minor))
    }

    /// Reads the payload of `connection.start`.
    pub(super) fn parse(start: &[u8]) -> Option<Self> {
        let Ok((_, AMQPClass::Connection(AMQPMethod::Start(start)))) = parse_class(start) else {
            return None;
        };
        let text = |key: &str| match start.server_properties.inner().get(key) {
            Some(AMQPValue::LongString(text)) => text.to_string(),
            _ => String::new(),
        };
        Some(Self {
            product: text("product"),
            version: text("version"),
        })
    }
}

/// `cause` with what it may mean, for a connection that ended in its handshake.
pub(super) fn hint(cause: String, socket: &SocketHandle, tls: bool) -> String {
    if socket.greeting().is_some() {
        return cause;
    }
    // What the guard says of bytes that are no frame: the peer answers in another protocol.
    let hint = if cause.contains("the broker sent a frame") {
        "the peer does not speak AMQP 0-9-1"
    } else if tls {
        "the peer hung up without a greeting; it may not speak AMQP"
    } else {
        "the peer hung up without a greeting; it may expect TLS (amqps), or not speak AMQP"
    };
    format!("{hint} ({cause})")
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

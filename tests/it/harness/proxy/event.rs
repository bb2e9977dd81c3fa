//! What the proxy records.

use std::fmt;
use std::time::Duration;

use amq_protocol::frame::{AMQPContentHeader, AMQPFrame};
use amq_protocol::protocol::{AMQPClass, connection};
use amq_protocol::types::AMQPValue;

use super::frames::Frame;

/// How much of one body frame is kept.
const BODY_LIMIT: usize = 64 * 1024;

/// Which way a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the broker.
    ToBroker,
    /// From the broker to the client.
    ToClient,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The program under test.
    Client,
    /// The broker.
    Broker,
    /// The proxy: a cut, a refusal, or a broker that cannot be reached.
    Proxy,
}

/// One thing that happened, in the order of the whole proxy.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// Its place, from 0.
    pub seq: usize,
    /// When, since the proxy's start.
    pub at: Duration,
    /// The number of its connection, from 1 in the order they were made.
    pub connection: u32,
    /// The channel; 0 for what concerns the connection.
    pub channel: u16,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone)]
pub(crate) enum What {
    /// A connection was accepted.
    Opened,
    /// One side ended the connection (first end seen; recorded once).
    Closed(Side),
    /// A method.
    Method(Direction, AMQPClass),
    /// A content header.
    Header(Direction, Box<AMQPContentHeader>),
    /// A body frame: its first 64 KiB, and its whole length.
    Body(Direction, Vec<u8>, usize),
    /// A heartbeat.
    Heartbeat(Direction),
    /// The client's protocol header.
    ProtocolHeader,
    /// Bytes that are no AMQP.
    Undecodable(Direction, String),
}

impl What {
    pub(super) fn of(direction: Direction, frame: &Frame) -> Self {
        match &frame.decoded {
            Ok(AMQPFrame::ProtocolHeader(_)) => Self::ProtocolHeader,
            Ok(AMQPFrame::Method(_, class)) => Self::Method(direction, class.clone()),
            Ok(AMQPFrame::Header(_, header)) => Self::Header(direction, Box::new(header.clone())),
            Ok(AMQPFrame::Body(_, body)) => {
                let kept = body[..body.len().min(BODY_LIMIT)].to_vec();
                Self::Body(direction, kept, body.len())
            }
            Ok(AMQPFrame::Heartbeat | AMQPFrame::InvalidHeartbeat(_)) => Self::Heartbeat(direction),
            Err(error) => Self::Undecodable(direction, error.clone()),
        }
    }
}

impl Event {
    /// Its name: a method's as in the AMQP specification (`basic.cancel-ok`), else `opened`, `closed`,
    /// `header`, `body`, `heartbeat`, `protocol-header`, `undecodable`.
    pub(crate) fn name(&self) -> String {
        match &self.what {
            What::Opened => "opened".to_owned(),
            What::Closed(_) => "closed".to_owned(),
            What::Method(_, class) => method_name(class),
            What::Header(..) => "header".to_owned(),
            What::Body(..) => "body".to_owned(),
            What::Heartbeat(_) => "heartbeat".to_owned(),
            What::ProtocolHeader => "protocol-header".to_owned(),
            What::Undecodable(..) => "undecodable".to_owned(),
        }
    }

    /// Whether it is the method `name`, either way.
    pub(crate) fn is(&self, name: &str) -> bool {
        self.method()
            .is_some_and(|class| method_name(class) == name)
    }

    /// Whether it is the client saying who it is, with a connection name that contains `part`.
    pub(crate) fn connects_as(&self, part: &str) -> bool {
        self.connection_name()
            .is_some_and(|name| name.contains(part))
    }

    /// The connection's own name, if this is the method that says it.
    pub(crate) fn connection_name(&self) -> Option<String> {
        let AMQPClass::Connection(connection::AMQPMethod::StartOk(start)) = self.method()? else {
            return None;
        };
        match start.client_properties.inner().get("connection_name")? {
            AMQPValue::LongString(name) => Some(name.to_string()),
            AMQPValue::ShortString(name) => Some(name.to_string()),
            _ => None,
        }
    }

    /// The method with its arguments.
    pub(crate) fn method(&self) -> Option<&AMQPClass> {
        match &self.what {
            What::Method(_, class) => Some(class),
            _ => None,
        }
    }

    /// Which way it went; nothing for what is no frame.
    pub(crate) fn direction(&self) -> Option<Direction> {
        match self.what {
            What::Method(direction, _)
            | What::Header(direction, _)
            | What::Body(direction, ..)
            | What::Heartbeat(direction)
            | What::Undecodable(direction, _) => Some(direction),
            What::ProtocolHeader => Some(Direction::ToBroker),
            What::Opened | What::Closed(_) => None,
        }
    }
}

/// A method's name as in the AMQP specification: `basic.cancel-ok`.
pub(super) fn method_name(class: &AMQPClass) -> String {
    // The library has no names, but its types are named after the specification: `Basic(CancelOk(…))`.
    let text = format!("{class:?}");
    let mut words = text.split('(');
    let class = words.next().unwrap_or_default().to_lowercase();
    let mut name = format!("{class}.");
    for (index, letter) in words.next().unwrap_or_default().chars().enumerate() {
        if letter.is_uppercase() && index > 0 {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

/// A method's arguments, without those that carry credentials.
fn arguments(class: &AMQPClass) -> String {
    let text = format!("{class:?}");
    if method_name(class).starts_with("connection.") && !method_name(class).contains("close") {
        return String::new();
    }
    let inner = text.split_once('{').map_or("", |(_, inner)| inner);
    inner.trim_end_matches([')', '}', ' ']).trim().to_owned()
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arrow = match self.direction() {
            Some(Direction::ToBroker) => "-->",
            Some(Direction::ToClient) => "<--",
            None => "   ",
        };
        write!(
            f,
            "{:>5} {:>9.3} ms  {}/{} {arrow} {}",
            self.seq,
            self.at.as_secs_f64() * 1000.0,
            self.connection,
            self.channel,
            self.name()
        )?;
        match &self.what {
            What::Method(_, class) => write!(f, " {}", arguments(class)),
            What::Closed(side) => write!(f, " by {side:?}"),
            What::Header(_, header) => write!(f, " {} bytes follow", header.body_size),
            What::Body(_, _, length) => write!(f, " {length} bytes"),
            What::Undecodable(_, error) => write!(f, " {error}"),
            What::Opened | What::Heartbeat(_) | What::ProtocolHeader => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use amq_protocol::protocol::{basic, connection, queue};

    #[test]
    fn methods_are_named_as_the_specification_names_them() {
        let cancelled = basic::CancelOk {
            consumer_tag: "one".into(),
        };
        let cancel_ok = AMQPClass::Basic(basic::AMQPMethod::CancelOk(cancelled));
        assert_eq!(method_name(&cancel_ok), "basic.cancel-ok");
        assert!(arguments(&cancel_ok).contains("one"));
        let ack = AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack {
            delivery_tag: 4,
            multiple: true,
        }));
        assert_eq!(method_name(&ack), "basic.ack");
        assert_eq!(arguments(&ack), "delivery_tag: 4, multiple: true");
        let declared = AMQPClass::Queue(queue::AMQPMethod::DeclareOk(queue::DeclareOk::default()));
        assert_eq!(method_name(&declared), "queue.declare-ok");
        let recover = AMQPClass::Basic(basic::AMQPMethod::RecoverAsync(basic::RecoverAsync {
            requeue: true,
        }));
        assert_eq!(method_name(&recover), "basic.recover-async");
    }

    #[test]
    fn credentials_are_not_printed() {
        let start = connection::StartOk {
            response: "\0guest\0secret".into(),
            ..connection::StartOk::default()
        };
        let start = AMQPClass::Connection(connection::AMQPMethod::StartOk(start));
        assert_eq!(method_name(&start), "connection.start-ok");
        assert_eq!(arguments(&start), "");
    }
}

//! Questions to the record.

use std::collections::BTreeMap;
use std::fmt;

use amq_protocol::protocol::basic::AMQPProperties;
use amq_protocol::protocol::{AMQPClass, basic};

use super::event::{Direction, Event, Side, What};

/// What the proxy had recorded when it was asked; all connections, in order.
#[derive(Debug, Clone)]
pub(crate) struct Log(pub(super) Vec<Event>);

/// A message that a client published, put together from its frames.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    /// Place of its `basic.publish`.
    pub seq: usize,
    /// Its connection.
    pub connection: u32,
    /// Its channel.
    pub channel: u16,
    /// Exchange.
    pub exchange: String,
    /// Routing key.
    pub routing_key: String,
    /// Properties.
    pub properties: AMQPProperties,
    /// Body; of each frame the first 64 KiB.
    pub body: Vec<u8>,
}

impl Log {
    /// Everything.
    pub(crate) fn events(&self) -> &[Event] {
        &self.0
    }

    /// The methods, both ways, all connections.
    pub(crate) fn methods(&self) -> Vec<&Event> {
        self.all(|event| event.method().is_some())
    }

    /// The names of the methods that the client sent on `connection`, in order.
    pub(crate) fn sent(&self, connection: u32) -> Vec<String> {
        self.0
            .iter()
            .filter(|event| event.connection == connection)
            .filter(|event| event.direction() == Some(Direction::ToBroker))
            .filter(|event| event.method().is_some())
            .map(Event::name)
            .collect()
    }

    /// All events for which `wanted` holds.
    pub(crate) fn all(&self, wanted: impl Fn(&Event) -> bool) -> Vec<&Event> {
        self.0.iter().filter(|event| wanted(event)).collect()
    }

    /// The place of the first event for which `wanted` holds.
    pub(crate) fn position(&self, wanted: impl Fn(&Event) -> bool) -> Option<usize> {
        self.0.iter().position(wanted)
    }

    /// The place of the last event for which `wanted` holds.
    pub(crate) fn last_position(&self, wanted: impl Fn(&Event) -> bool) -> Option<usize> {
        self.0.iter().rposition(wanted)
    }

    /// The first event for which `wanted` holds.
    ///
    /// # Panics
    /// With the whole log where there is none.
    pub(crate) fn first(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> &Event {
        match self.position(wanted) {
            Some(place) => &self.0[place],
            None => panic!("the log has no {what}:\n{self}"),
        }
    }

    /// The last event for which `wanted` holds.
    ///
    /// # Panics
    /// With the whole log where there is none.
    pub(crate) fn last(&self, what: &str, wanted: impl Fn(&Event) -> bool) -> &Event {
        match self.last_position(wanted) {
            Some(place) => &self.0[place],
            None => panic!("the log has no {what}:\n{self}"),
        }
    }

    /// Who ended `connection` first, and where in the log.
    pub(crate) fn closed(&self, connection: u32) -> Option<(usize, Side)> {
        self.0.iter().find_map(|event| match event.what {
            What::Closed(side) if event.connection == connection => Some((event.seq, side)),
            _ => None,
        })
    }

    /// The connections' own names (client property `connection_name`), where they gave one.
    pub(crate) fn connection_names(&self) -> BTreeMap<u32, String> {
        let named = self
            .0
            .iter()
            .filter_map(|event| Some((event.connection, event.connection_name()?)));
        named.collect()
    }

    /// The last connection whose name contains `part`.
    ///
    /// # Panics
    /// With the whole log where there is none.
    pub(crate) fn connection_named(&self, part: &str) -> u32 {
        let names = self.connection_names();
        let found = names.iter().rev().find(|(_, name)| name.contains(part));
        match found {
            Some((connection, _)) => *connection,
            None => panic!("no connection is named {part:?}, only {names:?}:\n{self}"),
        }
    }

    /// Every message that clients have published, whole ones only, in the order of their `basic.publish`.
    pub(crate) fn published(&self) -> Vec<Published> {
        let mut open: BTreeMap<(u32, u16), (Published, u64)> = BTreeMap::new();
        let mut whole = Vec::new();
        for event in &self.0 {
            let key = (event.connection, event.channel);
            match &event.what {
                What::Method(
                    Direction::ToBroker,
                    AMQPClass::Basic(basic::AMQPMethod::Publish(publish)),
                ) => {
                    let message = Published {
                        seq: event.seq,
                        connection: event.connection,
                        channel: event.channel,
                        exchange: publish.exchange.to_string(),
                        routing_key: publish.routing_key.to_string(),
                        properties: AMQPProperties::default(),
                        body: Vec::new(),
                    };
                    open.insert(key, (message, 0));
                }
                What::Header(Direction::ToBroker, header) => {
                    if let Some((message, left)) = open.get_mut(&key) {
                        message.properties = header.properties.clone();
                        *left = header.body_size;
                    }
                }
                What::Body(Direction::ToBroker, body, length) => {
                    if let Some((message, left)) = open.get_mut(&key) {
                        message.body.extend_from_slice(body);
                        *left = left.saturating_sub(u64::try_from(*length).unwrap_or(u64::MAX));
                    }
                }
                _ => continue,
            }
            let is_method = event.method().is_some();
            if !is_method && open.get(&key).is_some_and(|(_, left)| *left == 0) {
                whole.extend(open.remove(&key).map(|(message, _)| message));
            }
        }
        whole.sort_by_key(|message: &Published| message.seq);
        whole
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (connection, name) in self.connection_names() {
            writeln!(f, "connection {connection} is {name}")?;
        }
        for event in &self.0 {
            writeln!(f, "{event}")?;
        }
        Ok(())
    }
}

//! How a connection is, and what tells of it.

use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::Event;
use tokio::sync::watch;

/// How a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// It works.
    Up,
    /// The broker does not read from connections that publish (memory or disk alarm); the client library
    /// then writes nothing at all on it, not even a close.
    Blocked {
        /// The broker's words.
        reason: String,
    },
    /// It is gone for good.
    Lost {
        /// What ended it.
        cause: String,
        /// Whether the broker closed it because it could not go on, and not because it was told to.
        by_broker: bool,
    },
}

/// How often the connection's own state is looked at beside its events.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// `connection.close` with this code is an operator's, or a broker's that stops.
const CONNECTION_FORCED: u16 = 320;

/// Keeps `state` true until the connection is lost.
pub(super) async fn watch_events(
    events: impl futures_util::Stream<Item = Event>,
    status: lapin::ConnectionStatus,
    state: watch::Sender<LinkState>,
) {
    let mut events = std::pin::pin!(events);
    let mut check = tokio::time::interval(CHECK_INTERVAL);
    let mut by_broker = false;
    let cause = loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    state.send_replace(LinkState::Blocked { reason });
                }
                Some(Event::ConnectionUnblocked) => {
                    state.send_replace(LinkState::Up);
                }
                // A channel's error is reported here too; only the connection's own state decides.
                Some(Event::Error(error)) if !status.connected() => {
                    by_broker = is_brokers_trouble(&error);
                    break error.to_string();
                }
                Some(_) => {}
                None => break "the client library ended".to_owned(),
            },
            _ = check.tick() => if !status.connected() {
                break "the connection is closed".to_owned();
            },
        }
    };
    state.send_replace(LinkState::Lost { cause, by_broker });
}

/// Whether the broker closed the connection for a reason that will come again: an error of its own, or of the
/// protocol. Not when an operator closed it, or the broker stops (320).
fn is_brokers_trouble(error: &lapin::Error) -> bool {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(amqp) => amqp.get_id() != CONNECTION_FORCED,
        _ => false,
    }
}

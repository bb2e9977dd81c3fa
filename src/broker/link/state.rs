//! How a connection is, and what tells of it.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
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

/// How long the error of a connection that is down is waited for.
const CAUSE_LIMIT: Duration = Duration::from_millis(250);

/// Keeps `state` true until the connection is lost.
pub(super) async fn watch_events(
    events: impl Stream<Item = Event>,
    status: lapin::ConnectionStatus,
    state: watch::Sender<LinkState>,
) {
    let mut events = std::pin::pin!(events);
    let mut check = tokio::time::interval(CHECK_INTERVAL);
    let reported = loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    state.send_replace(LinkState::Blocked { reason });
                }
                Some(Event::ConnectionUnblocked) => {
                    state.send_replace(LinkState::Up);
                }
                // A channel's error is reported here too; only the connection's own state decides.
                Some(Event::Error(error)) if !status.connected() => break Some(error),
                Some(_) => {}
                None => break None,
            },
            _ = check.tick() => if !status.connected() {
                break None;
            },
        }
    };
    let error = error_of_connection(reported, events).await;
    state.send_replace(LinkState::Lost {
        by_broker: error.as_ref().is_some_and(is_brokers_trouble),
        cause: error.map_or("the connection is closed".to_owned(), |e| e.to_string()),
    });
}

/// The error that ended a connection which is down. The errors of channels are reported beside it, and may come before it:
/// they are the last resort.
async fn error_of_connection(
    reported: Option<lapin::Error>,
    mut events: impl Stream<Item = Event> + Unpin,
) -> Option<lapin::Error> {
    let mut found = reported;
    let search = async {
        while found.as_ref().is_none_or(lapin::Error::is_amqp_soft_error) {
            match events.next().await {
                Some(Event::Error(error)) => found = Some(error),
                Some(_) => {}
                None => break,
            }
        }
    };
    // If the time is over, what was found so far has to do.
    let _ = tokio::time::timeout(CAUSE_LIMIT, search).await;
    found
}

/// Whether the broker closed the connection for a reason that will come again: an error of its own, or of the
/// protocol. Not when an operator closed it, or the broker stops (320).
fn is_brokers_trouble(error: &lapin::Error) -> bool {
    match error.kind() {
        lapin::ErrorKind::ProtocolError(amqp) => {
            error.is_amqp_hard_error() && amqp.get_id() != CONNECTION_FORCED
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use lapin::protocol::{AMQPError, AMQPErrorKind, AMQPHardError, AMQPSoftError};

    use super::*;

    fn reported(kind: AMQPErrorKind) -> lapin::Error {
        lapin::ErrorKind::ProtocolError(AMQPError::new(kind, "for a test".into())).into()
    }

    fn of_channel() -> lapin::Error {
        reported(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED))
    }

    fn of_connection(error: AMQPHardError) -> Event {
        Event::Error(reported(AMQPErrorKind::Hard(error)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_channels_error_that_comes_first_is_not_the_cause() {
        for (error, trouble) in [
            (AMQPHardError::CONNECTIONFORCED, false),
            (AMQPHardError::INTERNALERROR, true),
        ] {
            let text = reported(AMQPErrorKind::Hard(error.clone())).to_string();
            let events = [Event::Error(of_channel()), of_connection(error)];
            let events = stream::iter(events).chain(stream::pending());
            let found = error_of_connection(Some(of_channel()), events).await;
            let found = found.unwrap();
            assert_eq!(found.to_string(), text);
            assert_eq!(is_brokers_trouble(&found), trouble);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_an_error_of_its_own_is_lost_in_time() {
        let found = error_of_connection(Some(of_channel()), stream::pending()).await;
        assert!(!is_brokers_trouble(&found.unwrap()));
        let found = error_of_connection(None, stream::pending()).await;
        assert!(found.is_none());
        let found = error_of_connection(None, stream::empty()).await;
        assert!(found.is_none());
    }
}

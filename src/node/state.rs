//! The state of a node, as others see it.

use crate::broker::BrokerError;
use crate::config::QueueType;

/// The state of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeState {
    /// On the way to its first consumer, or to another after a loss.
    Opening,
    /// Consuming a queue of this type, if the type is known.
    Consuming(Option<QueueType>),
    /// Not consuming, by command.
    Paused,
    /// The broker refuses its queue, and it has never consumed. It tries again, with backoff.
    Refused(BrokerError),
    /// Stopping in order.
    Draining,
}

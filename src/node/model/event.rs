//! What can happen to a node, in any order.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    /// The broker delivers the next message.
    Deliver,
    /// The oldest run ends so.
    Done,
    Retry,
    Dead,
    HandBack,
    Panic,
    /// The oldest run waits for two seconds.
    Hold,
    /// What is queued on the channel leaves the client.
    Write,
    /// The broker reads what is queued on the channel, and answers it.
    Read,
    /// The broker takes the oldest copy and says so.
    Confirm,
    /// The broker refuses the oldest copy.
    Refuse,
    /// A copy has waited long enough.
    CopyReturns,
    /// Another worker takes the next message.
    Elsewhere,
    /// The broker cancels the consumer.
    BrokerCancels,
    /// The queue takes back all that it has delivered, and the broker cancels the consumer (a consumer time-out of RabbitMQ 4.3).
    TimesOut,
    /// The broker closes the channel because of an error.
    ChannelError,
    LoseConsume,
    /// The broker closes the connection because of an error.
    ClosedByBroker,
    LosePublish,
    /// As before, but the broker has taken the copies that it was sent.
    LosePublishTaken,
    ConnectConsume,
    ConnectPublish,
    Pause,
    Resume,
    Drain,
    /// The deadline of the drain passes.
    Deadline,
    Abort,
    /// The node is told to go over to other settings.
    Renew,
    /// A bit more than a second passes.
    Tick,
}

/// Every event, with how often random lives have it.
pub(super) const ALL: [(Event, u32); 29] = [
    (Event::Deliver, 10),
    (Event::Done, 6),
    (Event::Retry, 3),
    (Event::Dead, 1),
    (Event::HandBack, 1),
    (Event::Panic, 1),
    (Event::Hold, 1),
    (Event::Write, 4),
    (Event::Read, 8),
    (Event::Confirm, 4),
    (Event::Refuse, 1),
    (Event::CopyReturns, 3),
    (Event::Elsewhere, 1),
    (Event::BrokerCancels, 1),
    (Event::TimesOut, 1),
    (Event::ChannelError, 1),
    (Event::LoseConsume, 1),
    (Event::ClosedByBroker, 1),
    (Event::LosePublish, 1),
    (Event::LosePublishTaken, 1),
    (Event::ConnectConsume, 4),
    (Event::ConnectPublish, 4),
    (Event::Pause, 1),
    (Event::Resume, 2),
    (Event::Drain, 1),
    (Event::Deadline, 1),
    (Event::Abort, 1),
    (Event::Renew, 1),
    (Event::Tick, 2),
];

/// The events whose every order is tried.
pub(super) const EXHAUSTIVE: [Event; 18] = [
    Event::Deliver,
    Event::Done,
    Event::Retry,
    Event::Write,
    Event::Read,
    Event::Confirm,
    Event::CopyReturns,
    Event::BrokerCancels,
    Event::TimesOut,
    Event::LoseConsume,
    Event::LosePublishTaken,
    Event::ConnectConsume,
    Event::ConnectPublish,
    Event::Pause,
    Event::Resume,
    Event::Drain,
    Event::Deadline,
    Event::Renew,
];

/// How far the node comes before the next event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It does everything that follows.
    Settles,
    /// Each task has this many turns.
    Turns(u8),
}

/// One of `enabled`, by weight.
pub(super) fn pick(random: &mut StdRng, enabled: &[(Event, u32)]) -> Option<Event> {
    let sum: u32 = enabled.iter().map(|(_, weight)| weight).sum();
    if sum == 0 {
        return None;
    }
    let mut place = random.random_range(0..sum);
    for (event, weight) in enabled {
        if place < *weight {
            return Some(*event);
        }
        place -= weight;
    }
    None
}

//! The only part that knows the client library: links to the broker, channels, topology.
//!
//! The library's own recovery stays off: with it a lost connection is invisible, tags restart at 1 unseen,
//! and a stale acknowledgement would destroy an unrelated message. Here a lost connection is an ordinary
//! event: a [`Session`] replaces its [`Link`] by a new one with a new generation, and every channel opened on the old one
//! is dead for good.
//!
//! Every connection runs over a socket of ours with a guard on its incoming side: what the library cannot read never
//! reaches it. See `guard`.
//!
//! Every await on the broker is bounded; [`RPC_LIMIT`] where nothing tighter is given.

mod backoff;
mod channels;
mod consume;
mod convert;
mod declare;
mod error;
mod exclusive;
mod feed;
mod guard;
mod inspect;
mod link;
mod publish;
mod pull;
mod runtime;
mod server;
mod session;
mod socket;
mod stream;
mod topology;

use std::future::Future;
use std::time::Duration;

use lapin::options::BasicAckOptions;

pub use crate::delivery::Message;
pub(crate) use backoff::Attempt;
pub use backoff::Backoff;
pub(crate) use consume::{ConsumeChannel, Consumer, Intake, Write};
#[cfg(test)]
pub(crate) use convert::delivery_of;
pub use error::BrokerError;
pub use exclusive::{ExclusiveConsumer, ExclusiveQueue, Taken};
pub use feed::{Batch, Feed, FeedQueue, Offset};
pub use guard::Guard;
pub use inspect::{find_exchange, find_queue, queue_type};
pub(crate) use link::FRAME_MAX;
pub use link::{Link, LinkState, connect};
pub use publish::{Confirm, Publisher};
pub use pull::{DeliveryLimit, PullChannel, declare_kept_for, delete_queue, delivery_limit, lock};
pub use runtime::AmqpRuntime;
pub use server::Server;
pub(crate) use session::{CONSUME, Isolation};
pub use session::{Session, SessionState};
pub use stream::{Stream, ensure_stream};
pub use topology::{
    Companion, QueueFacts, declare_topic_exchange, ensure_queue, ensure_topic_exchange,
};
pub(crate) use topology::{
    ensure_aside, ensure_dead_queue, ensure_delay_queue, ensure_known_queue,
};

/// How long one synchronous AMQP method (declare, bind, consume, qos, open) may take.
pub const RPC_LIMIT: Duration = Duration::from_secs(10);

/// The log directive that quiets the client library: what it logs of its own handling of errors, its callers
/// are told anyway.
pub const LIBRARY_LOG: &str = "lapin=off";

/// Awaits `future` for at most `limit`; `what` names the operation in errors.
async fn bounded<T>(
    what: &'static str,
    limit: Duration,
    future: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    match tokio::time::timeout(limit, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(BrokerError::from_lapin(what, &error)),
        Err(_elapsed) => Err(BrokerError::TimedOut { what, limit }),
    }
}

/// Queues an acknowledgement, and does not wait until it is written.
fn ack_now(channel: &lapin::Channel, tag: u64) {
    queue_now(channel.basic_ack(tag, BasicAckOptions::default()));
}

/// Queues a method that has no answer, and does not wait until it is written. The library queues a method when its
/// future is first polled. If that fails the channel is gone, which its consumer tells.
fn queue_now(method: impl Future) {
    let mut method = std::pin::pin!(method);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = method.as_mut().poll(&mut context);
}

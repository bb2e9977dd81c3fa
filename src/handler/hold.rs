//! Waiting in place: a handler keeps its delivery and lets others have its slot.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

/// Why a [hold](super::Context::hold) ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HoldEnd {
    /// The delay is over, and the delivery has a slot again.
    Elapsed,
    /// A drain has begun. The delivery has no slot: hand it back, or finish at once.
    Draining,
    /// The delivery has been with the worker for as long as the node's `hold_max` allows. It has a slot again; hand it
    /// back or decide about it before the broker's own limit (`consumer_timeout`) takes it away.
    LimitReached,
}

/// Gives a slot back and takes one again, for the run with this number.
pub(crate) trait Hold: std::fmt::Debug + Send + Sync {
    /// The run has waited for something that the worker lacked, and begins only now: its time-out, too.
    fn begin_anew(&self, run: u64);

    fn hold(&self, run: u64, delay: Duration) -> HoldFuture<'_>;
}

/// A hold under way.
pub(crate) type HoldFuture<'a> = Pin<Box<dyn Future<Output = HoldEnd> + Send + 'a>>;

//! The life of a worker: its phases, and the signal that a drain has begun.

use std::time::Duration;

mod drain_signal;
mod phase;
mod tasks;

pub use drain_signal::{DrainSignal, DrainTrigger};
pub use phase::{Event, IllegalTransition, Phase};
pub(crate) use tasks::words;
pub use tasks::{TaskFailure, Tasks, WatchedTask};

/// After the deadline of a drain: how long flushing, closing and the report may take together. What the
/// platform allows must reach this far beyond `drain.grace`.
pub const CLOSING_LIMIT: Duration = Duration::from_secs(3);

/// How long a second signal leaves for handing back and closing.
pub const ABORT_LIMIT: Duration = Duration::from_secs(1);

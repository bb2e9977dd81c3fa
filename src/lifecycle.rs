//! The life of a worker: its phases, and the signal that a drain has begun.

mod drain_signal;
pub(crate) mod limits;
mod phase;
mod tasks;

pub use drain_signal::{DrainSignal, DrainTrigger};
pub use limits::{ABORT_LIMIT, CLOSING_LIMIT};
pub use phase::{Event, IllegalTransition, Phase};
pub(crate) use tasks::words;
pub use tasks::{TaskFailure, Tasks, WatchedTask};

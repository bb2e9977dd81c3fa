//! The life of a worker: its phases, and the signal that a drain has begun.

mod drain_signal;
mod phase;

pub use drain_signal::{DrainSignal, DrainTrigger};
pub use phase::{Event, IllegalTransition, Phase};

//! The fleet program: shows every worker's true state, and commands workers.
//!
//! It keeps nothing. States and drain reports are in a stream of the broker's, which is read from its start; beats come
//! to a queue of its own; who lives is asked. So any number of these programs can run, restart, or be lost.

pub mod api;
mod cadence;
pub mod clock;
mod forward;
mod guest;
mod http;
mod hub;
mod listener;
mod metrics;
pub mod openapi;
mod page;
mod shared;
mod speaker;
mod start;
pub mod state;
mod told;

pub use forward::Forward;
pub use guest::{CommandError, Guest, Stay};
pub use start::{FleetError, RunningFleet, start};

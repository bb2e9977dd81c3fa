//! The queues that the fleet works: how many messages wait in each, and why.
//!
//! The broker is asked by passive declarations, only while somebody looks, on a connection that is used for nothing else:
//! a queue that is missing or refused, or a broker that is slow, costs its own row and never a status message.

mod board;
mod inflow;
mod looks;
mod watcher;

pub(crate) use board::Board;
pub(crate) use watcher::{QueueWatcher, look_once};

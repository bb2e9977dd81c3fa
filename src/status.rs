//! Status: what a worker publishes about itself, and the commands that it takes.
//!
//! Status is never in the way: it has a connection of its own, everything about it is bounded, and what
//! cannot be sent now is replaced by what is newer.

pub mod control;
pub mod delta;
pub mod envelope;
pub mod heartbeat;
mod publisher;
mod remarks;
pub(crate) mod savings;
pub mod wire;

pub(crate) use publisher::{NodeInfo, Snapshot, Status, StatusHandle, StatusParts};
pub use remarks::{NodeRemark, Remarks};

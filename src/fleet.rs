//! The fleet program: shows every worker's true state. It keeps nothing: the truth is in the broker, so that any number of
//! these programs can run, restart, or be lost.

pub mod api;
pub mod clock;
pub mod state;

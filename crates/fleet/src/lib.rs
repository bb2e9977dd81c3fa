//! The fleet program: shows every worker's true state, and commands workers.
//!
//! It keeps nothing on disk. States and drain reports are in a stream of the broker's, which it reads from the start.
//! Beats come to a queue of its own, and it asks for them while somebody looks. Whether a worker lives it learns from
//! the worker's control queue. So any number of these programs can run, restart, or be lost.

pub mod api;
mod cadence;
mod client;
pub mod clock;
pub mod dead;
mod event_part;
mod forward;
mod http;
mod hub;
mod listener;
mod metrics;
pub mod openapi;
mod page;
mod pending;
mod queues;
pub mod rollout;
mod shared;
mod speaker;
mod start;
pub mod state;
mod viewers;

pub use client::{ClientMode, CommandError, FleetClient, Obstacle};
pub use forward::Forward;
pub use start::{FleetError, RunningFleet, start};

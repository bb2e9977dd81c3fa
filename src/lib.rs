//! Tidegate: a RabbitMQ worker that can be stopped at any moment, at full load, without anyone noticing.

pub mod broker;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod handler;
pub mod lifecycle;
pub mod metrics;
pub mod node;
pub mod retry;
pub mod settlement;

//! A simulated fleet: it sends the status messages of many workers to a real broker.
//!
//! Every message is a real one, made by the code that makes a worker's: states, beats at the times that the heartbeat
//! policy gives, drain reports. Each worker has a real control queue, and answers commands. What is made up is the
//! work: loads wander about a mean, counters grow with them, and workers crash and drain at random.
//!
//! One process holds it: a connection that publishes, and connections with a channel and an exclusive queue for each
//! of [`WORKERS_PER_CONNECTION`] workers. A crash deletes the queue, as the broker does when a connection is lost.

mod controls;
mod member;
mod outgoing;
mod report;
mod run;
mod schedule;

pub(crate) use member::{FleetShape, SimulatedWorker, StatusMessage};
pub(crate) use report::{SimulationReport, Totals};
pub(crate) use run::{SimulationPlan, SimulationStop, run};
pub(crate) use schedule::{Chance, Schedule};

/// Control queues on one connection; `RabbitMQ` allows 2,047 channels.
pub(crate) const WORKERS_PER_CONNECTION: usize = 1_500;

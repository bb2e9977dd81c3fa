//! Tests of the whole: the real program against a real broker, each test in a virtual host of its own.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stderr, reason = "a test that fails shows what it saw")]

mod adoption;
mod beats;
mod cadence;
mod chaos;
mod check;
mod churn;
mod closing;
mod commands;
mod consumer_timeout;
mod control;
mod dead;
mod deadline;
mod dedicated;
mod drain;
mod existing_queues;
mod fleet;
mod fleet_api;
mod fleet_crash;
mod fleet_doubt;
mod fleet_forward;
mod fleet_letters;
mod fleet_queues;
mod fleet_restart;
mod fleet_rollout;
mod frames;
mod guard;
mod harness;
mod hold;
mod hosts;
mod library;
mod log;
mod loss;
mod new_queues;
mod nodes;
mod opencti;
mod pause;
mod permissions;
mod pool_children;
mod pools;
mod proxy;
mod publish;
mod python;
mod queues;
mod refusals;
mod retry;
mod roll;
mod second_runs;
mod signals_children;
mod simulate;
mod smoke;
mod status;
mod tls;
mod wire;

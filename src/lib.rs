//! Tidegate is a RabbitMQ worker that can be stopped at any moment, at full load, without anyone noticing:
//! nothing lost, nothing interrupted, nothing done twice.
//!
//! # Words
//! A *worker* is a process; it hosts *nodes*. A node is one queue, consumed by one *handler*, in a bounded
//! number of *slots*. A *delivery* is one message on its way through a node; the handler decides its
//! *outcome* (done, retry, dead), and the *settlement* is what the broker is told. A *drain* is the orderly stop.
//!
//! # The life of a delivery
//! 1. The broker sends it ahead, up to the node's prefetch; `broker::ConsumeChannel` yields it with its tag.
//! 2. The node's task notes the tag in the `settlement::Ledger` of that channel and puts the delivery in line.
//! 3. A slot becomes free; the [`handler::Handler`] runs on the caller's runtime, within the node's time-out; one that
//!    is quick runs on the node's own thread.
//! 4. Its [`handler::Outcome`] goes back to the node's task, exactly once, even if the handler panics.
//! 5. The table `settlement::decide` turns it into a settlement; the ledger turns settlements into the fewest
//!    broker calls; a flush writes them while the next ones gather.
//! 6. A retry or a dead letter is a copy first, published on the other connection and confirmed; then the
//!    delivery is acknowledged.
//! 7. If the channel was lost meanwhile, the outcome cannot be settled: a tag means nothing on another channel. It
//!    is remembered under the message's `settlement::Identity`, and settles the redelivery when the broker
//!    delivers the message again.
//!
//! # The life of a worker
//! | phase | ready | pause | resume | drain | drained |
//! | --- | --- | --- | --- | --- | --- |
//! | starting | running | | | draining | |
//! | running | | paused | | draining | |
//! | paused | | | running | draining | |
//! | draining | | | | | stopped |
//! | stopped | | | | | |
//!
//! An empty cell is an event that cannot happen in that phase: it is refused and logged. The connection to
//! the broker is a separate thing and never moves the phase.
//!
//! # The map
//! `worker` starts and drains in order and owns the phase. `node` is one queue's task. `settlement` and `retry` are pure.
//! `broker` is the only part that knows the client library. [`handler`] has the trait and the kinds that configuration
//! can name. `status` tells the status exchange what state the worker is in, and reads commands. `http` serves health and
//! metrics. [`config`] reads and validates. `ARCHITECTURE.md` in the repository has the whole picture.
//!
//! # A worker in Rust
//! [`Worker::builder`] has a whole program. A worker inside another program is started, not run; `examples/axum.rs` is
//! an axum service with a worker inside.
//! ```no_run
//! use std::sync::Arc;
//! use tidegate::{Context, Delivery, Node, Outcome, Worker};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! async fn count(delivery: Arc<Delivery>, _context: Context) -> Outcome {
//!     println!("{} bytes", delivery.body.len());
//!     Outcome::Done
//! }
//!
//! let mut worker = Worker::builder("amqp://localhost")
//!     .node(Node::new("orders").slots(8).handler(count))
//!     .start()
//!     .await?;
//! worker.handle().drain("the program ends").await;
//! let report = worker.finished().await?;
//! assert_eq!(report.interrupted, 0);
//! # Ok(())
//! # }
//! ```

mod broker;
pub mod config;
pub mod delivery;
pub mod handler;
#[cfg(feature = "endpoints")]
mod http;
#[doc(hidden)]
pub mod internal;
pub mod lifecycle;
mod metrics;
mod node;
mod own_runtime;
mod process;
mod retry;
#[cfg(feature = "endpoints")]
mod server;
mod settlement;
mod status;
mod time;
mod wait;
pub mod worker;

pub use delivery::{Delivery, HeaderValue, Properties};
pub use handler::{Context, Handler, IntoHandler, Json, Outcome, Reason};
pub use worker::{DrainReport, Node, RunningWorker, Worker, WorkerBuilder, WorkerHandle};

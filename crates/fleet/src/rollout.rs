//! Commanding a number of workers: which, how many at a time, and what came of it. A rolling drain waits for each worker's
//! replacement before it goes on.

mod board;
mod commander;
mod outcome;
mod replacement;
mod run;
mod targets;

pub(crate) use board::{RolloutBoard, RolloutError};
pub use commander::Commander;
pub use outcome::{DrainSummary, RolloutReport, WorkerOutcome, WorkerResult};
pub(crate) use replacement::Seen;
pub use run::{RolloutOptions, roll_out};
pub use targets::{Selection, Target, select};

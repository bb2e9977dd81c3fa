//! Commanding workers from a terminal: which workers, how many at a time, and what came of it.

mod outcome;
mod run;
mod targets;

pub(crate) use outcome::{RolloutReport, WorkerOutcome, WorkerResult};
pub(crate) use run::{RolloutOptions, roll_out};
pub(crate) use targets::{Selection, Target, select};

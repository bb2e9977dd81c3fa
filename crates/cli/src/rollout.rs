//! Commanding workers from a terminal: whom, how many at a time, and what came of it.

mod outcome;
mod run;
mod targets;

pub(crate) use outcome::{Outcome, Report, Result};
pub(crate) use run::{How, run};
pub(crate) use targets::{Picked, Target, pick};

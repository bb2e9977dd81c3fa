//! Commanding workers from a terminal: whom, how many at a time, and what came of it.

mod outcome;
mod run;
mod targets;

pub use outcome::{Ended, Outcome, Report, Result};
pub use run::{How, run};
pub use targets::{Picked, Target, pick};

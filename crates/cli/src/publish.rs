//! Publishing many messages with confirms, so that a run which fails can go on where it stopped.
//!
//! The life of a message: a [`Source`] yields its body, [`Pace`] says when it is due, a [`Plan`] gives it a
//! destination and properties, [`send()`] writes it while at most [`WINDOW`] messages are under way, and
//! [`Confirms`] enters the broker's answer. The [`Report`] says what is certain.

mod confirms;
mod pace;
mod payload;
mod plan;
mod report;
mod run;
mod send;
mod source;

pub(crate) use confirms::{Answer, Confirms};
pub(crate) use pace::Pace;
pub(crate) use payload::payload;
pub(crate) use plan::Plan;
pub(crate) use report::{Outcome, Report};
pub(crate) use run::Tally;
pub(crate) use send::{Stop, check_destination, send};
pub(crate) use source::{BODY_LIMIT, Extent, Source, SourceError};

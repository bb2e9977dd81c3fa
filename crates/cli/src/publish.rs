//! Publishing many messages with confirms. A run that fails can go on where it stopped.
//!
//! The life of a message: a [`BodySource`] yields its body, [`Pace`] says when it is due, a [`PublishPlan`] gives it a
//! destination and properties, [`send()`] writes it while at most `WINDOW` messages are under way, and
//! [`Confirms`] records the broker's answer. The [`PublishReport`] says what is certain.

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
pub(crate) use plan::PublishPlan;
pub(crate) use report::{PublishOutcome, PublishReport};
pub(crate) use run::PublishProgress;
pub(crate) use send::{PublishStop, check_destination, send};
pub(crate) use source::{BODY_LIMIT, BodySource, InputSize, SourceError};

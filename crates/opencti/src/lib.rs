//! The OpenCTI platform's worker: it takes STIX bundles from the platform's queues and imports them through
//! the platform's GraphQL API.
//!
//! # The life of a message
//! 1. [`Message`] is the body as it was published, every key kept.
//! 2. [`Plan`] says what the message asks for: split a bundle, import its objects, call a URL, or nothing that
//!    can be done.
//! 3. A Python child does the two things that only `pycti` can do: split a bundle, import one object.
//! 4. [`signs`] turns what went wrong into an action: wait and try again, give up, or report.
//! 5. [`accounting`] holds what the platform has to be told about the work, and tells each thing once.
//!
//! Everything that is decided is decided in modules that do no I/O.

pub mod accounting;
pub mod breaker;
pub mod broker_group;
mod bundle;
pub mod dead_letter;
pub mod discovery;
pub mod identity;
mod message;
mod plan;
mod raw_object;
pub mod schedule;

pub mod settings;
pub mod signs;

pub use bundle::{Bundle, BundleError};
pub use message::{Message, MessageError, Origin};
pub use plan::{Plan, plan};

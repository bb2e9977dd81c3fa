//! The OpenCTI platform's worker: it takes STIX bundles from the platform's queues and imports them through
//! the platform's GraphQL API.
//!
//! # The life of a message
//! 1. [`Message`] is the body as it was published, every key kept.
//! 2. [`Plan`] says what the message asks for: split a bundle, import its objects, or nothing that can be done.
//! 3. A Python child does the two things that only `pycti` can do: split a bundle, import one object ([`python`]).
//! 4. [`signs`] turns what went wrong into its cause, and [`schedule`] into an action: wait in place and run again,
//!    or give up.
//! 5. [`accounting`] holds what the platform has to be told about the work, and tells each thing once.
//! 6. [`OpenCtiHandler`] puts these in order for one delivery. [`Discovery`] says which queues there are.
//!
//! Everything that is decided is decided in modules that do no I/O.

pub mod accounting;
pub mod breaker;
pub mod broker_group;
mod broker_tls;
mod bundle;
pub mod dead_letter;
mod dead_works;
pub mod discovery;
mod endpoints;
mod engine;
mod gate;
mod graphql;
mod handler;
mod holds;
mod hosted;
mod http_client;
pub mod identity;
mod inspect;
mod listen;
mod message;
mod metrics;
mod node;
mod plan;
mod publisher;
mod push;
pub mod python;
mod raw_object;
mod report;
pub mod schedule;
pub mod settings;
pub mod signs;
mod source;
mod version;
mod worker;

pub use broker_tls::{BrokerSettingsError, broker_settings};
pub use bundle::{Bundle, BundleError};
pub use engine::{Engine, EngineError};
pub use gate::Gate;
pub use graphql::{ClientError, GraphQl};
pub use handler::OpenCtiHandler;
pub use inspect::{InspectedBroker, Inspection, broker_of, brokers, inspect};
pub use message::{Message, MessageError, Origin};
pub use metrics::Metrics;
pub use node::{LISTEN_POOL, node_settings, pools};
pub use plan::{Import, Plan, plan};
pub use publisher::{PublishSession, Publisher};
pub use source::{Discovery, Wanted};
pub use worker::{WorkerFailure, run};

/// How the worker names itself in `User-Agent`, after pycti's own name.
pub const PROVIDER: &str = concat!("worker/", env!("CARGO_PKG_VERSION"));

//! The model's view of one message.

use std::sync::Arc;

use crate::delivery::{self, Properties};
use crate::retry::{Pending, Target};

/// Facts about one message, kept the naive way.
#[derive(Debug, Clone, Default)]
pub(super) struct Message {
    pub(super) named: bool,
    pub(super) at: At,
    /// Delivered before: the broker says `redelivered`.
    pub(super) delivered: bool,
    /// The work on it, if there is any.
    pub(super) stage: Stage,
    /// The outcome that it has, if any: how far its settlement got.
    pub(super) outcome: Option<Proof>,
}

/// The place of a message, as the broker sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum At {
    #[default]
    Ready,
    /// With the worker, on the present channel.
    Tag(u64),
    Gone,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    None,
    Waiting,
    Running(u64),
    Copying(u64),
    /// It has an outcome, and only its settlement is missing.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Unwritten,
    Written { in_drain: bool },
    Proven,
}

/// Some copy.
pub(super) fn pending() -> Arc<Pending> {
    Arc::new(Pending {
        target: Target::Dead {
            exchange: String::new(),
            routing_key: "q.dead".into(),
        },
        message: delivery::Message {
            exchange: String::new(),
            routing_key: "q.dead".into(),
            mandatory: true,
            properties: Properties::default(),
            body: bytes::Bytes::new(),
        },
    })
}

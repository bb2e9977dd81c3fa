//! `tidegate check`: finds what would go wrong with a worker, before it is started.
//!
//! Each result is a [`Finding`]. The sections have the order of a start: the configuration, the time that the platform
//! leaves for a drain, the broker, the queues.

pub(crate) mod broker;
pub(crate) mod budget;
pub(crate) mod descriptors;
pub(crate) mod nodes;
pub(crate) mod opencti;
pub(crate) mod platform;
pub(crate) mod render;
#[cfg(test)]
mod testing;

use serde::Serialize;

/// One thing found, good or bad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What it belongs to.
    pub section: Section,
    /// How bad it is.
    pub level: Level,
    /// What was looked at: a key, a queue, a file.
    pub subject: String,
    /// The finding and its remedy, without secrets.
    pub message: String,
}

impl Finding {
    /// Something that is as it should be.
    pub(crate) fn ok(
        section: Section,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(section, Level::Ok, subject, message)
    }

    /// Something that works but may surprise.
    pub(crate) fn warning(
        section: Section,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(section, Level::Warning, subject, message)
    }

    /// Something that keeps the worker from starting or from stopping in order.
    pub(crate) fn error(
        section: Section,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self::new(section, Level::Error, subject, message)
    }

    fn new(
        section: Section,
        level: Level,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            section,
            level,
            subject: subject.into(),
            message: message.into(),
        }
    }
}

/// What a finding belongs to, in the order they are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Section {
    /// The file and the environment.
    Configuration,
    /// The time a drain needs, against the time it is given.
    ShutdownBudget,
    /// Python and its library, for OpenCTI's worker.
    Python,
    /// The platform that names the queues, for OpenCTI's worker.
    Platform,
    /// The connection and what it may do.
    Broker,
    /// The nodes' queues.
    Queues,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// It works but may surprise.
    Warning,
    /// The worker would not start, or would not stop in order.
    Error,
}

//! Commands to workers and their replies, version 1. Receivers ignore fields that they do not know.
//!
//! A command is published to the control exchange with routing key `worker.<id>`, or `all`; a reply goes to the
//! command's `reply_to` by the default exchange, with its `correlation_id`.

mod read;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use read::{
    BODY_LIMIT, LONGEST_CADENCE, REASON_LIMIT, SLOWEST_CADENCE, Unreadable, clean, read,
};

use crate::lifecycle::Phase;

/// The AMQP property `type` of a command.
pub const COMMAND_TYPE: &str = "tidegate.command.v1";
/// The AMQP property `type` of a reply.
pub const REPLY_TYPE: &str = "tidegate.reply.v1";
/// The routing key that reaches every worker.
pub const ALL_KEY: &str = "all";

/// Commands that may wait in a worker's control queue; the broker refuses more.
pub const QUEUE_LENGTH: u32 = 64;
/// Bytes that may wait in a control queue.
pub const QUEUE_BYTES: u32 = 1 << 20;
/// Commands that the broker sends to a worker ahead.
pub const QUEUE_PREFETCH: u16 = 8;
const _: () = assert!(
    QUEUE_BYTES as usize >= BODY_LIMIT * QUEUE_LENGTH as usize,
    "a control queue has room for as many of the largest commands as it may hold"
);

/// The routing key that reaches one worker.
pub fn worker_key(id: &str) -> String {
    format!("worker.{id}")
}

/// The queue that a worker takes commands from. It is exclusive: it exists exactly as long as the
/// worker's connection. If the broker returns a mandatory message to it, the worker is gone.
pub fn control_queue(id: &str) -> String {
    format!("tidegate.control.{id}")
}

/// A command to a worker, as JSON: `{"command":"drain","reason":"deploy 42"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "snake_case")]
pub enum Command {
    /// Drain, and exit. A worker that drains already goes on as it is.
    Drain {
        /// Why; it appears in the state and in the report.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Consume nothing until told to resume; what runs finishes. Only a running worker can.
    Pause {
        /// Why; it appears in the state.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Consume again. Only a paused worker can.
    Resume,
    /// Publish the whole state now, and after it a full beat.
    Report,
    /// Send a beat at this interval for a while. A beat that was promised for an earlier moment still comes. While
    /// several requesters ask, the fastest pace counts.
    Cadence {
        /// The interval between two beats, in milliseconds, from 1 to 3,600,000. A worker may take a very short one
        /// for half a second.
        interval_ms: u64,
        /// How long the request lasts, in milliseconds, at most 86,400,000; 0 ends it. After it the worker beats at
        /// its own interval again.
        for_ms: u64,
        /// Who requests it. A requester has one request at a time: a new one replaces the one before. The first beat
        /// for a new requester is full.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Answer, if an answer is wanted.
    Ping,
}

impl Command {
    /// The command's word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Drain { .. } => "drain",
            Self::Pause { .. } => "pause",
            Self::Resume => "resume",
            Self::Report => "report",
            Self::Cadence { .. } => "cadence",
            Self::Ping => "ping",
        }
    }
}

/// A worker's answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// Version of the message: 1.
    pub v: u32,
    /// The worker's id.
    pub worker: String,
    /// The command's word; empty if none could be read.
    pub command: String,
    /// Whether the command was carried out, or is being.
    pub ok: bool,
    /// The worker's phase after the command.
    pub phase: Phase,
    /// Why not, if `ok` is false: it names the field, its value and the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_look_as_the_protocol_says() {
        let read = |text: &str| serde_json::from_str::<Command>(text).unwrap();
        assert_eq!(read(r#"{"v":1,"command":"ping"}"#), Command::Ping);
        assert_eq!(
            read(r#"{"command":"drain","reason":"deploy 42"}"#),
            Command::Drain {
                reason: Some("deploy 42".into())
            }
        );
        let cadence = Command::Cadence {
            interval_ms: 30_000,
            for_ms: 60_000,
            by: Some("fleet-1".into()),
        };
        let json = serde_json::json!({"command": "cadence", "interval_ms": 30_000, "for_ms": 60_000,
                                      "by": "fleet-1"});
        assert_eq!(serde_json::to_value(&cadence).unwrap(), json);
        let old = read(r#"{"command":"cadence","interval_ms":30000,"for_ms":60000}"#);
        assert!(matches!(old, Command::Cadence { by: None, .. }));
    }
}

//! Dead letters in JSON.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dead::Record;

/// `GET /api/v1/queues/{queue}/dead`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterList {
    /// The queue whose dead letters these are.
    pub queue: String,
    /// Dead letters that there were.
    pub waiting: u64,
    /// Dead letters that were read, at most 1000.
    pub seen: u64,
    /// Letters that were read, by their reason; the empty text for those that say none.
    pub reasons: BTreeMap<String, u64>,
    /// The letters, at most as many as were asked for, in the order of the queue: oldest first.
    pub letters: Vec<DeadLetter>,
    /// What the operator should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// What it is known by here: a fingerprint of everything in it. Letters that are the same in every byte share it.
    pub letter: String,
    /// What it says of itself; properties, headers and the first 64 KiB of its body if it was asked for alone.
    #[serde(flatten)]
    pub record: Record,
}

/// Which dead letters to replay or to drop, by at least one of these. Letters must meet every condition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterRequest {
    /// Only these letters, by what they are known by; at most 1000.
    #[serde(default)]
    pub letters: Vec<String>,
    /// Only letters with one of these reasons; at most 100.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// At most this many letters: those that the caller has seen, so that no newer one goes with them.
    #[serde(default)]
    pub limit: Option<u64>,
}

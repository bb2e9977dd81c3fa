//! Dead letters in JSON.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dead::Record;

/// `GET /api/v1/queues/{queue}/dead`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetterList {
    /// The work queue.
    pub queue: String,
    /// Dead letters in the queue when the pass began.
    pub waiting: u64,
    /// Dead letters that the pass read; at most 1000.
    pub seen: u64,
    /// The number of letters read, by reason. Letters without a reason are counted under the empty string.
    pub reasons: BTreeMap<String, u64>,
    /// The letters, up to the requested limit, in the order of the queue: oldest first.
    pub letters: Vec<DeadLetter>,
    /// Warnings for the operator.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// One dead letter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DeadLetter {
    /// The letter's identifier: a fingerprint of its whole content. Identical letters share it.
    pub letter: String,
    /// The letter's fields. A request for a single letter adds its properties, its headers and the first 64 KiB of its
    /// body.
    #[serde(flatten)]
    pub record: Record,
}

/// Selects the dead letters to replay or drop. At least one field is required; a letter must meet every condition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeadLetterRequest {
    /// Only the letters with these identifiers; at most 1000.
    #[serde(default)]
    pub letters: Vec<String>,
    /// Only letters with one of these reasons; at most 100.
    #[serde(default)]
    pub reasons: Vec<String>,
    /// The maximum number of letters. Pass the number that the user confirmed, so that newer letters are left alone.
    #[serde(default)]
    pub limit: Option<u64>,
}

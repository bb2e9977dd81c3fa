//! Times as messages and headers carry them.

use std::time::Duration;

use jiff::Timestamp;

/// `duration` as messages and headers carry it.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// `at` as messages and headers carry it.
pub fn rfc3339(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

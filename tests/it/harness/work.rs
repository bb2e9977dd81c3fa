//! Work that takes time, for handlers that a test runs itself.

use std::time::Duration;

/// Takes `time`: the work of a handler, not a wait of a test.
pub(crate) async fn busy(time: Duration) {
    tokio::time::sleep(time).await;
}

//! Waits that may never end, for branches of a `select!` that are not always there.

use std::future::{Future, pending};

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Resolves at `at`; never where there is no such time. Cancel safe.
pub async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// Resolves when what is watched has changed; never once nobody can change it. Cancel safe.
pub(crate) async fn changed<T>(watched: &mut watch::Receiver<T>) {
    if watched.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Resolves with `future`; never where there is none.
pub(crate) async fn some<F: Future + Unpin>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

//! Handlers let go of what they hold.
//!
//! They are released where they ran: what blocks or panics in a handler is kept away from the AMQP thread.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tracing::{error, warn};

use crate::handler::AnyHandler;
use crate::lifecycle::limits::RELEASE_LIMIT;
use crate::lifecycle::words;

/// Releases handlers in reverse order of their creation, each with its share of the time until `deadline`.
pub(super) async fn release_all(handlers: Vec<AnyHandler>, deadline: Instant, work: &Handle) {
    let end = deadline.max(Instant::now() + RELEASE_LIMIT);
    let mut left = u32::try_from(handlers.len()).unwrap_or(u32::MAX);
    for handler in handlers.into_iter().rev() {
        let share = end.saturating_duration_since(Instant::now()) / left;
        left -= 1;
        release(handler, share, work).await;
    }
}

/// Releases one handler, within `limit`.
pub(super) async fn release(handler: AnyHandler, limit: Duration, work: &Handle) {
    let kind = handler.kind();
    let release = work.spawn(async move {
        let released = AssertUnwindSafe(handler.release()).catch_unwind().await;
        released.map_err(|panic| words(panic.as_ref()))
    });
    match timeout(limit, release).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(panic))) => error!(handler = kind, panic, "a handler panicked in its release"),
        Ok(Err(error)) => error!(handler = kind, %error, "a handler's release was lost"),
        Err(_elapsed) => warn!(handler = kind, "a handler did not release in time"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::delivery::Delivery;
    use crate::handler::{Context, Handler, Outcome};

    /// Does `release` when it is released.
    struct Held<F>(F);

    impl<F: Fn() + Send + Sync + 'static> Handler for Held<F> {
        async fn handle(&self, _delivery: Arc<Delivery>, _context: Context) -> Outcome {
            Outcome::Done
        }

        async fn release(&self) {
            (self.0)();
        }
    }

    fn held(release: impl Fn() + Send + Sync + 'static) -> AnyHandler {
        AnyHandler::new("rust", Held(release))
    }

    #[test]
    fn a_handler_that_blocks_and_one_that_panics_keep_no_other_from_its_release() {
        let work = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let amqp = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime starts");
        let (gate, blocked) = std::sync::mpsc::channel::<()>();
        let blocked = std::sync::Mutex::new(blocked);
        let released = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&released);
        let handlers = vec![
            held(move || seen.store(true, Ordering::Relaxed)),
            held(|| panic!("no more")),
            held(move || drop(blocked.lock().map(|blocked| blocked.recv()))),
        ];
        amqp.block_on(async {
            let deadline = Instant::now() + Duration::from_millis(300);
            release_all(handlers, deadline, work.handle()).await;
        });
        assert!(
            released.load(Ordering::Relaxed),
            "the first is released last"
        );
        drop(gate);
    }
}

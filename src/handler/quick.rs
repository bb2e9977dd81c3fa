//! Handlers that need no thread of their own.

use std::sync::Arc;

use super::{Context, Handler, Outcome};
use crate::delivery::Delivery;

/// Says of a handler that it [is quick](Handler::is_quick).
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use tidegate::handler::Quick;
/// use tidegate::{Context, Delivery, Node, Outcome};
///
/// let seen = Arc::new(AtomicU64::new(0));
/// let counter = Arc::clone(&seen);
/// let count = move |_delivery: Arc<Delivery>, _context: Context| {
///     counter.fetch_add(1, Ordering::Relaxed);
///     async { Outcome::Done }
/// };
/// let node = Node::new("events").handler(Quick(count));
/// # let _ = node;
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Quick<H>(pub H);

impl<H: Handler> Handler for Quick<H> {
    fn handle(
        &self,
        delivery: Arc<Delivery>,
        context: Context,
    ) -> impl Future<Output = Outcome> + Send {
        self.0.handle(delivery, context)
    }

    fn identity(&self, delivery: &Delivery) -> Option<String> {
        self.0.identity(delivery)
    }

    fn is_quick(&self) -> bool {
        true
    }

    fn prepare(&self) -> impl Future<Output = ()> + Send {
        self.0.prepare()
    }

    fn release(&self) -> impl Future<Output = ()> + Send {
        self.0.release()
    }
}

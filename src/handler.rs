//! What is run for each delivery: the [`Handler`] trait, and the handlers that configuration can name.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::delivery::Delivery;
use crate::lifecycle::DrainSignal;

/// What a handler decides about a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The work is done: the message is acknowledged.
    Done,
    /// The work is to be tried again later.
    Retry {
        /// Not before this long from now; `None` leaves the delay to the node's retry policy.
        delay: Option<Duration>,
        /// The class of what went wrong.
        reason: Reason,
        /// What went wrong, for logs and headers; at most [`ERROR_LIMIT`] bytes of it are kept.
        error: String,
    },
    /// Trying again cannot help: the message goes to the dead letters.
    Dead {
        /// The class of what went wrong.
        reason: Reason,
        /// What went wrong, for logs and headers; at most [`ERROR_LIMIT`] bytes of it are kept.
        error: String,
    },
}

/// How much of an outcome's error text is kept, in bytes.
pub const ERROR_LIMIT: usize = 2_000;

/// Why a delivery is retried or dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The handler said so.
    Handler,
    /// The handler did not finish within the node's `timeout`.
    Timeout,
    /// The handler panicked, or the process that ran it died.
    Crash,
    /// The body is larger than the node's `max_body`.
    TooLarge,
    /// The body is not what the handler can read.
    Undecodable,
    /// The last attempt that the retry policy allows has failed.
    Attempts,
}

impl Reason {
    /// The reason as it appears in headers, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Timeout => "timeout",
            Self::Crash => "crash",
            Self::TooLarge => "too_large",
            Self::Undecodable => "undecodable",
            Self::Attempts => "attempts",
        }
    }
}

impl Outcome {
    /// Try again, after the delay of the node's retry policy.
    pub fn retry(error: impl Into<String>) -> Self {
        Self::Retry {
            delay: None,
            reason: Reason::Handler,
            error: error.into(),
        }
    }

    /// Try again, not before `delay` from now.
    pub fn retry_after(delay: Duration, error: impl Into<String>) -> Self {
        Self::Retry {
            delay: Some(delay),
            reason: Reason::Handler,
            error: error.into(),
        }
    }

    /// Give up on the message.
    pub fn dead(error: impl Into<String>) -> Self {
        Self::Dead {
            reason: Reason::Handler,
            error: error.into(),
        }
    }

    /// The outcome's word: `done`, `retry` or `dead`.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry { .. } => "retry",
            Self::Dead { .. } => "dead",
        }
    }
}

/// What a handler may know about the worker while it runs.
#[derive(Debug, Clone)]
pub struct Context {
    drain: DrainSignal,
}

impl Context {
    /// A context that observes `drain`.
    pub fn new(drain: DrainSignal) -> Self {
        Self { drain }
    }

    /// Whether the worker is draining. The delivery may still finish; it ought not to begin long work.
    pub fn is_draining(&self) -> bool {
        self.drain.deadline().is_some()
    }

    /// Resolves when a drain begins, at once if it has begun; then is the time to checkpoint.
    ///
    /// Cancel safe.
    pub async fn draining(&self) {
        self.drain.begun().await;
    }

    /// When the drain will interrupt what still runs; `None` while there is no drain.
    pub fn deadline(&self) -> Option<Instant> {
        self.drain.deadline()
    }
}

/// Something that works on deliveries: one call a delivery, up to the node's slots at a time.
///
/// The future is dropped when the node's `timeout` passes or a drain's deadline interrupts it, so
/// whatever it holds must be released by `Drop`. A panic is caught and counts as a retry.
pub trait Handler: Send + Sync + 'static {
    /// Works on one delivery and decides its outcome.
    fn handle(
        &self,
        delivery: Arc<Delivery>,
        context: Context,
    ) -> impl Future<Output = Outcome> + Send;

    /// Releases what the handler holds, once, in a drain after its last delivery (step 7). It is given a
    /// bounded time and then dropped.
    fn release(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A plain async function is a handler.
impl<F, Fut> Handler for F
where
    F: Fn(Arc<Delivery>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send,
{
    fn handle(
        &self,
        delivery: Arc<Delivery>,
        context: Context,
    ) -> impl Future<Output = Outcome> + Send {
        self(delivery, context)
    }
}

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

trait Erased: Send + Sync {
    fn handle(&self, delivery: Arc<Delivery>, context: Context) -> BoxFuture<'_, Outcome>;
    fn release(&self) -> BoxFuture<'_, ()>;
}

impl<H: Handler> Erased for H {
    fn handle(&self, delivery: Arc<Delivery>, context: Context) -> BoxFuture<'_, Outcome> {
        Box::pin(Handler::handle(self, delivery, context))
    }

    fn release(&self) -> BoxFuture<'_, ()> {
        Box::pin(Handler::release(self))
    }
}

/// Any [`Handler`], shared.
#[derive(Clone)]
pub struct AnyHandler {
    kind: &'static str,
    inner: Arc<dyn Erased>,
}

impl AnyHandler {
    /// Wraps `handler`; `kind` is the word that state messages give it (`http`, `exec`, `log`, `rust`).
    pub fn new(kind: &'static str, handler: impl Handler) -> Self {
        Self {
            kind,
            inner: Arc::new(handler),
        }
    }

    /// The word that state messages give this handler.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// See [`Handler::handle`].
    pub async fn handle(&self, delivery: Arc<Delivery>, context: Context) -> Outcome {
        self.inner.handle(delivery, context).await
    }

    /// See [`Handler::release`].
    pub async fn release(&self) {
        self.inner.release().await;
    }
}

impl std::fmt::Debug for AnyHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AnyHandler").field(&self.kind).finish()
    }
}

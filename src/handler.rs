//! What is run for each delivery: the [`Handler`] trait, and the handlers that configuration can name.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::HandlerSettings;
use crate::delivery::Delivery;
use crate::lifecycle::DrainSignal;

mod error;
mod exec;
mod function;
mod hold;
mod http;
mod json;
mod log;
mod metadata;
mod outcome;
mod service;
#[cfg(test)]
mod testing;
mod trace;

pub use error::HandlerError;
pub use exec::ExecHandler;
pub use function::{FunctionHandler, IntoHandler, Json};
pub use hold::HoldEnd;
pub(crate) use hold::{Hold, HoldFuture};
pub use http::HttpHandler;
pub(crate) use http::RESERVED_HEADERS;
#[doc(hidden)]
pub use http::client as http_client;
pub use json::json;
pub use log::LogHandler;
pub use outcome::{ERROR_LIMIT, Outcome, Reason};
pub use service::service;

/// What a handler may know about the worker while it runs.
#[derive(Debug, Clone)]
pub struct Context {
    drain: DrainSignal,
    /// The slot of this run, and the run's number; `None` outside a worker.
    slot: Option<(Arc<dyn Hold>, u64)>,
}

impl Context {
    /// A context that observes `drain`, for a handler that runs outside a worker, in a test for example.
    pub fn new(drain: DrainSignal) -> Self {
        Self { drain, slot: None }
    }

    /// The context of run `run`, which has a slot in `slot`.
    pub(crate) fn of_run(drain: DrainSignal, slot: Arc<dyn Hold>, run: u64) -> Self {
        let slot = Some((slot, run));
        Self { drain, slot }
    }

    /// Waits for `delay` without a slot, so that other deliveries can run meanwhile. The delivery stays
    /// unacknowledged, and so keeps its place in the queue.
    ///
    /// The time on hold does not count towards the node's `timeout`. The hold ends early, without a slot, when a drain
    /// begins; the handler should then answer [`Outcome::HandBack`] at once. It also ends once the delivery has been
    /// with the worker for the node's `hold_max`, 25 minutes by default. In a node with a single active consumer the
    /// slot is kept: no other delivery may overtake this one.
    ///
    /// Cancel safe, but a hold that is dropped early leaves the delivery without a slot until it ends.
    pub async fn hold(&self, delay: Duration) -> HoldEnd {
        if let Some((slot, run)) = &self.slot {
            return slot.hold(*run, delay).await;
        }
        tokio::select! {
            biased;
            _deadline = self.drain.begun() => HoldEnd::Draining,
            () = tokio::time::sleep(delay) => HoldEnd::Elapsed,
        }
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

    /// What identifies a delivery that has no `message_id`, if anything in it does: an event's id in the body, for
    /// example. After a lost connection the worker uses it to recognise messages that it has finished already, as it
    /// does with a `message_id`. Two different messages must not get the same text.
    ///
    /// It is called on the thread that speaks to the broker, once for each delivery without a `message_id`: it has to be
    /// quick.
    fn identity(&self, delivery: &Delivery) -> Option<String> {
        let _ = delivery;
        None
    }

    /// Releases what the handler holds, once, in a drain after its last delivery (step 7). It is given a
    /// bounded time and then dropped.
    fn release(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A plain async function or closure is a handler.
///
/// ```
/// use std::sync::Arc;
/// use tidegate::delivery::Delivery;
/// use tidegate::handler::{AnyHandler, Context, Outcome};
///
/// let limit = 1_000;
/// let handler = AnyHandler::new("rust", move |delivery: Arc<Delivery>, _: Context| async move {
///     if delivery.body.len() > limit {
///         return Outcome::dead("more than can be read");
///     }
///     Outcome::Done
/// });
/// # let _ = handler;
/// ```
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
    fn identity(&self, delivery: &Delivery) -> Option<String>;
    fn release(&self) -> BoxFuture<'_, ()>;
}

impl<H: Handler> Erased for H {
    fn handle(&self, delivery: Arc<Delivery>, context: Context) -> BoxFuture<'_, Outcome> {
        Box::pin(Handler::handle(self, delivery, context))
    }

    fn identity(&self, delivery: &Delivery) -> Option<String> {
        Handler::identity(self, delivery)
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
        self.inner.handle(delivery, context).await.bounded()
    }

    /// See [`Handler::identity`].
    pub(crate) fn identity(&self, delivery: &Delivery) -> Option<String> {
        self.inner.identity(delivery)
    }

    /// See [`Handler::release`].
    pub async fn release(&self) {
        self.inner.release().await;
    }
}

/// The guide's examples in Rust, so that they are compiled.
#[cfg(doctest)]
#[doc = include_str!("../docs/handlers.md")]
struct Guide;

/// Builds the handler that configuration names. Opens no socket and starts no process.
///
/// # Errors
/// See [`HandlerError`].
pub fn from_settings(settings: &HandlerSettings) -> Result<AnyHandler, HandlerError> {
    let kind = settings.kind();
    Ok(match settings {
        HandlerSettings::Http(settings) => AnyHandler::new(kind, HttpHandler::new(settings)?),
        HandlerSettings::Exec(settings) => AnyHandler::new(kind, ExecHandler::new(settings)?),
        HandlerSettings::Log(settings) => AnyHandler::new(kind, LogHandler::new(settings)),
    })
}

impl std::fmt::Debug for AnyHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AnyHandler").field(&self.kind).finish()
    }
}

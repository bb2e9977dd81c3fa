//! Handlers: the [`Handler`] trait, and the handlers that configuration can name.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::config::HandlerSettings;
use crate::delivery::Delivery;

mod context;
mod error;
mod exec;
mod function;
mod hold;
mod http;
mod json;
mod log;
mod metadata;
mod outcome;
mod pool;
mod quick;
mod service;
mod shortage;
#[cfg(test)]
mod testing;
mod trace;

pub use context::Context;
pub(crate) use context::Surroundings;
pub use error::HandlerError;
pub use exec::ExecHandler;
pub use function::{FunctionHandler, IntoHandler, Json};
pub use hold::HoldEnd;
pub(crate) use hold::{Hold, HoldFuture};
pub use http::HttpHandler;
#[doc(hidden)]
pub use http::{Answer, ConnectError, HttpClient, PostError};
pub use json::json;
pub use log::LogHandler;
pub use outcome::{ERROR_LIMIT, Outcome, Reason};
pub use pool::PoolHandler;
pub use quick::Quick;
pub use service::service;
pub(crate) use shortage::Shortages;

/// Something that works on deliveries: one call a delivery, up to the node's slots at a time.
///
/// The future is dropped when the node's `timeout` passes or a drain's deadline interrupts it, so
/// whatever it holds must be released by `Drop`. A panic is caught and counts as a retry.
///
/// ```
/// use std::sync::Arc;
/// use tidegate::{Context, Delivery, Handler, Outcome};
///
/// struct Shop {
///     name: String,
/// }
///
/// impl Handler for Shop {
///     async fn handle(&self, delivery: Arc<Delivery>, _context: Context) -> Outcome {
///         println!("{}: {} bytes", self.name, delivery.body.len());
///         Outcome::Done
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let shop = Shop { name: "north".to_owned() };
/// let (context, _drain) = Context::detached();
/// let outcome = shop.handle(Arc::new(Delivery::new("orders", "{}")), context).await;
/// assert_eq!(outcome, Outcome::Done);
/// # }
/// ```
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

    /// Whether `handle` decides within microseconds, and never blocks its thread or waits for anything: for example
    /// when it counts, or passes the delivery on inside the process. The thread that speaks to the broker then calls it
    /// itself, which saves a delivery two switches between threads.
    ///
    /// While such a handler runs, that thread sends no AMQP heartbeat and takes no signal: a call of 100 ms or more is
    /// logged as a warning, and one of a minute costs the connection. [`Quick`] says it of any handler.
    fn is_quick(&self) -> bool {
        false
    }

    /// The runtime that its runs are spawned on, asked for when a node starts; `None` for the worker's own. A handler with a
    /// runtime keeps what blocks or takes long away from others. The runtime must live until [`release`](Self::release) has
    /// ended: a run that it drops is given back to the queue as interrupted.
    fn runtime(&self) -> Option<Handle> {
        None
    }

    /// Gets ready, when a node with this handler starts; deliveries may come before it has ended.
    fn prepare(&self) -> impl Future<Output = ()> + Send {
        async {}
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
    fn is_quick(&self) -> bool;
    fn runtime(&self) -> Option<Handle>;
    fn prepare(&self) -> BoxFuture<'_, ()>;
    fn release(&self) -> BoxFuture<'_, ()>;
}

impl<H: Handler> Erased for H {
    fn handle(&self, delivery: Arc<Delivery>, context: Context) -> BoxFuture<'_, Outcome> {
        Box::pin(Handler::handle(self, delivery, context))
    }

    fn identity(&self, delivery: &Delivery) -> Option<String> {
        Handler::identity(self, delivery)
    }

    fn is_quick(&self) -> bool {
        Handler::is_quick(self)
    }

    fn runtime(&self) -> Option<Handle> {
        Handler::runtime(self)
    }

    fn prepare(&self) -> BoxFuture<'_, ()> {
        Box::pin(Handler::prepare(self))
    }

    fn release(&self) -> BoxFuture<'_, ()> {
        Box::pin(Handler::release(self))
    }
}

/// Any [`Handler`], shared.
///
/// ```
/// use tidegate::handler::AnyHandler;
/// use tidegate::{Node, Outcome};
///
/// let handler = AnyHandler::new("shop", |_delivery, _context| async { Outcome::Done });
/// let orders = Node::new("orders").any_handler(handler.clone());
/// let returns = Node::new("returns").any_handler(handler);
/// # let _ = (orders, returns);
/// ```
#[derive(Clone)]
pub struct AnyHandler {
    kind: &'static str,
    inner: Arc<dyn Erased>,
}

impl AnyHandler {
    /// Wraps `handler`; `kind` is the word that state messages give it (`http`, `exec`, `pool`, `log`, `rust`).
    pub fn new(kind: &'static str, handler: impl Handler) -> Self {
        Self {
            kind,
            inner: Arc::new(handler),
        }
    }

    /// Whether both are the very same handler.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
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

    /// See [`Handler::is_quick`].
    pub(crate) fn is_quick(&self) -> bool {
        self.inner.is_quick()
    }

    /// See [`Handler::runtime`].
    pub(crate) fn runtime(&self) -> Option<Handle> {
        self.inner.runtime()
    }

    /// See [`Handler::prepare`].
    pub async fn prepare(&self) {
        self.inner.prepare().await;
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
        HandlerSettings::Pool(settings) => AnyHandler::new(kind, PoolHandler::new(settings)?),
        HandlerSettings::Log(settings) => AnyHandler::new(kind, LogHandler::new(settings)),
    })
}

impl std::fmt::Debug for AnyHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("AnyHandler").field(&self.kind).finish()
    }
}

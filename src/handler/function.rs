//! Functions as handlers: what a function asks for as arguments, it is given.

use std::fmt::Display;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::{Context, Handler, Outcome, Reason};
use crate::delivery::Delivery;

/// The body of a delivery, decoded from JSON. As the first argument of a handler function it says what the body
/// must be; a body that is something else is dead, with [`Reason::Undecodable`] and the position of the error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<T>(pub T);

/// What a [`Node`](crate::worker::Node) takes as its handler: a [`Handler`], or a function of one of these shapes, which returns an
/// [`Outcome`], `()` (done) or a `Result<(), E>` (an error is a retry with its text).
///
/// - `async fn(Json<T>)`
/// - `async fn(Json<T>, Context)`
/// - `async fn(Json<T>, Arc<Delivery>, Context)`
/// - `async fn(Arc<Delivery>)`
/// - `async fn(Arc<Delivery>, Context)`, which is a [`Handler`] itself if it returns an [`Outcome`]
///
/// `Arguments` only tells the shapes apart; it is never named.
///
/// ```
/// use tidegate::lifecycle::DrainTrigger;
/// use tidegate::{Context, Delivery, Handler as _, IntoHandler as _, Json, Outcome};
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     id: u64,
/// }
///
/// async fn ship(Json(order): Json<Order>) -> Result<(), std::io::Error> {
///     println!("order {}", order.id);
///     Ok(())
/// }
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// // A handler is tested without a broker.
/// let context = Context::new(DrainTrigger::new().signal());
/// let handler = ship.into_handler();
/// let order = Delivery::new("orders", r#"{"id": 7}"#);
/// assert_eq!(handler.handle(order.into(), context.clone()).await, Outcome::Done);
/// let dead = handler.handle(Delivery::new("orders", "seven").into(), context).await;
/// assert_eq!(dead.as_str(), "dead");
/// # });
/// ```
pub trait IntoHandler<Arguments> {
    /// The handler that it becomes.
    type Handler: Handler;

    /// Makes the handler.
    fn into_handler(self) -> Self::Handler;
}

impl<H: Handler> IntoHandler<()> for H {
    type Handler = H;

    fn into_handler(self) -> H {
        self
    }
}

/// A function as a [`Handler`]; see [`IntoHandler`].
pub struct FunctionHandler<F, Arguments> {
    function: F,
    arguments: PhantomData<fn(Arguments)>,
}

impl<F, Arguments> FunctionHandler<F, Arguments> {
    fn new(function: F) -> Self {
        Self {
            function,
            arguments: PhantomData,
        }
    }
}

impl<F, Arguments> std::fmt::Debug for FunctionHandler<F, Arguments> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FunctionHandler")
    }
}

impl<F, Fut, T> IntoHandler<(Json<T>,)> for F
where
    F: Fn(Json<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<Outcome>> + Send + 'static,
    T: DeserializeOwned + 'static,
{
    type Handler = FunctionHandler<F, (Json<T>,)>;

    fn into_handler(self) -> Self::Handler {
        FunctionHandler::new(self)
    }
}

impl<F, Fut, T> Handler for FunctionHandler<F, (Json<T>,)>
where
    F: Fn(Json<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<Outcome>> + Send + 'static,
    T: DeserializeOwned + 'static,
{
    fn handle(
        &self,
        delivery: Arc<Delivery>,
        _context: Context,
    ) -> impl Future<Output = Outcome> + Send {
        run(decode(&delivery).map(&self.function))
    }
}

impl<F, Fut, T> IntoHandler<(Json<T>, Context)> for F
where
    F: Fn(Json<T>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<Outcome>> + Send + 'static,
    T: DeserializeOwned + 'static,
{
    type Handler = FunctionHandler<F, (Json<T>, Context)>;

    fn into_handler(self) -> Self::Handler {
        FunctionHandler::new(self)
    }
}

impl<F, Fut, T> Handler for FunctionHandler<F, (Json<T>, Context)>
where
    F: Fn(Json<T>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<Outcome>> + Send + 'static,
    T: DeserializeOwned + 'static,
{
    fn handle(
        &self,
        delivery: Arc<Delivery>,
        context: Context,
    ) -> impl Future<Output = Outcome> + Send {
        run(decode(&delivery).map(|body| (self.function)(body, context)))
    }
}

impl<F, Fut, T> IntoHandler<(Json<T>, Arc<Delivery>, Context)> for F
where
    F: Fn(Json<T>, Arc<Delivery>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<Outcome>> + Send + 'static,
    T: DeserializeOwned + 'static,
{
    type Handler = FunctionHandler<F, (Json<T>, Arc<Delivery>, Context)>;

    fn into_handler(self) -> Self::Handler {
        FunctionHandler::new(self)
    }
}

impl<F, Fut, T> Handler for FunctionHandler<F, (Json<T>, Arc<Delivery>, Context)>
where
    F: Fn(Json<T>, Arc<Delivery>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<Outcome>> + Send + 'static,
    T: DeserializeOwned + 'static,
{
    fn handle(
        &self,
        delivery: Arc<Delivery>,
        context: Context,
    ) -> impl Future<Output = Outcome> + Send {
        run(decode(&delivery).map(|body| (self.function)(body, delivery, context)))
    }
}

impl<F, Fut> IntoHandler<(Arc<Delivery>,)> for F
where
    F: Fn(Arc<Delivery>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<Outcome>> + Send + 'static,
{
    type Handler = FunctionHandler<F, (Arc<Delivery>,)>;

    fn into_handler(self) -> Self::Handler {
        FunctionHandler::new(self)
    }
}

impl<F, Fut> Handler for FunctionHandler<F, (Arc<Delivery>,)>
where
    F: Fn(Arc<Delivery>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output: Into<Outcome>> + Send + 'static,
{
    fn handle(
        &self,
        delivery: Arc<Delivery>,
        _context: Context,
    ) -> impl Future<Output = Outcome> + Send {
        run(Ok((self.function)(delivery)))
    }
}

/// Awaits the function that was called, or gives the outcome of a body that it could not be called with.
async fn run<Fut>(called: Result<Fut, Outcome>) -> Outcome
where
    Fut: Future<Output: Into<Outcome>>,
{
    match called {
        Ok(work) => work.await.into(),
        Err(outcome) => outcome,
    }
}

fn decode<T: DeserializeOwned>(delivery: &Delivery) -> Result<Json<T>, Outcome> {
    let decoded = serde_json::from_slice(&delivery.body).map(Json);
    decoded.map_err(|error| {
        Outcome::Dead {
            reason: Reason::Undecodable,
            error: format!("the body is not the JSON that is expected: {error}"),
        }
        .bounded()
    })
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Self::Done
    }
}

/// An error is a retry, after the delay of the node's retry policy, with the error's text.
impl<E: Display> From<Result<(), E>> for Outcome {
    fn from(result: Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(error) => Self::retry(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::DrainTrigger;

    #[derive(serde::Deserialize)]
    struct Order {
        id: u64,
    }

    async fn outcome<A>(handler: impl IntoHandler<A>, body: &'static str) -> Outcome {
        let delivery = Delivery::new("orders", body);
        let context = Context::new(DrainTrigger::new().signal());
        let handler = handler.into_handler();
        handler.handle(Arc::new(delivery), context).await
    }

    #[tokio::test]
    async fn a_function_is_given_what_it_asks_for() {
        let body = r#"{"id": 7}"#;
        let seven = |Json(order): Json<Order>| async move { assert_eq!(order.id, 7) };
        assert_eq!(outcome(seven, body).await, Outcome::Done);
        let checkpoint = |Json(order): Json<Order>, context: Context| async move {
            assert!(order.id == 7 && !context.is_draining());
            Outcome::dead("enough")
        };
        assert_eq!(outcome(checkpoint, body).await, Outcome::dead("enough"));
        let all = |Json(order): Json<Order>, delivery: Arc<Delivery>, _: Context| async move {
            Err::<(), _>(format!("order {} from {}", order.id, delivery.queue))
        };
        assert_eq!(
            outcome(all, body).await,
            Outcome::retry("order 7 from orders")
        );
        let raw = |delivery: Arc<Delivery>| async move { assert_eq!(delivery.body.len(), 9) };
        assert_eq!(outcome(raw, body).await, Outcome::Done);
        let both = |delivery: Arc<Delivery>, _: Context| async move {
            Outcome::dead(delivery.queue.to_string())
        };
        assert_eq!(outcome(both, body).await, Outcome::dead("orders"));
    }

    #[tokio::test]
    async fn a_body_that_is_something_else_is_dead_with_the_position() {
        for (body, message) in [
            (r#"{"name": "x"}"#, "missing field `id` at line 1 column 13"),
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{\"id\": 1}\n}", "trailing characters at line 2 column 1"),
        ] {
            let never = |Json(order): Json<Order>| async move {
                assert_eq!(order.id, 0, "it is never called");
            };
            let error = format!("the body is not the JSON that is expected: {message}");
            let reason = Reason::Undecodable;
            assert_eq!(outcome(never, body).await, Outcome::Dead { reason, error });
        }
    }
}

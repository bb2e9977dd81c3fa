//! Handlers of typed JSON bodies.

use std::future::Future;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::{Context, Handler, Outcome, Reason};
use crate::delivery::Delivery;

/// A handler that decodes each body as JSON and calls `run` with the value.
///
/// A body that cannot be decoded is dead, with [`Reason::Undecodable`] and serde's message, which gives the
/// position, and may quote the one value that does not fit.
///
/// ```
/// use tidegate::handler::{self, AnyHandler, Outcome};
///
/// #[derive(serde::Deserialize)]
/// struct Order {
///     id: u64,
/// }
///
/// let handler = handler::json(|order: Order, delivery, _context| async move {
///     match order.id {
///         0 => Outcome::dead(format!("{} has an order without an id", delivery.queue)),
///         _ => Outcome::Done,
///     }
/// });
/// let handler = AnyHandler::new("rust", handler);
/// # let _ = handler;
/// ```
pub fn json<T, F, Fut>(run: F) -> impl Handler
where
    T: DeserializeOwned + 'static,
    F: Fn(T, Arc<Delivery>, Context) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    move |delivery: Arc<Delivery>, context: Context| {
        let work = serde_json::from_slice(&delivery.body)
            .map(|value| run(value, delivery, context))
            .map_err(|error| undecodable(&error));
        async move {
            match work {
                Ok(work) => work.await,
                Err(outcome) => outcome,
            }
        }
    }
}

fn undecodable(error: &serde_json::Error) -> Outcome {
    Outcome::Dead {
        reason: Reason::Undecodable,
        error: format!("the body is not the JSON that is expected: {error}"),
    }
    .bounded()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::testing;

    #[derive(serde::Deserialize)]
    struct Order {
        id: u64,
    }

    async fn handle(body: &'static str) -> Outcome {
        let handler = json(|order: Order, delivery, _context| async move {
            Outcome::retry(format!("order {} from {}", order.id, delivery.queue))
        });
        let delivery = testing::delivery(body).send();
        handler.handle(delivery, testing::context()).await
    }

    #[tokio::test]
    async fn a_body_is_decoded_for_the_function() {
        assert_eq!(
            handle(r#"{"id": 7}"#).await,
            Outcome::retry("order 7 from orders")
        );
    }

    #[tokio::test]
    async fn an_undecodable_body_is_dead_with_the_position() {
        for (body, message) in [
            (r#"{"name": "x"}"#, "missing field `id` at line 1 column 13"),
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{\"id\": 1}\n}", "trailing characters at line 2 column 1"),
        ] {
            assert_eq!(
                handle(body).await,
                Outcome::Dead {
                    reason: Reason::Undecodable,
                    error: format!("the body is not the JSON that is expected: {message}"),
                }
            );
        }
    }
}

//! `tower` services as handlers.

use std::sync::{Arc, Mutex, PoisonError};

use tower::{BoxError, Service, ServiceExt as _};

use super::outcome::chain;
use super::{Context, Handler, Outcome};
use crate::delivery::Delivery;

/// A handler that calls a `tower` service: `service` is cloned for each delivery, and the clone called once it
/// is ready, as the contract of [`Service`] asks. An error of the service is a retry, with its text.
///
/// ```
/// use std::time::Duration;
/// use tidegate::handler::{self, AnyHandler, Outcome};
/// use tower::{BoxError, service_fn};
///
/// let service = service_fn(|(delivery, _context)| async move {
///     let delivery: std::sync::Arc<tidegate::delivery::Delivery> = delivery;
///     println!("{} bytes", delivery.body.len());
///     Ok::<_, BoxError>(Outcome::Done)
/// });
/// let handler = AnyHandler::new("rust", handler::service(service));
/// # let _ = handler;
/// ```
pub fn service<S>(service: S) -> impl Handler
where
    S: Service<(Arc<Delivery>, Context), Response = Outcome> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    // Many services, boxed ones among them, can be sent but not shared; the lock is held for the clone alone.
    ServiceHandler(Mutex::new(service))
}

struct ServiceHandler<S>(Mutex<S>);

impl<S> Handler for ServiceHandler<S>
where
    S: Service<(Arc<Delivery>, Context), Response = Outcome> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
{
    async fn handle(&self, delivery: Arc<Delivery>, context: Context) -> Outcome {
        let service = {
            let shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            shared.clone()
        };
        match service.oneshot((delivery, context)).await {
            Ok(outcome) => outcome,
            Err(error) => {
                let error: BoxError = error.into();
                Outcome::retry(chain(error.as_ref()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Poll;

    use tower::service_fn;

    use super::*;
    use crate::handler::testing;

    /// Becomes ready at the second asking; called before that, it fails.
    #[derive(Clone, Default)]
    struct Shy {
        asked: usize,
        calls: Arc<AtomicUsize>,
    }

    impl Service<(Arc<Delivery>, Context)> for Shy {
        type Response = Outcome;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Outcome, BoxError>>;

        fn poll_ready(&mut self, task: &mut std::task::Context<'_>) -> Poll<Result<(), BoxError>> {
            self.asked += 1;
            if self.asked < 2 {
                task.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: (Arc<Delivery>, Context)) -> Self::Future {
            self.calls.fetch_add(1, Ordering::Relaxed);
            std::future::ready(match self.asked {
                2.. => Ok(Outcome::Done),
                _ => Err("called before it was ready".into()),
            })
        }
    }

    #[tokio::test]
    async fn a_service_is_called_once_it_is_ready() {
        let shy = Shy::default();
        let handler = service(shy.clone());
        for _ in 0..3 {
            let delivery = testing::delivery("").send();
            let outcome = handler.handle(delivery, testing::context()).await;
            assert_eq!(outcome, Outcome::Done);
        }
        assert_eq!(shy.calls.load(Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn an_error_of_the_service_is_a_retry_with_its_text() {
        let failing = service_fn(|_: (Arc<Delivery>, Context)| async {
            Err::<Outcome, BoxError>("no room".into())
        });
        let delivery = testing::delivery("").send();
        let outcome = service(failing).handle(delivery, testing::context()).await;
        assert_eq!(outcome, Outcome::retry("no room"));
    }
}

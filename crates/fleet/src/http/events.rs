//! Server-sent events: a snapshot, and then what changes. A client that does not keep up is dropped; it comes back
//! to a new snapshot.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::error::ApiError;
use super::{Api, EVENT_CLIENTS};
use crate::metrics::FleetMetrics;

/// One client.
struct Client {
    batches: Receiver<Bytes>,
    stop: CancellationToken,
    metrics: FleetMetrics,
    slow: bool,
    _place: OwnedSemaphorePermit,
}

impl Client {
    /// The next batch; nothing where the client is too slow, or the program ends.
    async fn next(&mut self) -> Option<Bytes> {
        tokio::select! {
            batch = self.batches.recv() => match batch {
                Ok(batch) => Some(batch),
                Err(RecvError::Lagged(batches)) => {
                    debug!(batches, "a client of events is too slow; it is dropped");
                    self.slow = true;
                    None
                }
                Err(RecvError::Closed) => None,
            },
            () = self.stop.cancelled() => None,
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.metrics.client_went(self.slow);
    }
}

/// `GET /api/v1/events`
pub(super) async fn events(State(api): State<Api>) -> Result<Response, ApiError> {
    let place = Arc::clone(&api.clients).try_acquire_owned();
    let place = place.map_err(|_full| ApiError::too_many(EVENT_CLIENTS))?;
    let (snapshot, batches) = api.hub.subscribe();
    let metrics = api.shared.metrics.clone();
    metrics.client_came();
    let client = Client {
        batches,
        stop: api.stop.clone(),
        metrics,
        slow: false,
        _place: place,
    };
    let later = stream::unfold(client, async |mut client| {
        let batch = client.next().await?;
        Some((Ok(batch), client))
    });
    let all = stream::once(async { Ok::<_, Infallible>(snapshot) }).chain(later);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // For proxies that would gather what is told.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(all)).into_response())
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, broadcast};

    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_keep_up_is_dropped_and_counted() {
        let metrics = FleetMetrics::new();
        let places = Arc::new(Semaphore::new(1));
        let sender = broadcast::Sender::new(2);
        metrics.client_came();
        let mut client = Client {
            batches: sender.subscribe(),
            stop: CancellationToken::new(),
            metrics: metrics.clone(),
            slow: false,
            _place: Arc::clone(&places).try_acquire_owned().unwrap(),
        };
        let batch = Bytes::from_static(b"event");
        sender.send(batch.clone()).unwrap();
        assert_eq!(client.next().await, Some(batch.clone()));
        for _ in 0..3 {
            sender.send(batch.clone()).unwrap();
        }
        assert_eq!(client.next().await, None, "one batch is missing");
        drop(client);
        assert_eq!(sender.receiver_count(), 0, "nothing is kept for it");
        assert_eq!(places.available_permits(), 1);
        assert_eq!(metrics.clients(), (0, 1));
    }
}

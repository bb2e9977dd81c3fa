//! Server-sent events: a snapshot, and then what changes. A client that does not keep up gets a new snapshot instead
//! of what it missed; one that does not read at all is cut off by the server.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::error::ApiError;
use super::query::{EventsParameters, LookedAt, Query};
use super::{Api, EVENT_CLIENTS};
use crate::event_part::{EventPart, Gzip};
use crate::hub::Hub;
use crate::metrics::FleetMetrics;
use crate::viewers::Viewer;

/// One client.
struct Client {
    hub: Arc<Hub>,
    batches: Receiver<Arc<EventPart>>,
    stop: CancellationToken,
    metrics: FleetMetrics,
    /// Snapshots that it needed beside its first, for being slow.
    slow: u64,
    /// Figures are asked for while a client looks at every worker.
    _looker: Option<Viewer>,
    _place: OwnedSemaphorePermit,
}

impl Client {
    /// The next batch, or a new snapshot if some were missed; nothing when the program ends, or when slow clients hold
    /// too much for another snapshot.
    async fn next(&mut self) -> Option<Arc<EventPart>> {
        tokio::select! {
            batch = self.batches.recv() => match batch {
                Ok(batch) => Some(batch),
                Err(RecvError::Lagged(batches)) => {
                    debug!(batches, "a client of events does not keep up; it gets a new snapshot");
                    self.slow += 1;
                    self.metrics.client_was_slow();
                    let (snapshot, batches) = subscribe(&self.hub).await?;
                    self.batches = batches;
                    Some(snapshot)
                }
                Err(RecvError::Closed) => None,
            },
            () = self.stop.cancelled() => None,
        }
    }
}

/// Making a snapshot of thousands of workers takes a while: others are served meanwhile.
async fn subscribe(hub: &Arc<Hub>) -> Option<(Arc<EventPart>, Receiver<Arc<EventPart>>)> {
    let hub = Arc::clone(hub);
    let subscribed = tokio::task::spawn_blocking(move || hub.subscribe()).await;
    subscribed.expect("making a snapshot does not panic")
}

impl Drop for Client {
    fn drop(&mut self) {
        self.metrics.client_went();
    }
}

/// The stream of one client.
struct Sending {
    client: Client,
    /// The snapshot, until it is sent.
    first: Option<Arc<EventPart>>,
    gzip: Option<Gzip>,
    ended: bool,
}

impl Sending {
    async fn next(&mut self) -> Option<Bytes> {
        if self.ended {
            return None;
        }
        let told = match self.first.take() {
            Some(first) => Some(first),
            None => self.client.next().await,
        };
        self.ended = told.is_none();
        match (&mut self.gzip, told) {
            (None, told) => told.map(|told| told.plain()),
            (Some(gzip), Some(told)) => Some(gzip.next(&told)),
            (Some(gzip), None) => Some(gzip.end()),
        }
    }
}

/// `GET /api/v1/events`
pub(super) async fn events(
    State(api): State<Api>,
    Query(asked): Query<EventsParameters>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let place = Arc::clone(&api.clients).try_acquire_owned();
    let place = place.map_err(|_full| ApiError::too_many(EVENT_CLIENTS))?;
    let subscribed = subscribe(&api.hub).await;
    let (snapshot, batches) = subscribed.ok_or_else(ApiError::slow_clients)?;
    let metrics = api.shared.metrics.clone();
    metrics.client_came();
    let gzip = takes_gzip(&headers);
    let sending = Sending {
        client: Client {
            hub: Arc::clone(&api.hub),
            batches,
            stop: api.stop.clone(),
            metrics,
            slow: 0,
            _looker: (asked.figures == LookedAt::All).then(|| api.viewers.stream()),
            _place: place,
        },
        first: Some(snapshot),
        gzip: gzip.then(Gzip::default),
        ended: false,
    };
    let all = stream::unfold(sending, async |mut sending| {
        let piece = sending.next().await?;
        Some((Ok::<_, Infallible>(piece), sending))
    });
    let mut response = Body::from_stream(all).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // For proxies that would gather what is told.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
        (header::VARY, "accept-encoding"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// Whether `Accept-Encoding` names gzip, and not with `q=0`.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
        name.trim().eq_ignore_ascii_case("gzip") && weight.parse::<f32>().is_ok_and(|q| q > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use tidegate::config::FleetSettings;

    use super::*;
    use crate::shared::Shared;
    use crate::state::Limits;

    fn client(hub: &Arc<Hub>, places: &Arc<Semaphore>, metrics: &FleetMetrics) -> Client {
        metrics.client_came();
        let (_snapshot, batches) = hub.subscribe().expect("nobody is slow");
        Client {
            hub: Arc::clone(hub),
            batches,
            stop: CancellationToken::new(),
            metrics: metrics.clone(),
            slow: 0,
            _looker: None,
            _place: Arc::clone(places).try_acquire_owned().unwrap(),
        }
    }

    #[tokio::test]
    async fn a_client_that_does_not_keep_up_gets_a_new_snapshot_and_is_counted() {
        let shared = Arc::new(Shared::new(Limits::default()));
        let hub = Arc::new(Hub::new(
            Arc::clone(&shared),
            &FleetSettings::default(),
            None,
        ));
        let (metrics, places) = (FleetMetrics::new(), Arc::new(Semaphore::new(1)));
        let mut client = client(&hub, &places, &metrics);
        let text = |told: Option<Arc<EventPart>>| {
            String::from_utf8(told.expect("there is more").plain().to_vec()).unwrap()
        };
        let mut number = 0;
        hub.tell(&mut number);
        assert!(text(client.next().await).contains("event: summary"));
        for _ in 0..100 {
            hub.tell(&mut number);
        }
        assert!(text(client.next().await).contains("event: snapshot"));
        hub.tell(&mut number);
        assert!(text(client.next().await).contains("event: summary"));
        assert_eq!(client.slow, 1);
        client.stop.cancel();
        assert!(client.next().await.is_none());
        drop(client);
        assert_eq!(places.available_permits(), 1);
        assert_eq!(metrics.clients(), (0, 1));
    }

    #[test]
    fn gzip_is_for_those_that_take_it() {
        for (accepted, takes) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("identity", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, accepted.parse().unwrap());
            assert_eq!(takes_gzip(&headers), takes, "{accepted}");
        }
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}

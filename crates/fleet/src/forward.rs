//! Tells a platform what changes: one request in a window for the whole fleet. It carries whole workers as they are
//! then, not differences.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::api::{Summary, Worker, WorkerDrain};
use super::hub::Hub;
use super::pending::{Pending, Untold};
use super::shared::Shared;
use tidegate::config::ForwardSettings;
use tidegate::handler::HandlerError;
use tidegate::internal::broker::Backoff;
use tidegate::internal::handler::HttpClient;

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forward {
    /// Version of the body: 1.
    pub v: u32,
    /// Which fleet program this is, new at each start. Each one tells everything once, and then what changes.
    pub program: String,
    /// Counts this program's requests that were taken, from 1.
    pub seq: u64,
    /// The fleet in figures.
    pub summary: Summary,
    /// Workers that changed since the last request, as they are now.
    pub workers: Vec<Worker>,
    /// Ids of workers that are no longer known.
    pub gone: Vec<Arc<str>>,
    /// Drains reported since the last request.
    pub drains: Vec<WorkerDrain>,
    /// Whether more changes wait for the next request.
    pub more: bool,
}

/// The part that forwards.
pub(super) struct Forwarder {
    program: String,
    shared: Arc<Shared>,
    hub: Arc<Hub>,
    pending: Arc<Pending>,
    window: Duration,
    client: HttpClient,
    headers: HeaderMap,
}

impl Forwarder {
    /// Makes the client; opens no socket.
    pub(super) fn new(
        settings: &ForwardSettings,
        program: String,
        shared: Arc<Shared>,
        hub: Arc<Hub>,
        pending: Arc<Pending>,
    ) -> Result<Self, HandlerError> {
        let json = HeaderValue::from_static("application/json");
        Ok(Self {
            program,
            shared,
            hub,
            pending,
            window: settings.window,
            client: HttpClient::new(&settings.http)?,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, json)]),
        })
    }

    /// Forwards until it is dropped. If a request is not taken, another one follows after a backoff, with what is
    /// newest then.
    pub(super) async fn run(self) {
        let mut backoff = Backoff::default();
        let mut seq = 1;
        loop {
            sleep(self.window).await;
            if !self.shared.broker().caught_up {
                continue;
            }
            let (taken, more) = self.pending.take();
            match self.send(&taken, more, seq).await {
                Ok(()) => {
                    if backoff.attempts() > 0 || seq == 1 {
                        info!("the platform takes what is forwarded");
                    }
                    backoff.reset();
                    seq += 1;
                    self.shared.metrics.forwarded("taken");
                }
                Err(error) => {
                    if backoff.attempts() == 0 {
                        warn!(
                            error,
                            "the platform refused the forwarded states; trying again"
                        );
                    }
                    self.shared.metrics.forwarded("failed");
                    self.pending.put_back(taken);
                    sleep(backoff.next(rand::random())).await;
                }
            }
        }
    }

    async fn send(&self, taken: &Untold, more: bool, seq: u64) -> Result<(), String> {
        let body = self.body(taken, more, seq);
        let body = serde_json::to_vec(&body).expect("what is told is plain data");
        let post = async { self.client.post(&self.headers, &body.into()).await };
        let answered = timeout(REQUEST_LIMIT, post).await;
        let answered = answered.map_err(|_elapsed| format!("no answer in {REQUEST_LIMIT:?}"))?;
        let answer = answered.map_err(|error| error.to_string())?;
        match answer.status {
            status if status.is_success() => Ok(()),
            // The same request would fail again; the next window has newer content.
            StatusCode::PAYLOAD_TOO_LARGE => Err("it is too large for it (413)".to_owned()),
            status => Err(format!("it answers {status}")),
        }
    }

    fn body(&self, taken: &Untold, more: bool, seq: u64) -> Forward {
        let summary = self.hub.summary();
        let fleet = self.shared.fleet();
        let workers = taken.workers.iter();
        let drains = taken.drains.iter();
        Forward {
            v: 1,
            program: self.program.clone(),
            seq,
            workers: workers
                .filter_map(|id| fleet.worker(id, summary.at))
                .collect(),
            gone: taken.gone.iter().cloned().collect(),
            drains: drains.filter_map(|id| fleet.drain(id)).collect(),
            more,
            summary,
        }
    }
}

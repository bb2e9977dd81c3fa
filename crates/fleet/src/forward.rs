//! Tells a platform what changes: one request in a window for the whole fleet, with whole workers, newest wins.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::api::{Summary, Worker, WorkerDrain};
use super::hub::Hub;
use super::shared::Shared;
use super::state::Changes;
use tidegate::config::ForwardSettings;
use tidegate::handler::HandlerError;
use tidegate::internal::broker::Backoff;
use tidegate::internal::handler::HttpClient;

/// Workers in one request; the others follow in the next.
const WORKERS_LIMIT: usize = 2_000;
/// Workers that are gone, kept until they are told; the platform learns of others from the whole fleet.
const GONE_LIMIT: usize = 10_000;
/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The body of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Forward {
    /// Version of the body: 1.
    pub v: u32,
    /// Which fleet program this is, new at each start; each tells everything once, and then what changes.
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

/// Whose change the platform has not been told.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<Untold>);

#[derive(Debug, Default, Clone)]
struct Untold {
    workers: BTreeSet<Arc<str>>,
    gone: BTreeSet<Arc<str>>,
    drains: BTreeSet<Arc<str>>,
}

impl Pending {
    /// Notes changes. They are bounded by the workers there are.
    pub(super) fn note(&self, changes: &Changes) {
        let mut untold = self.untold();
        untold.workers.extend(changes.workers.iter().cloned());
        untold.drains.extend(changes.drains.iter().cloned());
        for id in &changes.gone {
            untold.workers.remove(id);
            untold.drains.remove(id);
            untold.gone.insert(Arc::clone(id));
        }
        while untold.gone.len() > GONE_LIMIT {
            untold.gone.pop_first();
        }
    }

    fn untold(&self) -> MutexGuard<'_, Untold> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the next request tells; whether more is left.
    fn take(&self) -> (Untold, bool) {
        let mut untold = self.untold();
        let mut taken = std::mem::take(&mut *untold);
        if let Some(first_left) = taken.workers.iter().nth(WORKERS_LIMIT).cloned() {
            untold.workers = taken.workers.split_off(&first_left);
        }
        (taken, !untold.workers.is_empty())
    }

    /// What was taken has not been told.
    fn put_back(&self, taken: Untold) {
        let mut untold = self.untold();
        untold.workers.extend(taken.workers);
        untold.drains.extend(taken.drains);
        untold.gone.extend(taken.gone);
    }
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

    /// Forwards, until it is dropped. A request that is not taken is tried again with backoff, with what is newest
    /// then.
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
                            "the platform does not take what is forwarded; trying again"
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
            // Trying again with the same would help nobody; the next window has newer.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(workers: std::ops::Range<usize>, gone: &[&str]) -> Changes {
        Changes {
            workers: workers
                .map(|number| format!("w-{number:05}").into())
                .collect(),
            gone: gone.iter().map(|id| Arc::from(*id)).collect(),
            drains: Vec::new(),
        }
    }

    #[test]
    fn a_request_is_bounded_and_the_rest_follows() {
        let pending = Pending::default();
        pending.note(&changes(0..5_000, &[]));
        pending.note(&changes(0..10, &["w-00001"]));
        let (taken, more) = pending.take();
        assert_eq!(taken.workers.len(), WORKERS_LIMIT);
        assert!(more);
        assert!(!taken.workers.contains("w-00001"), "it is gone");
        assert_eq!(taken.gone.len(), 1);
        pending.put_back(taken);
        let told: usize = std::iter::from_fn(|| {
            let (taken, _) = pending.take();
            Some(taken.workers.len()).filter(|told| *told > 0)
        })
        .sum();
        assert_eq!(told, 4_999, "nothing is lost");
    }
}

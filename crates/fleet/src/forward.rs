//! Tells a platform what changes: one request in a window for the whole fleet, or several that follow each other when
//! one cannot carry it all. A request carries whole workers as they are then, not differences.

mod portions;
mod request;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

pub use request::Forward;

use super::hub::Hub;
use super::pending::{Pending, Untold};
use super::shared::Shared;
use portions::{Next, Portions, Reception};
use request::{Content, encoded};
use tidegate::config::ForwardSettings;
use tidegate::handler::HandlerError;
use tidegate::internal::broker::Backoff;
use tidegate::internal::handler::HttpClient;

/// How long one request may take.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// A worker that the platform refuses is left out for so long.
const REFUSED_FOR: Duration = Duration::from_mins(10);
/// Workers that are left out at a time. A platform that refuses more than these is sent them again.
const REFUSED_LIMIT: usize = 1_000;

/// The part that forwards.
pub(super) struct Forwarder {
    program: String,
    shared: Arc<Shared>,
    hub: Arc<Hub>,
    pending: Arc<Pending>,
    window: Duration,
    client: HttpClient,
    portions: Portions,
    /// The one change that was refused, until it is known whether it is at fault.
    aside: Option<Untold>,
    /// Workers that the platform refused, and until when they are left out.
    refused: BTreeMap<Arc<str>, Instant>,
    /// The number of the next request.
    seq: u64,
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
        Ok(Self {
            program,
            shared,
            hub,
            pending,
            window: settings.window,
            client: HttpClient::new(&settings.http)?,
            portions: Portions::default(),
            aside: None,
            refused: BTreeMap::new(),
            seq: 1,
        })
    }

    /// Forwards until it is dropped. What a request could not tell is told by another one, as it is then.
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            sleep(self.window).await;
            if !self.shared.broker().caught_up {
                continue;
            }
            let Err(error) = self.tell(self.pending.take(), &mut backoff).await else {
                continue;
            };
            if backoff.attempts() == 0 {
                warn!(
                    error,
                    "the platform does not take the forwarded states; trying again"
                );
            }
            sleep(backoff.next(rand::random())).await;
        }
    }

    /// Tells all of `left`, in as many requests as that takes; at least one. What could not be told is pending again.
    async fn tell(&mut self, mut left: Untold, backoff: &mut Backoff) -> Result<(), String> {
        loop {
            let mut taken = left;
            left = taken.split_off(self.portions.most());
            self.leave_out(&mut taken);
            let (body, gzip) = (self.body(&mut taken, &mut left), self.portions.gzip());
            let (reception, error) = self.send(&body, gzip).await;
            let next = self.portions.answered(taken.len(), reception);
            let outcome = match reception {
                Reception::Taken => "taken",
                _ => "failed",
            };
            self.shared.metrics.forwarded(outcome);
            if reception == Reception::Taken {
                if backoff.attempts() > 0 || self.seq == 1 {
                    info!(gzip, "the platform takes what is forwarded");
                }
                backoff.reset();
                self.seq += 1;
            }
            match next {
                Next::Told if left.is_empty() => return Ok(()),
                Next::Told => {}
                Next::GiveUp => self.give_up(),
                Next::Again if self.portions.is_testing() => self.aside = Some(taken),
                Next::Again => left.add(taken),
                Next::Wait => {
                    left.add(taken);
                    left.add(self.aside.take().unwrap_or_default());
                    self.pending.put_back(left);
                    return Err(error);
                }
            }
        }
    }

    /// The platform refuses the change that was kept aside, and takes others.
    fn give_up(&mut self) {
        let Some(change) = self.aside.take() else {
            return;
        };
        self.shared.metrics.forwarded("given_up");
        let ids = [&change.gone, &change.drains, &change.workers];
        let id = ids.into_iter().flatten().next().cloned();
        warn!(
            worker = id.as_deref(),
            seconds = REFUSED_FOR.as_secs(),
            "the platform refuses what is forwarded of this worker; it is left out for a while"
        );
        let now = Instant::now();
        self.refused.retain(|_, until| *until > now);
        if let Some(id) = id.filter(|_| self.refused.len() < REFUSED_LIMIT) {
            self.refused.insert(id, now + REFUSED_FOR);
        }
    }

    /// Takes out the workers that the platform refused lately.
    fn leave_out(&self, taken: &mut Untold) {
        let now = Instant::now();
        let refused = |id: &Arc<str>| self.refused.get(id).is_some_and(|until| *until > now);
        if !self.refused.is_empty() {
            taken.workers.retain(|id| !refused(id));
        }
    }

    /// Sends a request; its reception, and why it was not taken.
    async fn send(&self, body: &Forward, gzip: bool) -> (Reception, String) {
        let json = HeaderValue::from_static("application/json");
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, json)]);
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let body = encoded(body, gzip);
        match timeout(REQUEST_LIMIT, self.client.post(|| headers.clone(), &body)).await {
            Ok(Ok(answer)) => (
                Reception::of(answer.status),
                format!("it answers {}", answer.status),
            ),
            Ok(Err(error)) => (Reception::Unavailable, error.to_string()),
            Err(_elapsed) => (
                Reception::Unavailable,
                format!("no answer in {REQUEST_LIMIT:?}"),
            ),
        }
    }

    /// A body with as much of `taken` as it can carry; what it does not carry goes to `left`.
    fn body(&self, taken: &mut Untold, left: &mut Untold) -> Forward {
        let summary = self.hub.summary();
        let (content, rest) = Content::of(taken, &self.shared.fleet(), &summary);
        left.add(rest);
        Forward {
            v: 1,
            program: self.program.clone(),
            seq: self.seq,
            workers: content.workers,
            gone: content.gone,
            drains: content.drains,
            more: !left.is_empty(),
            summary,
        }
    }
}

//! Lets work start only while the platform answers: the breaker, shared by all queues, and its probe.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use crate::breaker::{Breaker, Change};
use crate::graphql::GraphQl;
use crate::metrics::Metrics;
use crate::signs::{Cause, Sign, cause};

/// How long a delivery waits between looks at a breaker that is open.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The breaker, shared. Cheap to clone.
#[derive(Clone)]
pub struct Gate {
    breaker: Arc<Mutex<Breaker>>,
    open: watch::Sender<bool>,
    metrics: Metrics,
}

impl Gate {
    /// A gate through which work may start.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            breaker: Arc::default(),
            open: watch::Sender::new(false),
            metrics,
        }
    }

    /// How long new work has to wait; `None` means that it may start.
    pub fn wait(&self) -> Option<(Duration, Cause)> {
        match &*self.breaker() {
            Breaker::Closed { .. } => None,
            Breaker::Open {
                probe_at, cause, ..
            } => {
                let until = probe_at.saturating_duration_since(Instant::now());
                Some((until + LOOK_EVERY, *cause))
            }
        }
    }

    /// The platform did what it was asked, or refused it by itself.
    pub fn answered(&self) {
        let change = self.breaker().succeeded(Instant::now());
        self.tell(change, None);
    }

    /// A call failed.
    pub fn failed(&self, sign: &Sign) {
        let cause = cause(sign);
        if !cause.is_outage() {
            if cause != Cause::NoChild && cause != Cause::ChildDied {
                self.answered();
            }
            return;
        }
        let reason = excerpt(sign);
        let now = Instant::now();
        let change = self.breaker().failed(cause, &reason, now, rand::random());
        self.tell(change, Some((cause, &reason)));
    }

    /// Resolves when the platform answers again after it did not. Cancel safe.
    pub async fn recovered(&self) {
        let mut open = self.open.subscribe();
        // The sender is in `self`, so it is never gone. The guards are not kept: they lock it.
        drop(open.wait_for(|open| *open).await);
        drop(open.wait_for(|open| !*open).await);
    }

    /// Observes whether nothing new is started.
    pub(crate) fn opens(&self) -> watch::Receiver<bool> {
        self.open.subscribe()
    }

    /// The state for status messages: without what changes all the time.
    pub fn remark(&self) -> Option<String> {
        self.breaker().remark()
    }

    /// The state in words, if nothing new is started.
    pub fn describe(&self) -> Option<String> {
        self.breaker().describe(Instant::now())
    }

    /// Asks the platform whenever the breaker is open and it is time to; never returns.
    pub async fn probe(self, platform: GraphQl) {
        let mut open = self.open.subscribe();
        loop {
            // The sender is in `self`, so it is never gone. The guard is not kept: it locks it.
            drop(open.wait_for(|open| *open).await);
            let at = self.breaker().probe_at();
            let Some(at) = at else {
                continue;
            };
            sleep_until(at).await;
            if let Err(error) = platform.reload_token() {
                warn!(%error, "cannot read the token file");
            }
            match platform.connectors(false).await {
                Err(sign) if cause(&sign).is_outage() => {
                    let now = Instant::now();
                    let reason = excerpt(&sign);
                    let mut breaker = self.breaker();
                    breaker.probe_failed(cause(&sign), &reason, now, rand::random());
                }
                _ => self.answered(),
            }
        }
    }

    fn tell(&self, change: Option<Change>, why: Option<(Cause, &str)>) {
        match change {
            None => return,
            Some(Change::Opened) => match why {
                Some((Cause::Unauthorized, reason)) => error!(
                    reason,
                    "the platform refuses the token: nothing is started until it accepts one"
                ),
                Some((_, reason)) => {
                    warn!(
                        reason,
                        "the platform does not answer: nothing is started until it does"
                    );
                }
                None => {}
            },
            Some(Change::Closed(after)) => info!(?after, "the platform answers again"),
        }
        let open = change == Some(Change::Opened);
        self.metrics.set_breaker(open);
        self.open.send_replace(open);
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sign in a few words.
pub(crate) fn excerpt(sign: &Sign) -> String {
    const LIMIT: usize = 200;
    let text = sign.text.trim();
    let text = &text[..text.floor_char_boundary(LIMIT)];
    match (sign.status, &sign.name) {
        (_, Some(name)) => format!("{name}: {text}"),
        (Some(status), None) => format!("HTTP {status} {text}"),
        (None, None) => text.to_owned(),
    }
}

//! Connections that wait for their next request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use hyper::client::conn::http2::SendRequest;
use tokio::time::{Instant, sleep_until};

use super::Body;
use super::connect::Connected;
use super::http1::Http1;

/// How long an unused connection is kept. Servers and load balancers commonly close theirs after 60 s or
/// more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Connections that are open. There are never more than requests were under way at once.
#[derive(Default)]
pub(super) struct Pool(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The last one used is last, and taken first: the others may grow old.
    idle: Vec<(Instant, Box<Http1>)>,
    shared: Option<SendRequest<Body>>,
    /// Whether somebody looks after old connections.
    tended: bool,
}

impl Pool {
    /// A connection that is open as far as is known.
    pub(super) fn take(&self) -> Option<Connected> {
        let mut inner = self.inner();
        if let Some(shared) = &inner.shared {
            if shared.is_ready() {
                return Some(Connected::Http2(shared.clone()));
            }
            inner.shared = None;
        }
        while let Some((_, mut connection)) = inner.idle.pop() {
            if connection.is_open() {
                return Some(Connected::Http1(connection));
            }
        }
        None
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(self: &Arc<Self>, connection: Box<Http1>) {
        let mut inner = self.inner();
        inner.idle.push((Instant::now(), connection));
        if !inner.tended {
            inner.tended = true;
            tokio::spawn(close_old(Arc::downgrade(self)));
        }
    }

    /// Lets further requests use this connection at the same time.
    pub(super) fn share(&self, sender: SendRequest<Body>) {
        self.inner().shared = Some(sender);
    }

    /// Closes what is too old; when the next will be, if there is one.
    fn close_old(&self, now: Instant) -> Option<Instant> {
        let mut inner = self.inner();
        inner.idle.retain(|(since, _)| *since + IDLE_TIMEOUT > now);
        let next = inner
            .idle
            .iter()
            .map(|(since, _)| *since + IDLE_TIMEOUT)
            .min();
        inner.tended = next.is_some();
        next
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes connections when they are too old, while there are any.
async fn close_old(pool: Weak<Pool>) {
    while let Some(next) = pool
        .upgrade()
        .and_then(|pool| pool.close_old(Instant::now()))
    {
        sleep_until(next).await;
    }
}

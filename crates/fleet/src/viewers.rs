//! The viewers of workers' figures: pages, streams of events, `tidegate status`. Beats are only requested
//! while there are viewers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::cadence::Demand;

/// A page counts as a viewer for this long after its last request. It repeats the request in a third of that time.
pub(crate) const WATCH_HOLDS: Duration = Duration::from_secs(30);
/// Viewers still count for this long after the last stream has ended: a page that is loaded again opens another.
const LINGER: Duration = Duration::from_secs(5);
/// Workers watched in detail at a time, of all pages together.
pub(crate) const WATCHED_LIMIT: usize = 200;

/// The viewers.
#[derive(Debug, Default)]
pub(crate) struct Viewers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Streams that show every worker.
    streams: usize,
    /// Until this time somebody views every worker beside them.
    all_until: Option<Instant>,
    /// Until this time somebody views the queues.
    queues_until: Option<Instant>,
    /// Workers that somebody views in detail, and until when.
    workers: BTreeMap<Arc<str>, Instant>,
}

/// A stream that shows every worker, for as long as this is kept.
#[derive(Debug)]
#[must_use = "whoever looks has gone when this is dropped"]
pub(crate) struct Viewer(Arc<Viewers>);

impl Viewers {
    /// A stream begins that shows every worker.
    pub(crate) fn stream(self: &Arc<Self>) -> Viewer {
        self.inner().streams += 1;
        Viewer(Arc::clone(self))
    }

    /// A page says what it shows for the next [`WATCH_HOLDS`]: the list of all workers or not, and the workers that it
    /// shows in detail or has on the screen. Beyond [`WATCHED_LIMIT`] workers are left out.
    pub(crate) fn watch(&self, all: bool, workers: impl IntoIterator<Item = Arc<str>>) {
        let now = Instant::now();
        let until = now + WATCH_HOLDS;
        let mut inner = self.inner();
        if all {
            inner.all_until = Some(until);
        }
        inner.workers.retain(|_, until| *until > now);
        for worker in workers {
            if inner.workers.len() < WATCHED_LIMIT || inner.workers.contains_key(&worker) {
                inner.workers.insert(worker, until);
            }
        }
    }

    /// Somebody views the queues, and with them the figures of every worker, for the next [`WATCH_HOLDS`].
    pub(crate) fn view_queues(&self) {
        self.watch(true, []);
        self.inner().queues_until = Some(Instant::now() + WATCH_HOLDS);
    }

    /// Whether somebody views the queues now.
    pub(crate) fn queues_viewed(&self) -> bool {
        let until = self.inner().queues_until;
        until.is_some_and(|until| until > Instant::now())
    }

    /// The workers that are viewed now.
    pub(crate) fn demand(&self) -> Demand {
        let now = Instant::now();
        let inner = self.inner();
        let watched = inner.workers.iter().filter(|(_, until)| **until > now);
        let workers: BTreeSet<_> = watched.map(|(id, _)| Arc::clone(id)).collect();
        Demand {
            all: inner.streams > 0 || inner.all_until.is_some_and(|until| until > now),
            workers,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        let mut inner = self.0.inner();
        inner.streams -= 1;
        let lingers = Instant::now() + LINGER;
        inner.all_until = inner.all_until.max(Some(lingers));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> Arc<str> {
        format!("w-{number}").into()
    }

    #[tokio::test(start_paused = true)]
    async fn somebody_looks_while_a_stream_is_open_and_a_moment_longer() {
        let viewers = Arc::<Viewers>::default();
        assert!(!viewers.demand().all);
        let stream = viewers.stream();
        tokio::time::advance(WATCH_HOLDS * 100).await;
        assert!(viewers.demand().all);
        drop(stream);
        assert!(viewers.demand().all, "a page is being loaded again");
        tokio::time::advance(LINGER).await;
        assert!(!viewers.demand().all);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_looks_for_as_long_as_it_says_so() {
        let viewers = Arc::<Viewers>::default();
        viewers.watch(true, [id(1)]);
        tokio::time::advance(WATCH_HOLDS / 2).await;
        viewers.watch(false, [id(2)]);
        let demand = viewers.demand();
        assert!(demand.all);
        assert_eq!(demand.workers, [id(1), id(2)].into());
        tokio::time::advance(WATCH_HOLDS / 2).await;
        let demand = viewers.demand();
        assert!(!demand.all);
        assert_eq!(demand.workers, [id(2)].into());
    }

    #[tokio::test(start_paused = true)]
    async fn workers_that_are_watched_are_bounded() {
        let viewers = Arc::<Viewers>::default();
        viewers.watch(false, (0..1_000).map(id));
        assert_eq!(viewers.demand().workers.len(), WATCHED_LIMIT);
        tokio::time::advance(WATCH_HOLDS).await;
        viewers.watch(false, (1_000..1_010).map(id));
        assert_eq!(
            viewers.demand().workers.len(),
            10,
            "the others have made room"
        );
    }
}

//! Who looks at the figures of workers now: pages, streams of events, `tidegate status`. Beats are only asked for
//! while somebody does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::cadence::Demand;

/// How long a page is taken to look after it last said so. It says so again in a third of that time.
pub(crate) const WATCH_HOLDS: Duration = Duration::from_secs(30);
/// How long after the last stream has ended somebody is still taken to look: a page that is loaded again opens another.
const LINGER: Duration = Duration::from_secs(5);
/// Workers watched in detail at a time, of all pages together.
pub(crate) const WATCHED_LIMIT: usize = 200;

/// Who looks now.
#[derive(Debug, Default)]
pub(crate) struct Lookers(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Streams that show every worker.
    streams: usize,
    /// Until when somebody looks at every worker beside them.
    all_until: Option<Instant>,
    /// Workers that somebody looks at in detail, and until when.
    workers: BTreeMap<Arc<str>, Instant>,
}

/// A stream that shows every worker, for as long as this is kept.
#[derive(Debug)]
#[must_use = "whoever looks has gone when this is dropped"]
pub(crate) struct Looker(Arc<Lookers>);

impl Lookers {
    /// A stream begins that shows every worker.
    pub(crate) fn stream(self: &Arc<Self>) -> Looker {
        self.inner().streams += 1;
        Looker(Arc::clone(self))
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

    /// What is looked at now.
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

impl Drop for Looker {
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
        let lookers = Arc::<Lookers>::default();
        assert!(!lookers.demand().all);
        let stream = lookers.stream();
        tokio::time::advance(WATCH_HOLDS * 100).await;
        assert!(lookers.demand().all);
        drop(stream);
        assert!(lookers.demand().all, "a page is being loaded again");
        tokio::time::advance(LINGER).await;
        assert!(!lookers.demand().all);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_looks_for_as_long_as_it_says_so() {
        let lookers = Arc::<Lookers>::default();
        lookers.watch(true, [id(1)]);
        tokio::time::advance(WATCH_HOLDS / 2).await;
        lookers.watch(false, [id(2)]);
        let demand = lookers.demand();
        assert!(demand.all);
        assert_eq!(demand.workers, [id(1), id(2)].into());
        tokio::time::advance(WATCH_HOLDS / 2).await;
        let demand = lookers.demand();
        assert!(!demand.all);
        assert_eq!(demand.workers, [id(2)].into());
    }

    #[tokio::test(start_paused = true)]
    async fn workers_that_are_watched_are_bounded() {
        let lookers = Arc::<Lookers>::default();
        lookers.watch(false, (0..1_000).map(id));
        assert_eq!(lookers.demand().workers.len(), WATCHED_LIMIT);
        tokio::time::advance(WATCH_HOLDS).await;
        lookers.watch(false, (1_000..1_010).map(id));
        assert_eq!(
            lookers.demand().workers.len(),
            10,
            "the others have made room"
        );
    }
}

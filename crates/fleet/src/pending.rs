//! The changes that a platform has not been told yet.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::Changes;

/// Forgotten workers remembered until the platform has been told. Beyond this the platform keeps workers that the
/// fleet program has forgotten.
const GONE_LIMIT: usize = 10_000;

/// Changes that the platform has not been told.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<Untold>);

/// Ids of workers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Untold {
    /// Workers that changed.
    pub workers: BTreeSet<Arc<str>>,
    /// Workers that are no longer known.
    pub gone: BTreeSet<Arc<str>>,
    /// Workers whose drain was reported.
    pub drains: BTreeSet<Arc<str>>,
}

impl Untold {
    /// The number of changes.
    pub(super) fn len(&self) -> usize {
        self.gone.len() + self.drains.len() + self.workers.len()
    }

    /// Whether there is nothing to tell.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds other changes.
    pub(super) fn add(&mut self, other: Self) {
        self.gone.extend(other.gone);
        self.drains.extend(other.drains);
        self.workers.extend(other.workers);
    }

    /// Leaves the first `most` changes here, and returns the others.
    pub(super) fn split_off(&mut self, most: usize) -> Self {
        let mut room = most;
        let mut keep = |ids: &mut BTreeSet<Arc<str>>| {
            let rest = match ids.iter().nth(room).cloned() {
                Some(first) => ids.split_off(&first),
                None => BTreeSet::new(),
            };
            room -= ids.len();
            rest
        };
        Self {
            gone: keep(&mut self.gone),
            drains: keep(&mut self.drains),
            workers: keep(&mut self.workers),
        }
    }
}

impl Pending {
    /// Adds changes. The workers that there are bound them.
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

    /// Takes everything.
    pub(super) fn take(&self) -> Untold {
        std::mem::take(&mut *self.untold())
    }

    /// What was taken has not been told.
    pub(super) fn put_back(&self, taken: Untold) {
        self.untold().add(taken);
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
    fn a_part_is_taken_and_the_rest_follows() {
        let pending = Pending::default();
        pending.note(&changes(0..5_000, &[]));
        pending.note(&changes(0..10, &["w-00001"]));
        let mut taken = pending.take();
        assert!(pending.take().is_empty());
        assert!(!taken.workers.contains("w-00001"), "it is gone");
        let rest = taken.split_off(2_000);
        assert_eq!((taken.gone.len(), taken.workers.len()), (1, 1_999));
        pending.put_back(rest);
        pending.put_back(taken);
        assert_eq!(pending.take().len(), 5_000, "nothing is lost");
    }
}

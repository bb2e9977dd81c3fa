//! The changes that a platform has not been told yet.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::state::Changes;

/// Workers in one request; the others follow in the next.
const WORKERS_LIMIT: usize = 2_000;
/// Workers that are gone, kept until they are told; the platform learns of others from the whole fleet.
const GONE_LIMIT: usize = 10_000;
/// Changes that the platform has not been told.
#[derive(Debug, Default)]
pub(crate) struct Pending(Mutex<Untold>);

/// Ids of workers.
#[derive(Debug, Default, Clone)]
pub(super) struct Untold {
    /// Those that changed.
    pub workers: BTreeSet<Arc<str>>,
    /// Those that are no longer known.
    pub gone: BTreeSet<Arc<str>>,
    /// Those whose drain was reported.
    pub drains: BTreeSet<Arc<str>>,
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
    pub(super) fn take(&self) -> (Untold, bool) {
        let mut untold = self.untold();
        let mut taken = std::mem::take(&mut *untold);
        if let Some(first_left) = taken.workers.iter().nth(WORKERS_LIMIT).cloned() {
            untold.workers = taken.workers.split_off(&first_left);
        }
        (taken, !untold.workers.is_empty())
    }

    /// What was taken has not been told.
    pub(super) fn put_back(&self, taken: Untold) {
        let mut untold = self.untold();
        untold.workers.extend(taken.workers);
        untold.drains.extend(taken.drains);
        untold.gone.extend(taken.gone);
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

//! Which worker came in the place of one that drained. Pure.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use super::Target;
use crate::api::WorkerState;

/// A worker, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its id.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its state.
    pub state: WorkerState,
}

/// What came in a worker's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Replacement {
    /// Nobody runs yet.
    Missing,
    /// This worker runs.
    Runs(Arc<str>),
    /// This worker came, and was lost.
    Lost(Arc<str>),
}

/// The workers that were there when the rollout began, and those that have replaced one of them: neither replaces another.
#[derive(Debug)]
pub(super) struct Known(Mutex<BTreeSet<Arc<str>>>);

impl Known {
    pub(super) fn of<'a>(workers: impl Iterator<Item = &'a Seen>) -> Self {
        let ids = workers.map(|worker| Arc::clone(&worker.id));
        Self(Mutex::new(ids.collect()))
    }

    /// Looks among `workers` for one that came since, with the name of `target`. The one that is found replaces nobody else.
    pub(super) fn replacement(&self, target: &Target, workers: &[Seen]) -> Replacement {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newcomers: Vec<&Seen> = workers
            .iter()
            .filter(|worker| worker.name == target.name && !known.contains(&worker.id))
            .collect();
        let in_state = |state| newcomers.iter().find(|worker| worker.state == state);
        if let Some(found) = in_state(WorkerState::Running) {
            let id = Arc::clone(&found.id);
            known.insert(Arc::clone(&id));
            return Replacement::Runs(id);
        }
        let lost = in_state(WorkerState::Lost);
        lost.map_or(Replacement::Missing, |lost| {
            Replacement::Lost(Arc::clone(&lost.id))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(id: &str, name: &str, state: WorkerState) -> Seen {
        Seen {
            id: id.into(),
            name: name.into(),
            state,
        }
    }

    fn target(id: &str, name: &str) -> Target {
        Target {
            id: id.into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_newcomer_of_the_same_name_that_runs_replaces_one_worker() {
        use WorkerState::{Running, Starting, Stopped};
        let before = [seen("web-1", "web", Stopped), seen("web-2", "web", Running)];
        let known = Known::of(before.iter());
        let (first, second) = (target("web-1", "web"), target("web-2", "web"));
        let mut workers = before.to_vec();
        assert_eq!(known.replacement(&first, &workers), Replacement::Missing);
        workers.push(seen("mail-3", "mail", Running));
        workers.push(seen("web-3", "web", Starting));
        assert_eq!(known.replacement(&first, &workers), Replacement::Missing);
        workers.pop();
        workers.push(seen("web-3", "web", Running));
        let runs = Replacement::Runs("web-3".into());
        assert_eq!(known.replacement(&first, &workers), runs);
        assert_eq!(
            known.replacement(&second, &workers),
            Replacement::Missing,
            "it has replaced the first"
        );
    }

    #[test]
    fn a_newcomer_that_is_lost_is_told() {
        let known = Known::of([].iter());
        let workers = [seen("web-2", "web", WorkerState::Lost)];
        let found = known.replacement(&target("web-1", "web"), &workers);
        assert_eq!(found, Replacement::Lost("web-2".into()));
    }
}

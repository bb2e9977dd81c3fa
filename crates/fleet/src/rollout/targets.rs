//! The workers that a command line names. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{WorkerOutcome, WorkerResult};
use crate::api::Worker;

/// Candidates that an error lists.
const CANDIDATES: usize = 5;

/// A worker to command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its id.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// The workers that a command line names.
#[derive(Debug, Default, PartialEq)]
pub struct Selection {
    /// Workers to command, each once.
    pub targets: Vec<Target>,
    /// Arguments that name no worker, or more than one.
    pub failed: Vec<WorkerResult>,
    /// A note for the operator: names that several workers share.
    pub notes: Vec<String>,
}

/// Selects from `workers` those that `wanted` names: by id, by name (every live worker with that name), or by the
/// beginning of exactly one id. An empty `wanted` selects every live worker.
pub fn select(wanted: &[String], workers: &[Worker]) -> Selection {
    let mut selection = Selection::default();
    let mut seen = BTreeSet::new();
    let mut add = |targets: &mut Vec<Target>, worker: &Worker| {
        if seen.insert(Arc::clone(&worker.id)) {
            targets.push(target(worker));
        }
    };
    if wanted.is_empty() {
        for worker in workers.iter().filter(|worker| lives(worker)) {
            add(&mut selection.targets, worker);
        }
        return selection;
    }
    for word in wanted {
        match meant(word, workers) {
            Ok(meant) => {
                if meant.len() > 1 {
                    let note = format!("{word:?} is the name of {} workers", meant.len());
                    selection.notes.push(note);
                }
                for worker in meant {
                    add(&mut selection.targets, worker);
                }
            }
            Err(failed) => selection.failed.push(*failed),
        }
    }
    selection
}

fn target(worker: &Worker) -> Target {
    Target {
        id: Arc::clone(&worker.id),
        name: Arc::clone(&worker.name),
    }
}

/// Whether the worker may be commanded. A silent worker may still obey.
fn lives(worker: &Worker) -> bool {
    use crate::api::WorkerState::{Lost, Stopped};
    !matches!(worker.state, Lost | Stopped)
}

fn meant<'w>(word: &str, workers: &'w [Worker]) -> Result<Vec<&'w Worker>, Box<WorkerResult>> {
    let failed = |outcome, error: String| Box::new(WorkerResult::failed(word, outcome, error));
    let exact: Vec<&Worker> = workers
        .iter()
        .filter(|worker| &*worker.id == word)
        .collect();
    let named = workers.iter().filter(|worker| &*worker.name == word);
    let known: Vec<&Worker> = if exact.is_empty() {
        named.collect()
    } else {
        exact
    };
    let living: Vec<&Worker> = known
        .iter()
        .copied()
        .filter(|worker| lives(worker))
        .collect();
    if !living.is_empty() {
        return Ok(living);
    }
    if let Some(last) = known.iter().max_by_key(|worker| worker.since) {
        let error = format!(
            "{} is {} since {}",
            last.id,
            last.state.as_str(),
            last.since
        );
        return Err(failed(WorkerOutcome::Gone, error));
    }
    let begins = |worker: &&Worker| lives(worker) && worker.id.starts_with(word);
    let begun: Vec<&Worker> = workers.iter().filter(begins).collect();
    match &begun[..] {
        [] => {
            let error = "no worker has this id or name, or an id that begins so".to_owned();
            Err(failed(WorkerOutcome::Unknown, error))
        }
        [_one] => Ok(begun),
        several => {
            let shown: Vec<&str> = several
                .iter()
                .take(CANDIDATES)
                .map(|worker| &*worker.id)
                .collect();
            let more = if several.len() > CANDIDATES {
                ", …"
            } else {
                ""
            };
            let error = format!("{} ids begin so: {}{more}", several.len(), shown.join(", "));
            Err(failed(WorkerOutcome::Ambiguous, error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WorkerState;
    use crate::clock::Moment;

    fn worker(id: &str, name: &str, state: WorkerState) -> Worker {
        Worker {
            id: id.into(),
            name: name.into(),
            state,
            since: Moment::from_ms(0),
            reason: None,
            note: None,
            host: None,
            pid: None,
            version: None,
            started_at: None,
            last_heard: Moment::from_ms(0),
            lease: None,
            load: None,
            figures: None,
            deadline_at: None,
            nodes: Vec::new(),
            nodes_left_out: 0,
            drain: None,
        }
    }

    fn fleet() -> Vec<Worker> {
        vec![
            worker("web-01A", "web", WorkerState::Running),
            worker("web-01B", "web", WorkerState::Paused),
            worker("web-00Z", "web", WorkerState::Stopped),
            worker("mail-01C", "mail", WorkerState::Silent),
            worker("old-01D", "old", WorkerState::Lost),
        ]
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn ids(selection: &Selection) -> Vec<&str> {
        selection.targets.iter().map(|target| &*target.id).collect()
    }

    #[test]
    fn an_id_a_name_or_the_beginning_of_an_id_means_a_worker() {
        let fleet = fleet();
        let selection = select(&words(&["web-01A", "mail", "web-01B"]), &fleet);
        assert_eq!(ids(&selection), ["web-01A", "mail-01C", "web-01B"]);
        assert!(selection.failed.is_empty() && selection.notes.is_empty());
        assert_eq!(ids(&select(&words(&["mail-0"]), &fleet)), ["mail-01C"]);
    }

    #[test]
    fn a_name_means_all_who_live_under_it_and_that_is_said() {
        let fleet = fleet();
        let selection = select(&words(&["web", "web-01B"]), &fleet);
        assert_eq!(ids(&selection), ["web-01A", "web-01B"], "each once");
        assert_eq!(selection.notes, ["\"web\" is the name of 2 workers"]);
    }

    #[test]
    fn nothing_means_everybody_who_lives() {
        assert_eq!(
            ids(&select(&[], &fleet())),
            ["web-01A", "web-01B", "mail-01C"]
        );
    }

    #[test]
    fn what_means_nobody_or_several_is_told_apart() {
        let fleet = fleet();
        let outcome = |word: &str| {
            let selection = select(&words(&[word]), &fleet);
            assert!(selection.targets.is_empty(), "{word}");
            selection.failed[0].outcome
        };
        assert_eq!(outcome("nobody"), WorkerOutcome::Unknown);
        assert_eq!(outcome("web-0"), WorkerOutcome::Ambiguous);
        assert_eq!(outcome("old"), WorkerOutcome::Gone);
        assert_eq!(outcome("web-00Z"), WorkerOutcome::Gone);
    }
}

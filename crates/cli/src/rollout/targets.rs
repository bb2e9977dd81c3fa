//! Which workers a command line means. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Outcome, Result};
use tidegate_fleet::api::Worker;

/// How many candidates an error names.
const CANDIDATES: usize = 5;

/// A worker to command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its id.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

/// What a command line means.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Picked {
    /// Workers to command, each once.
    pub targets: Vec<Target>,
    /// What means no worker that could be commanded.
    pub failed: Vec<Result>,
    /// What the operator should know: names that mean several workers.
    pub notes: Vec<String>,
}

/// Whom `wanted` means among `workers`: each an id, a name (of all workers that live under it), or the beginning of
/// exactly one id. Nothing wanted means all that live.
pub(crate) fn pick(wanted: &[String], workers: &[Worker]) -> Picked {
    let mut picked = Picked::default();
    let mut seen = BTreeSet::new();
    let mut add = |targets: &mut Vec<Target>, worker: &Worker| {
        if seen.insert(Arc::clone(&worker.id)) {
            targets.push(target(worker));
        }
    };
    if wanted.is_empty() {
        for worker in workers.iter().filter(|worker| lives(worker)) {
            add(&mut picked.targets, worker);
        }
        return picked;
    }
    for word in wanted {
        match meant(word, workers) {
            Ok(meant) => {
                if meant.len() > 1 {
                    let note = format!("{word:?} is the name of {} workers", meant.len());
                    picked.notes.push(note);
                }
                for worker in meant {
                    add(&mut picked.targets, worker);
                }
            }
            Err(failed) => picked.failed.push(failed),
        }
    }
    picked
}

fn target(worker: &Worker) -> Target {
    Target {
        id: Arc::clone(&worker.id),
        name: Arc::clone(&worker.name),
    }
}

/// Whether it may be commanded: who is silent may still obey.
fn lives(worker: &Worker) -> bool {
    use tidegate_fleet::api::WorkerState::{Lost, Stopped};
    !matches!(worker.state, Lost | Stopped)
}

fn meant<'w>(word: &str, workers: &'w [Worker]) -> std::result::Result<Vec<&'w Worker>, Result> {
    let failed = |outcome, error: String| Result::failed(word, outcome, error);
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
        return Err(failed(Outcome::Gone, error));
    }
    let begins = |worker: &&Worker| lives(worker) && worker.id.starts_with(word);
    let begun: Vec<&Worker> = workers.iter().filter(begins).collect();
    match &begun[..] {
        [] => {
            let error = "no worker has this id or name, or an id that begins so".to_owned();
            Err(failed(Outcome::Unknown, error))
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
            Err(failed(Outcome::Ambiguous, error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_fleet::api::WorkerState;
    use tidegate_fleet::clock::Moment;

    fn worker(id: &str, name: &str, state: WorkerState) -> Worker {
        Worker {
            id: id.into(),
            name: name.into(),
            state,
            since: Moment::from_ms(0),
            reason: None,
            host: None,
            pid: None,
            version: None,
            started_at: None,
            last_heard: Moment::from_ms(0),
            lease: None,
            load: None,
            deadline_at: None,
            nodes: Vec::new(),
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

    fn ids(picked: &Picked) -> Vec<&str> {
        picked.targets.iter().map(|target| &*target.id).collect()
    }

    #[test]
    fn an_id_a_name_or_the_beginning_of_an_id_means_a_worker() {
        let fleet = fleet();
        let picked = pick(&words(&["web-01A", "mail", "web-01B"]), &fleet);
        assert_eq!(ids(&picked), ["web-01A", "mail-01C", "web-01B"]);
        assert!(picked.failed.is_empty() && picked.notes.is_empty());
        assert_eq!(ids(&pick(&words(&["mail-0"]), &fleet)), ["mail-01C"]);
    }

    #[test]
    fn a_name_means_all_who_live_under_it_and_that_is_said() {
        let fleet = fleet();
        let picked = pick(&words(&["web", "web-01B"]), &fleet);
        assert_eq!(ids(&picked), ["web-01A", "web-01B"], "each once");
        assert_eq!(picked.notes, ["\"web\" is the name of 2 workers"]);
    }

    #[test]
    fn nothing_means_everybody_who_lives() {
        assert_eq!(
            ids(&pick(&[], &fleet())),
            ["web-01A", "web-01B", "mail-01C"]
        );
    }

    #[test]
    fn what_means_nobody_or_several_is_told_apart() {
        let fleet = fleet();
        let outcome = |word: &str| {
            let picked = pick(&words(&[word]), &fleet);
            assert!(picked.targets.is_empty(), "{word}");
            picked.failed[0].outcome
        };
        assert_eq!(outcome("nobody"), Outcome::Unknown);
        assert_eq!(outcome("web-0"), Outcome::Ambiguous);
        assert_eq!(outcome("old"), Outcome::Gone);
        assert_eq!(outcome("web-00Z"), Outcome::Gone);
    }
}

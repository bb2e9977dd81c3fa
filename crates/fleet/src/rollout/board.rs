//! The rollouts of the fleet program: one at a time, and what came of the last ones.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::info;
use ulid::Ulid;

use super::{Commander, RolloutOptions, Target, WorkerResult, roll_out};
use crate::api::{
    Rollout, RolloutCommand, RolloutRequest, RolloutResult, RolloutState, Rollouts, WorkerState,
};
use crate::clock::Moment;
use tidegate::internal::status::control::Command;

/// Rollouts that are remembered.
const ROLLOUTS_LIMIT: usize = 10;
/// Results of one that are remembered.
const RESULTS_LIMIT: usize = 100;
/// Workers of one.
const WORKERS_LIMIT: usize = 10_000;
/// Workers under way at a time.
const AT_ONCE_LIMIT: u16 = 1_000;
/// Bytes of a reason.
const REASON_LIMIT: usize = 500;
/// The time limit for each worker, with its replacement.
const WORKER_LIMIT: Duration = Duration::from_mins(15);

/// Why a rollout does not begin.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum RolloutError {
    /// The request is wrong.
    #[error("{0}")]
    Request(String),
    /// Another one is under way.
    #[error("rollout {0} is under way: wait for its end, or stop it")]
    UnderWay(String),
}

/// The rollouts.
#[derive(Debug)]
pub(crate) struct RolloutBoard {
    commander: Commander,
    entries: Mutex<VecDeque<Entry>>,
}

#[derive(Debug)]
struct Entry {
    rollout: Rollout,
    stop: CancellationToken,
    /// It ends with the program.
    task: Option<AbortOnDropHandle<()>>,
}

impl RolloutBoard {
    pub(crate) fn new(commander: Commander) -> Arc<Self> {
        Arc::new(Self {
            commander,
            entries: Mutex::default(),
        })
    }

    /// Begins a rollout that `by` asked for.
    pub(crate) fn start(
        self: &Arc<Self>,
        request: RolloutRequest,
        by: &str,
    ) -> Result<Rollout, RolloutError> {
        let targets = self.checked(&request)?;
        let mut entries = self.entries();
        if let Some(entry) = entries.iter().find(|entry| entry.is_running()) {
            return Err(RolloutError::UnderWay(entry.rollout.id.clone()));
        }
        let rollout = Rollout {
            id: Ulid::new().to_string(),
            command: request.command,
            reason: request.reason,
            by: by.to_owned(),
            max_at_once: request.max_at_once,
            wait_replaced: request.wait_replaced,
            started_at: self.commander.now(),
            ended_at: None,
            state: RolloutState::Running,
            error: None,
            total: targets.len() as u64,
            done: 0,
            under_way: 0,
            results: Vec::new(),
        };
        let stop = CancellationToken::new();
        let running = Arc::clone(self).run(rollout.clone(), targets, stop.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(running));
        entries.push_front(Entry {
            rollout: rollout.clone(),
            stop,
            task: Some(task),
        });
        entries.truncate(ROLLOUTS_LIMIT);
        Ok(rollout)
    }

    fn checked(&self, request: &RolloutRequest) -> Result<Vec<Target>, RolloutError> {
        let wrong = |text: String| Err(RolloutError::Request(text));
        let count = request.workers.len();
        if !(1..=WORKERS_LIMIT).contains(&count) {
            return wrong(format!(
                "workers: from 1 to {WORKERS_LIMIT} ids, not {count}"
            ));
        }
        if !(1..=AT_ONCE_LIMIT).contains(&request.max_at_once) {
            let rule = format!("from 1 to {AT_ONCE_LIMIT}, not {}", request.max_at_once);
            return wrong(format!("max_at_once: {rule}"));
        }
        let bytes = request.reason.as_ref().map_or(0, String::len);
        if bytes > REASON_LIMIT {
            return wrong(format!("reason: at most {REASON_LIMIT} bytes, not {bytes}"));
        }
        let mut targets = Vec::with_capacity(count);
        for id in &request.workers {
            match self.commander.worker(id) {
                // It may have ended since the list was looked at.
                Some(worker)
                    if !matches!(worker.state, WorkerState::Stopped | WorkerState::Lost) =>
                {
                    targets.push(Target {
                        id: worker.id,
                        name: worker.name,
                    });
                }
                Some(_) => {}
                None => {
                    let id: String = id.chars().take(200).collect();
                    return wrong(format!("workers: {id:?} is not known"));
                }
            }
        }
        if targets.is_empty() {
            return wrong("workers: all of them have ended".to_owned());
        }
        Ok(targets)
    }

    async fn run(self: Arc<Self>, rollout: Rollout, targets: Vec<Target>, stop: CancellationToken) {
        let command = match rollout.command {
            RolloutCommand::Drain => Command::Drain {
                reason: rollout.reason.clone(),
            },
            RolloutCommand::Pause => Command::Pause {
                reason: rollout.reason.clone(),
            },
            RolloutCommand::Resume => Command::Resume,
        };
        let options = RolloutOptions {
            wait: rollout.command == RolloutCommand::Drain,
            wait_replaced: rollout.wait_replaced && rollout.command == RolloutCommand::Drain,
            timeout: WORKER_LIMIT,
            max_at_once: rollout.max_at_once.into(),
            // The list may be a moment old.
            all: true,
        };
        let observe = |result: Option<&WorkerResult>, under_way: usize| {
            self.change(&rollout.id, |rollout| rollout.progress(result, under_way));
        };
        roll_out(&self.commander, &targets, &command, options, &stop, observe).await;
        let now = self.commander.now();
        self.change(&rollout.id, |rollout| rollout.end(stop.is_cancelled(), now));
        let ended = self.list().rollouts.into_iter();
        if let Some(ended) = ended.into_iter().find(|ended| ended.id == rollout.id) {
            info!(
                rollout = ended.id,
                command = ended.command.as_str(),
                done = ended.done,
                total = ended.total,
                error = ended.error,
                "rollout ended"
            );
        }
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Rollout)) {
        let mut entries = self.entries();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.rollout.id == id) {
            change(&mut entry.rollout);
        }
    }

    /// The last rollouts, newest first.
    pub(crate) fn list(&self) -> Rollouts {
        let entries = self.entries();
        Rollouts {
            rollouts: entries.iter().map(|entry| entry.rollout.clone()).collect(),
        }
    }

    /// Begins no other worker of a rollout; nothing if there is no such rollout.
    pub(crate) fn stop(&self, id: &str) -> Option<Rollout> {
        let entries = self.entries();
        let entry = entries.iter().find(|entry| entry.rollout.id == id)?;
        entry.stop.cancel();
        Some(entry.rollout.clone())
    }

    /// Ends every rollout, for a program that ends.
    pub(crate) fn end(&self) {
        for entry in self.entries().iter_mut() {
            entry.task = None;
        }
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn is_running(&self) -> bool {
        let ended = self
            .task
            .as_ref()
            .is_none_or(AbortOnDropHandle::is_finished);
        self.rollout.state == RolloutState::Running && !ended
    }
}

impl Rollout {
    fn progress(&mut self, result: Option<&WorkerResult>, under_way: usize) {
        self.under_way = under_way as u64;
        let Some(result) = result else { return };
        let text = result.to_string();
        if result.outcome.is_success() {
            self.done += 1;
        } else {
            self.error.get_or_insert_with(|| text.clone());
        }
        let result = RolloutResult {
            worker: Arc::clone(&result.worker),
            name: result.name.clone(),
            outcome: result.outcome,
            text,
        };
        self.results.insert(0, result);
        self.results.truncate(RESULTS_LIMIT);
    }

    fn end(&mut self, stopped: bool, now: Moment) {
        self.under_way = 0;
        self.ended_at = Some(now);
        self.state = match (&self.error, stopped && self.done < self.total) {
            (Some(_), _) => RolloutState::Failed,
            (None, true) => RolloutState::Stopped,
            (None, false) => RolloutState::Done,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::WorkerOutcome;
    use super::*;

    fn rollout(total: u64) -> Rollout {
        Rollout {
            id: "1".into(),
            command: RolloutCommand::Drain,
            reason: None,
            by: "127.0.0.1".into(),
            max_at_once: 1,
            wait_replaced: true,
            started_at: Moment::from_ms(0),
            ended_at: None,
            state: RolloutState::Running,
            error: None,
            total,
            done: 0,
            under_way: 0,
            results: Vec::new(),
        }
    }

    fn result(outcome: WorkerOutcome) -> WorkerResult {
        let target = Target {
            id: "web-1-01A".into(),
            name: "web-1".into(),
        };
        WorkerResult::of(&target, outcome)
    }

    #[test]
    fn a_rollout_says_how_far_it_is_and_what_ended_it() {
        let mut rollout = rollout(3);
        rollout.progress(None, 1);
        rollout.progress(Some(&result(WorkerOutcome::Stopped)), 0);
        assert_eq!((rollout.done, rollout.under_way), (1, 0));
        rollout.progress(Some(&result(WorkerOutcome::NotReplaced)), 0);
        rollout.end(false, Moment::from_ms(9));
        assert_eq!(rollout.state, RolloutState::Failed);
        let error = rollout.error.as_deref();
        assert_eq!(error, Some("web-1-01A: has drained, but is not replaced"));
        assert_eq!(rollout.results[0].outcome, WorkerOutcome::NotReplaced);
    }

    #[test]
    fn a_rollout_that_is_stopped_is_not_done_unless_all_were() {
        let mut stopped = rollout(2);
        stopped.progress(Some(&result(WorkerOutcome::Stopped)), 0);
        let mut done = stopped.clone();
        stopped.end(true, Moment::from_ms(9));
        assert_eq!(stopped.state, RolloutState::Stopped);
        done.progress(Some(&result(WorkerOutcome::Absent)), 0);
        done.end(true, Moment::from_ms(9));
        assert_eq!(done.state, RolloutState::Done);
    }

    #[test]
    fn the_results_that_are_kept_are_bounded() {
        let mut rollout = rollout(1_000);
        for _ in 0..1_000 {
            rollout.progress(Some(&result(WorkerOutcome::Stopped)), 1);
        }
        assert_eq!(
            (rollout.done, rollout.results.len()),
            (1_000, RESULTS_LIMIT)
        );
    }
}

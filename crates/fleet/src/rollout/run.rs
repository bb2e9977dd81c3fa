//! Commands workers, a number of them at a time, and waits for drains.

use std::fmt::Write as _;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::replacement::{Known, Replacement};
use super::{Commander, Target, WorkerOutcome, WorkerResult};
use crate::api::WorkerState;
use crate::speaker::CommandError;
use tidegate::internal::status::control::Command;

/// The interval of checks for a worker that has stopped.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// The interval of checks for a worker's replacement.
const REPLACED_INTERVAL: Duration = Duration::from_millis(250);
/// The interval of pings to a worker that drains.
const PING_INTERVAL: Duration = Duration::from_secs(1);
/// The time limit for a drain report after the control queue is gone.
const REPORT_LIMIT: Duration = Duration::from_secs(2);

/// Options for a command to a number of workers.
#[derive(Debug, Clone, Copy)]
pub struct RolloutOptions {
    /// Whether to wait until a draining worker has stopped.
    pub wait: bool,
    /// Whether to wait, after a worker has stopped, until another of its name runs.
    pub wait_replaced: bool,
    /// The time limit for each worker, with its replacement.
    pub timeout: Duration,
    /// The number of workers at a time. After a worker that does not obey, no other is begun.
    pub max_at_once: usize,
    /// Whether the command is for all live workers: then a worker that turns out to have ended is no failure.
    pub all: bool,
}

/// Sends `command` to each of `targets`, and returns the results in the same order.
///
/// `observe` is called with each result, and with the number of workers under way. Once `stop` is cancelled, no other
/// worker is begun and none is waited for.
pub async fn roll_out(
    fleet: &Commander,
    targets: &[Target],
    command: &Command,
    options: RolloutOptions,
    stop: &CancellationToken,
    mut observe: impl FnMut(Option<&WorkerResult>, usize),
) -> Vec<WorkerResult> {
    let known = Known::of(fleet.workers().iter());
    let mut results: Vec<Option<WorkerResult>> = targets.iter().map(|_| None).collect();
    let mut under_way = FuturesUnordered::new();
    let mut waiting = targets.iter().enumerate();
    let mut going = true;
    loop {
        while going && under_way.len() < options.max_at_once.max(1) && !stop.is_cancelled() {
            let Some((index, target)) = waiting.next() else {
                break;
            };
            let known = &known;
            under_way.push(async move {
                let result = command_one(fleet, known, target, command, options, stop).await;
                (index, result)
            });
        }
        observe(None, under_way.len());
        let Some((index, result)) = under_way.next().await else {
            break;
        };
        going &= result.outcome.is_success();
        observe(Some(&result), under_way.len());
        results[index] = Some(result);
    }
    let pairs = results.into_iter().zip(targets);
    pairs
        .map(|(result, target)| {
            result.unwrap_or_else(|| WorkerResult::of(target, WorkerOutcome::NotTried))
        })
        .collect()
}

async fn command_one(
    fleet: &Commander,
    known: &Known,
    target: &Target,
    command: &Command,
    options: RolloutOptions,
    stop: &CancellationToken,
) -> WorkerResult {
    let reply = match fleet.command(&target.id, command).await {
        Ok(reply) => reply,
        Err(error) => return not_commanded(target, &error, options.all),
    };
    if !reply.ok {
        return WorkerResult {
            phase: Some(reply.phase),
            error: reply.error,
            ..WorkerResult::of(target, WorkerOutcome::Refused)
        };
    }
    let obeyed = WorkerResult {
        phase: Some(reply.phase),
        ..WorkerResult::of(target, WorkerOutcome::Obeyed)
    };
    if !options.wait {
        return obeyed;
    }
    tokio::select! {
        stopped = timeout(options.timeout, ended(fleet, known, target, options)) => match stopped {
            Ok(result) => result,
            Err(_elapsed) => timed_out(fleet, target, options),
        },
        () = stop.cancelled() => WorkerResult {
            error: Some("not waited for: stopped by a signal".to_owned()),
            ..obeyed
        },
    }
}

/// The result for a worker that has not stopped in time, or has not been replaced.
fn timed_out(fleet: &Commander, target: &Target, options: RolloutOptions) -> WorkerResult {
    let drain = fleet.worker(&target.id).and_then(|worker| worker.drain);
    let mut limit = format!("{:?}", options.timeout);
    // In an alarm nobody hears that the worker has stopped.
    if let Some(obstacle) = fleet.obstacle() {
        write!(limit, " ({obstacle})").expect("a string takes it");
    }
    let (outcome, error) = if drain.is_some() {
        let error = format!(
            "waited {limit} for another worker called {:?} to run",
            target.name
        );
        (WorkerOutcome::NotReplaced, error)
    } else {
        (WorkerOutcome::TimedOut, format!("waited {limit}"))
    };
    WorkerResult {
        error: Some(error),
        drain: drain.as_ref().map(Into::into),
        ..WorkerResult::of(target, outcome)
    }
}

/// The result for a worker that did not answer the command.
fn not_commanded(target: &Target, error: &CommandError, all: bool) -> WorkerResult {
    let outcome = match error {
        CommandError::Gone if all => WorkerOutcome::Absent,
        CommandError::Gone => WorkerOutcome::Gone,
        CommandError::NoAnswer => WorkerOutcome::NoAnswer,
        CommandError::CannotSend(_) | CommandError::Busy | CommandError::Broker(_) => {
            WorkerOutcome::Failed
        }
    };
    WorkerResult {
        error: Some(error.to_string()),
        ..WorkerResult::of(target, outcome)
    }
}

/// Waits until the worker has stopped, and has been replaced if that is asked for.
async fn ended(
    fleet: &Commander,
    known: &Known,
    target: &Target,
    options: RolloutOptions,
) -> WorkerResult {
    let result = stopped(fleet, target).await;
    if !options.wait_replaced || !result.outcome.is_success() {
        return result;
    }
    loop {
        match known.replacement(target, &fleet.workers()) {
            Replacement::Runs(id) => {
                return WorkerResult {
                    replaced_by: Some(id),
                    ..result
                };
            }
            Replacement::Lost(id) => {
                return WorkerResult {
                    outcome: WorkerOutcome::NotReplaced,
                    error: Some(format!("{id}, which came in its place, was lost")),
                    ..result
                };
            }
            Replacement::Missing => sleep(REPLACED_INTERVAL).await,
        }
    }
}

/// Waits until the worker has reported its drain, or is gone without a report.
async fn stopped(fleet: &Commander, target: &Target) -> WorkerResult {
    let mut asked = Instant::now();
    let mut gone: Option<Instant> = None;
    loop {
        let worker = { fleet.worker(&target.id) };
        if let Some(drain) = worker.as_ref().and_then(|worker| worker.drain.as_ref()) {
            return WorkerResult {
                drain: Some(drain.into()),
                ..WorkerResult::of(target, drain.outcome.into())
            };
        }
        let lost = worker.is_some_and(|worker| worker.state == WorkerState::Lost);
        if lost || gone.is_some_and(|since| since.elapsed() >= REPORT_LIMIT) {
            return WorkerResult {
                error: Some(
                    "its control queue is gone, and it has not reported its drain".to_owned(),
                ),
                ..WorkerResult::of(target, WorkerOutcome::Gone)
            };
        }
        if gone.is_none() && asked.elapsed() >= PING_INTERVAL {
            asked = Instant::now();
            if matches!(
                fleet.command(&target.id, &Command::Ping).await,
                Err(CommandError::Gone)
            ) {
                gone = Some(Instant::now());
            }
        }
        sleep(CHECK_INTERVAL).await;
    }
}

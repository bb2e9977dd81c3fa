//! Commands workers, so many at a time, and waits for drains.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Outcome, Result, Target};
use tidegate::internal::status::control::Command;
use tidegate::internal::status::wire::DrainOutcome;
use tidegate_fleet::api::WorkerState;
use tidegate_fleet::{CommandError, Guest};

/// How often it is looked whether a worker has stopped.
const LOOK: Duration = Duration::from_millis(50);
/// How often a worker that drains is asked whether it is there.
const ASK: Duration = Duration::from_secs(1);
/// How long a drain report may take once the control queue is gone.
const REPORT_LIMIT: Duration = Duration::from_secs(2);

/// How to command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    /// Whether to wait until a worker that drains has stopped.
    pub wait: bool,
    /// How long for each.
    pub timeout: Duration,
    /// How many at a time; after one that does not do as it should no other is begun.
    pub at_once: usize,
}

/// Says `command` to each of `targets`, and what came of it, in their order. `observe` is told of each as it ends, and
/// of how many are under way. Once `stop` is cancelled no other is begun, and none is waited for.
pub(crate) async fn run(
    guest: &Guest,
    targets: &[Target],
    command: &Command,
    how: How,
    stop: &CancellationToken,
    mut observe: impl FnMut(Option<&Result>, usize),
) -> Vec<Result> {
    let mut results: Vec<Option<Result>> = targets.iter().map(|_| None).collect();
    let mut under_way = FuturesUnordered::new();
    let mut waiting = targets.iter().enumerate();
    let mut going = true;
    loop {
        while going && under_way.len() < how.at_once.max(1) && !stop.is_cancelled() {
            let Some((index, target)) = waiting.next() else {
                break;
            };
            under_way.push(async move { (index, one(guest, target, command, how, stop).await) });
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
        .map(|(result, target)| result.unwrap_or_else(|| Result::of(target, Outcome::NotTried)))
        .collect()
}

async fn one(
    guest: &Guest,
    target: &Target,
    command: &Command,
    how: How,
    stop: &CancellationToken,
) -> Result {
    let reply = match guest.command(&target.id, command).await {
        Ok(reply) => reply,
        Err(error) => {
            let outcome = match error {
                CommandError::Gone => Outcome::Gone,
                CommandError::NoAnswer => Outcome::NoAnswer,
                CommandError::NotConnected | CommandError::Busy | CommandError::Broker(_) => {
                    Outcome::Failed
                }
            };
            return Result {
                error: Some(error.to_string()),
                ..Result::of(target, outcome)
            };
        }
    };
    if !reply.ok {
        return Result {
            phase: Some(reply.phase),
            error: reply.error,
            ..Result::of(target, Outcome::Refused)
        };
    }
    let obeyed = Result {
        phase: Some(reply.phase),
        ..Result::of(target, Outcome::Obeyed)
    };
    if !how.wait {
        return obeyed;
    }
    tokio::select! {
        stopped = timeout(how.timeout, stopped(guest, target)) => match stopped {
            Ok(result) => result,
            Err(_elapsed) => Result {
                error: Some(format!("waited {:?}", how.timeout)),
                ..Result::of(target, Outcome::TimedOut)
            },
        },
        () = stop.cancelled() => Result {
            error: Some("not waited for: stopped by a signal".to_owned()),
            ..obeyed
        },
    }
}

/// Waits until the worker has reported its drain, or is gone without.
async fn stopped(guest: &Guest, target: &Target) -> Result {
    let mut asked = Instant::now();
    let mut gone: Option<Instant> = None;
    loop {
        let worker = {
            let now = guest.now();
            guest.fleet().worker(&target.id, now)
        };
        if let Some(drain) = worker.as_ref().and_then(|worker| worker.drain.as_ref()) {
            let outcome = match drain.outcome {
                DrainOutcome::Clean | DrainOutcome::Unconfirmed => Outcome::Stopped,
                DrainOutcome::Interrupted => Outcome::Interrupted,
                DrainOutcome::Aborted | DrainOutcome::Failed => Outcome::Aborted,
            };
            return Result {
                drain: Some(drain.into()),
                ..Result::of(target, outcome)
            };
        }
        let lost = worker.is_some_and(|worker| worker.state == WorkerState::Lost);
        if lost || gone.is_some_and(|since| since.elapsed() >= REPORT_LIMIT) {
            return Result {
                error: Some(
                    "its control queue is gone, and it has not reported its drain".to_owned(),
                ),
                ..Result::of(target, Outcome::Gone)
            };
        }
        if gone.is_none() && asked.elapsed() >= ASK {
            asked = Instant::now();
            if matches!(
                guest.command(&target.id, &Command::Ping).await,
                Err(CommandError::Gone)
            ) {
                gone = Some(Instant::now());
            }
        }
        sleep(LOOK).await;
    }
}

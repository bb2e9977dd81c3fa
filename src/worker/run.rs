//! A worker's life from its start to its end, as signals decide it.

use std::future::ready;

use futures_util::FutureExt as _;
use futures_util::future::OptionFuture;
use tokio::sync::Notify;

use super::signals::{SignalAction, Signals};
use super::{DrainReport, Node, RunningWorker, WorkerBuilder, WorkerError, WorkerHandle};
use crate::status::wire::DrainOutcome;

/// As [`WorkerBuilder::run`](super::WorkerBuilder::run), with signals that have been listened for since earlier. `reload` gives the nodes to host
/// from now on when SIGHUP asks for that; nothing if what was read cannot be used. It may take as long as it likes, but
/// must not block: signals go on working meanwhile. It is dropped when a signal has the worker drain.
///
/// # Errors
/// As [`WorkerBuilder::run`](super::WorkerBuilder::run).
pub async fn run<F>(
    builder: WorkerBuilder,
    mut signals: Signals,
    reload: impl FnMut() -> F,
) -> Result<DrainReport, WorkerError>
where
    F: Future<Output = Option<Vec<Node>>>,
{
    let worker = builder.start().await?;
    follow_signals(worker, &mut signals, reload).await
}

/// Lets `worker` live until it has drained; `signals` drain and abort it.
///
/// # Errors
/// As [`RunningWorker::finished`].
pub async fn run_started(
    worker: RunningWorker,
    signals: &mut Signals,
) -> Result<DrainReport, WorkerError> {
    follow_signals(worker, signals, || ready(None)).await
}

async fn follow_signals<F>(
    mut worker: RunningWorker,
    signals: &mut Signals,
    reload: impl FnMut() -> F,
) -> Result<DrainReport, WorkerError>
where
    F: Future<Output = Option<Vec<Node>>>,
{
    let handle = worker.handle();
    let hangup = Notify::new();
    let mut reloading = Some(Box::pin(reload_at(&hangup, &handle, reload)));
    loop {
        tokio::select! {
            biased;
            finished = worker.finished() => return finished,
            action = signals.next() => match action {
                SignalAction::Drain(name) => {
                    // What is still being read is for nobody any more.
                    reloading = None;
                    handle.drain(name).await;
                }
                SignalAction::Reload => hangup.notify_one(),
                SignalAction::Abort => handle.abort().await,
                SignalAction::Ignore => {}
            },
            () = OptionFuture::from(reloading.as_mut()).map(drop), if reloading.is_some() => {}
        }
    }
}

/// Has the configuration read again at each `hangup`, one reading after the other. Those that come during a reading ask
/// for one more, after it. Never resolves.
async fn reload_at<F>(hangup: &Notify, handle: &WorkerHandle, mut reload: impl FnMut() -> F)
where
    F: Future<Output = Option<Vec<Node>>>,
{
    loop {
        hangup.notified().await;
        if let Some(nodes) = reload().await {
            handle.host(nodes).await;
        }
    }
}

/// The exit code of a worker whose drain ended so.
pub(super) fn exit_code(outcome: DrainOutcome) -> u8 {
    match outcome {
        DrainOutcome::Clean | DrainOutcome::Unconfirmed => 0,
        DrainOutcome::Failed => 1,
        DrainOutcome::Interrupted => 3,
        DrainOutcome::Aborted => 4,
    }
}

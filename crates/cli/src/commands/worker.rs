//! `tidegate worker`: runs a worker until a signal ends it.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArgs, Exit};
use tidegate::internal::status::wire::DrainOutcome;
use tidegate::worker::{DrainReport, Worker};

/// Runs the worker. The first SIGTERM or SIGINT drains it, a second one aborts the drain.
pub(super) async fn run(args: ConfigArgs) -> anyhow::Result<Exit> {
    // Before anything else, so that a signal during the start is not lost.
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let settings = super::load(&args)?;
    let mut worker = Worker::new(settings).start().await?;
    let remote = worker.remote();
    let mut signals = 0_u32;
    loop {
        let name = tokio::select! {
            biased;
            finished = worker.finished() => return Ok(exit(&finished?)),
            Some(()) = terminate.recv() => "SIGTERM",
            Some(()) = interrupt.recv() => "SIGINT",
        };
        signals += 1;
        if signals == 1 {
            remote.drain(name).await;
        } else {
            remote.abort().await;
        }
    }
}

fn exit(report: &DrainReport) -> Exit {
    match report.outcome {
        DrainOutcome::Clean | DrainOutcome::Unconfirmed => Exit::Clean,
        DrainOutcome::Interrupted => Exit::Interrupted,
        DrainOutcome::Aborted => Exit::Aborted,
        DrainOutcome::Failed => Exit::Failure,
    }
}

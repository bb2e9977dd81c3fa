//! `tidegate worker`: runs a worker until a signal ends it.

use anyhow::Context as _;

use super::{ConfigArgs, Exit};
use tidegate::Worker;
use tidegate::internal::worker::{Signals, run};
use tidegate::worker::DrainOutcome;

/// Runs the worker. The first signal drains it, a second one aborts the drain.
pub(super) async fn run_worker(args: ConfigArgs) -> anyhow::Result<Exit> {
    // Before anything else, so that a signal during the start is not lost.
    let signals = Signals::listen().context("cannot listen for signals")?;
    let settings = super::load(&args)?;
    let report = run(Worker::from_settings(settings), signals).await?;
    Ok(match report.outcome {
        DrainOutcome::Clean | DrainOutcome::Unconfirmed => Exit::Clean,
        DrainOutcome::Interrupted => Exit::Interrupted,
        DrainOutcome::Aborted => Exit::Aborted,
        DrainOutcome::Failed => Exit::Failure,
    })
}

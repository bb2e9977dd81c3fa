//! `tidegate fleet`: shows every worker's state until a signal ends it.

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tracing::info;

use super::{ConfigArgs, Exit};
use crate::telemetry::LevelControl;
use tidegate::config::HandlersFrom;
use tidegate::internal::process::let_signals_through;

/// Runs the fleet program until SIGTERM or SIGINT. It keeps nothing, so that there is nothing to finish.
pub(super) async fn run(args: ConfigArgs, level: &LevelControl) -> anyhow::Result<Exit> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let_signals_through().context("cannot listen for signals")?;
    // On a thread of its own: the file may be on a mount that hangs.
    let reading = spawn_blocking(move || super::load_for(&args, HandlersFrom::Nobody));
    let settings = tokio::select! {
        settings = reading => settings.context("reading the configuration")??,
        _ = terminate.recv() => return Ok(Exit::Clean),
        _ = interrupt.recv() => return Ok(Exit::Clean),
    };
    level.set(settings.log.level);
    let mut fleet = tidegate_fleet::start(settings).await?;
    let name = tokio::select! {
        error = fleet.failed() => return Err(error.into()),
        Some(()) = terminate.recv() => "SIGTERM",
        Some(()) = interrupt.recv() => "SIGINT",
    };
    info!(signal = name, "fleet program stopping");
    fleet.stop().await;
    Ok(Exit::Clean)
}

//! `tidegate worker`: runs a worker until a signal ends it.

mod reload;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tracing::{debug, info, warn};

use super::opencti::OpenCtiSettings;
use super::{ConfigArgs, Exit};
use crate::telemetry::LevelControl;
use tidegate::config::Settings;
use tidegate::internal::process::{raise_descriptor_limit, reap_orphans};
use tidegate::internal::worker::{Signals, run};
use tidegate::worker::{DrainOutcome, DrainReport};
use tidegate::{Node, Worker};

/// The configuration of a worker.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// The configuration file: TOML, YAML or JSON by its extension. Without a file the worker serves
    /// OpenCTI, and the environment configures it (`OPENCTI_URL`, `OPENCTI_TOKEN`)
    #[arg(short, long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Runs OpenCTI's worker if there are settings for it, else a worker of the file's nodes. The first signal drains it, a second one aborts the drain; SIGHUP makes it read its file again.
pub(super) async fn run_worker(
    args: WorkerArgs,
    opencti: Option<OpenCtiSettings>,
    level: LevelControl,
) -> anyhow::Result<Exit> {
    // Before anything else, so that a signal during the start is not lost.
    let signals = Signals::listen().context("cannot listen for signals")?;
    match raise_descriptor_limit() {
        Ok(limit) => debug!(?limit, "the limit of open descriptors is raised"),
        Err(error) => warn!(%error, "the limit of open descriptors cannot be raised"),
    }
    tokio::select! {
        exit = run_either(args, opencti, signals, &level) => exit,
        // As process 1 of a container it never ends, and elsewhere it does nothing.
        () = reap_orphans() => anyhow::bail!("the reaper of orphans has ended"),
    }
}

async fn run_either(
    args: WorkerArgs,
    opencti: Option<OpenCtiSettings>,
    mut signals: Signals,
    level: &LevelControl,
) -> anyhow::Result<Exit> {
    if let Some((own, opencti)) = opencti {
        level.set(opencti.log_level().unwrap_or(own.log.level));
        let report = tidegate_opencti::run(signals, own, opencti).await?;
        return Ok(report.map_or(Exit::Clean, |report| exit(&report)));
    }
    let config = args
        .config
        .context("name a configuration file with -c, or set OPENCTI_URL and OPENCTI_TOKEN")?;
    let args = ConfigArgs { config };
    let mut settings = super::load(&args)?;
    level.set(settings.log.level);
    signals.reload_at_hangup();
    let builder = Worker::from_settings(settings.clone());
    let report = run(builder, signals, || reload(&args, &mut settings, level)).await?;
    Ok(exit(&report))
}

/// Reads the configuration again, and gives the nodes to host from now on; nothing if it cannot be used.
fn reload(args: &ConfigArgs, settings: &mut Settings, level: &LevelControl) -> Option<Vec<Node>> {
    let read = super::load(args).map_err(anyhow::Error::from);
    let read = read.and_then(|new| {
        let nodes = reload::nodes(settings, &new)?;
        *settings = new;
        Ok(nodes)
    });
    match read {
        Ok(nodes) => {
            info!("the configuration was read again");
            level.set(settings.log.level);
            Some(nodes)
        }
        Err(error) => {
            warn!(%error, "the configuration stays as it is");
            None
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

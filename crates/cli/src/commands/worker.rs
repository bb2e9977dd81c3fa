//! `tidegate worker`: runs a worker until a signal ends it.

mod reload;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use clap::Args;
use tokio::task::spawn_blocking;
use tracing::{debug, info, warn};

use super::connection::warn_of_misspelt_variables;
use super::opencti::{OpenCtiSettings, Subject, subject};
use super::{Exit, variables};
use crate::telemetry::LevelControl;
use tidegate::config::{HandlersFrom, Settings};
use tidegate::internal::process::{raise_descriptor_limit, reap_orphans};
use tidegate::internal::worker::{SignalAction, Signals, run as run_worker};
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

/// The work of a worker.
enum Work {
    /// The queues of OpenCTI.
    OpenCti(Box<OpenCtiSettings>),
    /// The nodes of its file.
    Nodes(Box<Settings>),
    /// There is no configuration.
    Nothing,
}

impl Work {
    /// Reads it from the configuration. Blocks while it reads the file and the files that it names.
    fn read(config: Option<&Path>) -> anyhow::Result<Self> {
        Ok(match subject(config)? {
            Subject::OpenCti(settings) => Self::OpenCti(settings),
            Subject::Nodes(file) => {
                Self::Nodes(file.load(variables(), HandlersFrom::Configuration)?.into())
            }
            Subject::Nothing => Self::Nothing,
        })
    }
}

/// A worker whose configuration has been read.
pub(super) struct WorkerStart {
    signals: Signals,
    /// The name of a signal if one came before the configuration was read.
    work: Result<Work, &'static str>,
    config: Option<PathBuf>,
}

impl WorkerStart {
    /// Reads the configuration, unless a signal that drains a worker comes first. The file may be on a mount that hangs, or
    /// a pipe that nobody writes to: it is read on a thread of its own.
    ///
    /// # Errors
    /// The configuration is wrong, or signals cannot be listened for.
    pub(super) async fn read(args: &WorkerArgs) -> anyhow::Result<Self> {
        // Before anything else, so that a signal during the start is not lost.
        let mut signals = Signals::listen().context("cannot listen for signals")?;
        let config = args.config.clone();
        signals.reload_at_hangup(config.is_some());
        loop {
            let path = config.clone();
            let mut reading = spawn_blocking(move || Work::read(path.as_deref()));
            let mut again = false;
            let read = loop {
                tokio::select! {
                    read = &mut reading => break Ok(read.context("reading the configuration")??),
                    action = signals.next() => match action {
                        SignalAction::Drain(name) => break Err(name),
                        SignalAction::Reload => again = true,
                        SignalAction::Abort | SignalAction::Ignore => {}
                    },
                }
            };
            let work = match read {
                Ok(Work::Nodes(_)) if again => continue,
                // Elsewhere SIGHUP drains.
                Ok(Work::OpenCti(_) | Work::Nothing) if again => Err("SIGHUP"),
                read => read,
            };
            signals.reload_at_hangup(matches!(work, Ok(Work::Nodes(_))));
            return Ok(Self {
                signals,
                work,
                config,
            });
        }
    }

    /// Whether the configuration wants the log in JSON.
    pub(super) fn logs_json(&self) -> bool {
        matches!(&self.work, Ok(Work::OpenCti(settings)) if settings.1.json_logging)
    }

    async fn run(self, level: LevelControl) -> anyhow::Result<Exit> {
        match (self.work, self.config) {
            (Ok(Work::OpenCti(settings)), _) => {
                let (own, opencti) = *settings;
                level.set(opencti.log_level().unwrap_or(own.log.level));
                let report = tidegate_opencti::run(self.signals, own, opencti).await?;
                Ok(report.map_or(Exit::Clean, |report| exit(&report)))
            }
            (Ok(Work::Nodes(settings)), Some(config)) => {
                run_nodes(*settings, config, self.signals, level).await
            }
            (Ok(_), _) => anyhow::bail!(
                "name a configuration file with -c, or set OPENCTI_URL and OPENCTI_TOKEN"
            ),
            (Err(signal), _) => {
                info!(signal, "ended before the configuration was read");
                Ok(Exit::Clean)
            }
        }
    }
}

/// Runs OpenCTI's worker if there are settings for it, else a worker of the file's nodes. The first signal drains it, a
/// second one aborts the drain; SIGHUP makes it read its file again.
pub(super) async fn run(
    start: anyhow::Result<WorkerStart>,
    level: LevelControl,
) -> anyhow::Result<Exit> {
    warn_of_misspelt_variables();
    let start = start?;
    match raise_descriptor_limit() {
        Ok(limit) => debug!(?limit, "the limit of open descriptors is raised"),
        Err(error) => warn!(%error, "the limit of open descriptors cannot be raised"),
    }
    tokio::select! {
        exit = Box::pin(start.run(level)) => exit,
        // As process 1 of a container it never ends, and elsewhere it does nothing.
        () = reap_orphans() => anyhow::bail!("the reaper of orphans has ended"),
    }
}

async fn run_nodes(
    settings: Settings,
    config: PathBuf,
    signals: Signals,
    level: LevelControl,
) -> anyhow::Result<Exit> {
    level.set(settings.log.level);
    let builder = Worker::from_settings(settings.clone());
    let current = Arc::new(Mutex::new(settings));
    let reload = || reload(config.clone(), Arc::clone(&current), level.clone());
    let report = run_worker(builder, signals, reload).await?;
    Ok(exit(&report))
}

/// Reads the configuration again, on a thread of its own, and gives the nodes to host from now on; nothing if it cannot be
/// used. If this is dropped, what is read changes nothing.
async fn reload(
    config: PathBuf,
    current: Arc<Mutex<Settings>>,
    level: LevelControl,
) -> Option<Vec<Node>> {
    let locked = || current.lock().unwrap_or_else(PoisonError::into_inner);
    let old = locked().clone();
    let reading = spawn_blocking(move || {
        let new = tidegate::config::load(&config, variables(), HandlersFrom::Configuration)?;
        let nodes = reload::nodes(&old, &new)?;
        anyhow::Ok((new, nodes))
    });
    let read = reading.await.unwrap_or_else(|panic| Err(panic.into()));
    match read {
        Ok((new, nodes)) => {
            info!("the configuration was read again");
            level.set(new.log.level);
            *locked() = new;
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

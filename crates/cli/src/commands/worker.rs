//! `tidegate worker`: runs a worker until a signal ends it.

mod reload;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;
use tracing::{debug, info, warn};

use super::{ConfigArgs, Exit, variables};
use crate::telemetry::LevelControl;
use tidegate::config::{Settings, load_apart, read_sections};
use tidegate::internal::process::{raise_descriptor_limit, reap_orphans};
use tidegate::internal::worker::{Signals, run};
use tidegate::worker::{DrainOutcome, DrainReport};
use tidegate::{Node, Worker};
use tidegate_opencti::settings::{Settings as OpenCti, Sources};

/// The configuration of a worker.
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// The configuration file: TOML, YAML or JSON by its extension. Without a file the worker serves
    /// OpenCTI, and the environment configures it (`OPENCTI_URL`, `OPENCTI_TOKEN`)
    #[arg(short, long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Runs the worker. The first signal drains it, a second one aborts the drain; SIGHUP makes it read its file again.
pub(super) async fn run_worker(args: WorkerArgs, level: LevelControl) -> anyhow::Result<Exit> {
    // Before anything else, so that a signal during the start is not lost.
    let signals = Signals::listen().context("cannot listen for signals")?;
    match raise_descriptor_limit() {
        Ok(limit) => debug!(?limit, "the limit of open descriptors is raised"),
        Err(error) => warn!(%error, "the limit of open descriptors cannot be raised"),
    }
    tokio::select! {
        exit = run_either(args, signals, &level) => exit,
        // As process 1 of a container it never ends, and elsewhere it does nothing.
        () = reap_orphans() => anyhow::bail!("the reaper of orphans has ended"),
    }
}

/// Runs OpenCTI's worker if the file or the environment is about one, else a worker of the file's nodes.
async fn run_either(
    args: WorkerArgs,
    mut signals: Signals,
    level: &LevelControl,
) -> anyhow::Result<Exit> {
    if let Some((own, opencti)) = opencti(args.config.as_deref())? {
        level.set(own.log.level);
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

/// The settings of OpenCTI's worker, if the file or the environment is about one.
fn opencti(config: Option<&Path>) -> anyhow::Result<Option<(Settings, OpenCti)>> {
    let sections = config.map(read_sections).transpose()?;
    let (own, platform, section) = match (config, sections) {
        (None, _) => {
            if std::env::var_os("OPENCTI_URL").is_none() {
                return Ok(None);
            }
            let (own, section) = load_apart(None, "opencti", variables())?;
            (own, None, section)
        }
        (Some(_), Some(sections)) if is_platforms(&sections) => {
            let (own, section) = load_apart(None, "opencti", variables())?;
            (own, Some(sections), section)
        }
        (Some(path), Some(sections)) if sections.get("opencti").is_some() => {
            let (own, section) = load_apart(Some(path), "opencti", variables())?;
            (own, None, section)
        }
        _ => return Ok(None),
    };
    let opencti = OpenCti::read(&Sources {
        environment: &|name| std::env::var(name).ok(),
        platform: platform.as_ref(),
        section: section.as_ref(),
    })?;
    Ok(Some((own, opencti)))
}

/// Whether these are the sections of the platform's own `config.yml`: `opencti`, `worker` with its keys, `mq`.
fn is_platforms(sections: &Value) -> bool {
    let Some(table) = sections.as_object() else {
        return false;
    };
    let only_its = table
        .keys()
        .all(|key| ["opencti", "worker", "mq"].contains(&key.as_str()));
    let own_worker = table
        .get("worker")
        .is_some_and(|worker| worker.get("name").is_some() || worker.get("http").is_some());
    let says_more = table.contains_key("mq") || table.contains_key("worker");
    table.contains_key("opencti") && only_its && says_more && !own_worker
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_platforms_file_is_told_from_ours() {
        for (sections, expected) in [
            (
                json!({"opencti": {}, "worker": {"log_level": "info"}}),
                true,
            ),
            (json!({"opencti": {}, "mq": {}}), true),
            (json!({"opencti": {}}), false),
            (json!({"opencti": {}, "worker": {"name": "w"}}), false),
            (json!({"opencti": {}, "drain": {}}), false),
            (json!({"broker": {}, "node": []}), false),
        ] {
            assert_eq!(is_platforms(&sections), expected, "{sections}");
        }
    }
}

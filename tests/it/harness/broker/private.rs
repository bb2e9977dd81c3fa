//! A RabbitMQ of one's own, started by `scripts/private-broker`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use url::Url;

use super::{Control, START_LIMIT, Server};
use crate::harness::wait::stretched;

/// Stops the broker in the directory `$1` by the program `$2`.
pub(super) const CLEANUP: &str = "\"$2\" stop \"$1\"; rm -rf \"$1\"";

/// The program that starts and stops it.
pub(super) fn program() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("scripts/private-broker")
}

/// Starts the broker in `directory`, anew or again.
pub(super) async fn start(directory: &Path) -> Result<Server, String> {
    // The program has its own limit for the start; this one includes installing RabbitMQ.
    let limit = stretched(START_LIMIT * 2);
    let output = super::run(
        Command::new(program())
            .arg("start")
            .arg(directory)
            .arg("--management")
            .stdin(Stdio::null()),
        limit,
    )
    .await?;
    let values: HashMap<_, _> = output
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let value = |key| {
        let value = values.get(key);
        value.ok_or_else(|| format!("private-broker does not say {key}: {output}"))
    };
    let url = |key| Url::parse(value(key)?).map_err(|error| format!("{key}: {error}"));
    let pid = value("PID")?
        .parse()
        .map_err(|error| format!("PID: {error}"))?;
    Ok(Server {
        amqp: url("AMQP_URL")?,
        management: url("MANAGEMENT_URL")?,
        control: Control::Private {
            directory: directory.to_owned(),
            rabbitmqctl: PathBuf::from(value("RABBITMQCTL")?),
            pid,
        },
    })
}

/// Stops the broker in `directory`; its data stays.
pub(super) async fn stop(directory: &Path) -> Result<String, String> {
    let mut command = Command::new(program());
    command.arg("stop").arg(directory).stdin(Stdio::null());
    super::run(&mut command, stretched(Duration::from_secs(60))).await
}

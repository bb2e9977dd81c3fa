//! `tidegate check`: says what would go wrong, before a worker is started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::{ConfigArgs, Exit};
use crate::check::broker::broker_findings;
use crate::check::platform::{self, Allowed, Hook, Limit, Platform};
use crate::check::{Finding, Level, Section, budget, descriptors, nodes, render};
use crate::output::{conclude, print_aside};
use tidegate::config::{ConfigErrors, Settings};
use tidegate::internal::process::raise_descriptor_limit;

/// What to check, and against what.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Write JSON
    #[arg(long)]
    json: bool,
    /// Leave out the broker and the queues; open no connection
    #[arg(long)]
    offline: bool,
    /// How long the platform waits after its signal to stop before it kills, such as `30s`
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    platform_grace: Option<Duration>,
    /// A Kubernetes manifest, Compose file or systemd unit to read that time from; may be repeated
    #[arg(long, value_name = "FILE")]
    manifest: Vec<PathBuf>,
}

/// Checks, and writes what was found to standard output. Nothing is started, declared or consumed.
///
/// Ends with [`Exit::Config`] if the configuration is wrong, with [`Exit::Failure`] if anything else is, and with
/// [`Exit::Clean`] otherwise; warnings change nothing.
///
/// # Errors
/// If standard output cannot be written to.
pub(super) async fn run(args: CheckArgs) -> anyhow::Result<Exit> {
    let mut findings = Vec::new();
    let mut exit = Exit::Clean;
    match super::load(&args.config) {
        Ok(settings) => {
            findings.push(valid(&args.config.config, &settings));
            findings.extend(nodes::findings(&settings));
            // As the worker does when it starts. If the system refuses that, the limit is unknown.
            if let Ok(limit) = raise_descriptor_limit() {
                findings.extend(descriptors::findings(&settings, limit.now));
            }
            findings.extend(shutdown_budget(&args, settings.drain.grace));
            if !args.offline {
                findings.extend(broker_findings(&settings).await);
            }
            if findings.iter().any(|finding| finding.level == Level::Error) {
                exit = Exit::Failure;
            }
        }
        Err(errors) => {
            findings.extend(invalid(&args.config.config, &errors));
            exit = Exit::Config;
        }
    }
    let output = if args.json {
        render::json(&findings) + "\n"
    } else {
        render::text(&findings, console::colors_enabled())
    };
    Ok(conclude(print_aside(output).await, exit)?)
}

fn valid(file: &Path, settings: &Settings) -> Finding {
    let nodes = match settings.nodes.len() {
        1 => "1 node".to_owned(),
        count => format!("{count} nodes"),
    };
    let message = format!("valid: {nodes}");
    Finding::ok(Section::Configuration, file.display().to_string(), message)
}

/// One finding for each error, its key as the subject.
fn invalid(file: &Path, errors: &ConfigErrors) -> Vec<Finding> {
    errors
        .errors()
        .iter()
        .map(|error| {
            let key = error.key();
            let text = error.to_string();
            let (subject, message) = if key.is_empty() {
                (file.display().to_string(), text)
            } else {
                let message = text.strip_prefix(key).unwrap_or(&text);
                let message = message.trim_start_matches([':', ' ']).to_owned();
                (key.to_owned(), message)
            };
            Finding::error(Section::Configuration, subject, message)
        })
        .collect()
}

fn shutdown_budget(args: &CheckArgs, grace: Duration) -> Vec<Finding> {
    let mut limits: Vec<Limit> = args.platform_grace.map(given).into_iter().collect();
    let mut findings = Vec::new();
    for file in &args.manifest {
        match limits_of(file) {
            Ok(found) => limits.extend(found),
            Err(message) => {
                let subject = file.display().to_string();
                findings.push(Finding::error(Section::ShutdownBudget, subject, message));
            }
        }
    }
    // If a file could not be read, a finding says so already.
    if !limits.is_empty() || findings.is_empty() {
        findings.extend(budget::judge(grace, &limits, |name| {
            std::env::var(name).ok()
        }));
    }
    findings
}

fn given(time: Duration) -> Limit {
    Limit {
        platform: Platform::Flag,
        workload: "platform".to_owned(),
        allowed: Allowed::For(time),
        is_default: false,
        hook: Hook::NONE,
        is_worker: true,
    }
}

/// The file's limits, each workload named with its file.
fn limits_of(file: &Path) -> Result<Vec<Limit>, String> {
    let content = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let mut limits = platform::limits(&content).map_err(|error| error.to_string())?;
    let name = file.file_name().unwrap_or(file.as_os_str());
    for limit in &mut limits {
        limit.workload = format!("{}: {}", name.display(), limit.workload);
    }
    Ok(limits)
}

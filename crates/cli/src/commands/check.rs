//! `tidegate check`: says what would go wrong, before a worker is started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::connection::{Misspelt, misspelt_variables, variable_names};
use super::opencti::{Subject, subject};
use super::worker::WorkerArgs;
use super::{Exit, variables};
use crate::check::broker::broker_findings;
use crate::check::platform::{self, Allowed, Hook, Limit, Platform};
use crate::check::{Finding, Level, Section, budget, descriptors, nodes, opencti, render};
use crate::output::{conclude, print_aside, usage_error};
use tidegate::config::{ConfigErrors, ConfigFile, HandlersFrom, Settings};
use tidegate::internal::process::raise_descriptor_limit;
use tidegate_opencti::settings::{SettingErrors, Settings as OpenCti};

/// What to check, and against what.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: WorkerArgs,
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
    let config = args.config.config.clone();
    let origin = config.as_ref().map_or_else(
        || "the environment".to_owned(),
        |file| file.display().to_string(),
    );
    let (mut findings, exit) = match subject(config.as_deref()) {
        Ok(Subject::OpenCti(settings)) => {
            let (own, opencti) = *settings;
            of_opencti(&args, &own, &opencti, origin).await
        }
        Ok(Subject::Nodes(file)) => of_nodes(&args, file, origin).await,
        Ok(Subject::Nothing) => {
            return Ok(usage_error(
                "expected --config FILE, or OPENCTI_URL and OPENCTI_TOKEN in the environment",
            ));
        }
        Err(error) => (refused(&origin, error)?, Exit::Config),
    };
    let misspelt = misspelt_variables(variable_names()).into_iter();
    findings.extend(misspelt.filter(Misspelt::is_silent).map(|misspelt| {
        let message = format!("nothing reads it; did you mean {}?", misspelt.meant);
        Finding::warning(Section::Configuration, misspelt.name, message)
    }));
    let output = if args.json {
        render::json(&findings) + "\n"
    } else {
        render::text(&findings, console::colors_enabled())
    };
    Ok(conclude(print_aside(output).await, exit)?)
}

/// A worker whose nodes are configured.
async fn of_nodes(args: &CheckArgs, file: ConfigFile, origin: String) -> (Vec<Finding>, Exit) {
    let settings = match file.load(variables(), HandlersFrom::Configuration) {
        Ok(settings) => settings,
        Err(errors) => return (invalid(&origin, &errors), Exit::Config),
    };
    let mut findings = vec![valid(origin, &settings)];
    findings.extend(nodes::findings(&settings));
    // As the worker does when it starts. If the system refuses that, the limit is unknown.
    if let Ok(limit) = raise_descriptor_limit() {
        findings.extend(descriptors::findings(&settings, limit.now));
    }
    findings.extend(shutdown_budget(args, settings.drain.grace));
    if !args.offline {
        findings.extend(broker_findings(&settings).await);
    }
    let exit = exit(&findings);
    (findings, exit)
}

/// OpenCTI's worker, whose nodes are discovered.
async fn of_opencti(
    args: &CheckArgs,
    own: &Settings,
    opencti: &OpenCti,
    origin: String,
) -> (Vec<Finding>, Exit) {
    let message = "valid: OpenCTI's worker, whose queues the platform names";
    let mut findings = vec![Finding::ok(Section::Configuration, origin, message)];
    findings.extend(shutdown_budget(args, own.drain.grace));
    if !args.offline {
        findings.extend(opencti::opencti_findings(own, opencti).await);
    }
    let exit = exit(&findings);
    (findings, exit)
}

fn exit(findings: &[Finding]) -> Exit {
    if findings.iter().any(|finding| finding.level == Level::Error) {
        Exit::Failure
    } else {
        Exit::Clean
    }
}

/// Why a configuration is refused.
///
/// # Errors
/// Any error that is no fault of the configuration.
fn refused(origin: &str, error: anyhow::Error) -> anyhow::Result<Vec<Finding>> {
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        return Ok(invalid(origin, errors));
    }
    let errors = error.downcast::<SettingErrors>()?;
    let findings = errors.0.into_iter().map(|error| {
        let value = error.value.map(|value| format!("{value:?} "));
        let message = format!("{}{}", value.unwrap_or_default(), error.rule);
        Finding::error(Section::Configuration, error.key, message)
    });
    Ok(findings.collect())
}

fn valid(origin: String, settings: &Settings) -> Finding {
    let nodes = match settings.nodes.len() {
        1 => "1 node".to_owned(),
        count => format!("{count} nodes"),
    };
    let message = format!("valid: {nodes}");
    Finding::ok(Section::Configuration, origin, message)
}

/// One finding for each error, its key as the subject.
fn invalid(origin: &str, errors: &ConfigErrors) -> Vec<Finding> {
    errors
        .errors()
        .iter()
        .map(|error| {
            let key = error.key();
            let text = error.to_string();
            let (subject, message) = if key.is_empty() {
                (origin.to_owned(), text)
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

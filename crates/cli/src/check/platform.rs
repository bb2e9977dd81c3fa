//! How long a platform waits between telling a process to stop and killing it, read from its own files.

mod compose;
mod kubernetes;
mod systemd;
mod yaml;

use std::time::Duration;

use thiserror::Error;
use yaml_rust2::YamlLoader;

/// Who stops the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    /// Given on the command line.
    Flag,
    /// A pod: SIGTERM, then SIGKILL after `terminationGracePeriodSeconds`, which a preStop hook eats into.
    Kubernetes,
    /// A Compose service: SIGKILL after `stop_grace_period`.
    Compose,
    /// A systemd service: SIGKILL after `TimeoutStopSec=`.
    Systemd,
}

impl Platform {
    /// The name of the setting that holds the limit.
    pub(crate) const fn setting(self) -> &'static str {
        match self {
            Self::Flag => "--platform-grace",
            Self::Kubernetes => "terminationGracePeriodSeconds",
            Self::Compose => "stop_grace_period",
            Self::Systemd => "TimeoutStopSec",
        }
    }

    /// `seconds` in the form the setting is written in.
    pub(crate) fn written(self, seconds: u64) -> String {
        match self {
            Self::Kubernetes => format!("terminationGracePeriodSeconds: {seconds}"),
            Self::Compose => format!("stop_grace_period: {seconds}s"),
            Self::Systemd => format!("TimeoutStopSec={seconds}s"),
            Self::Flag => format!("the platform's limit to {seconds}s"),
        }
    }
}

/// How long a platform waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Allowed {
    /// This long.
    For(Duration),
    /// As long as it takes.
    Unlimited,
    /// It says something that cannot be read here, such as a variable to be filled in later.
    Unknown(String),
}

/// The limit that one workload (a pod, a service, a unit) sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Who sets it.
    pub platform: Platform,
    /// The workload, such as `Deployment/orders`.
    pub workload: String,
    /// How long the platform waits in all.
    pub allowed: Allowed,
    /// Whether nothing is written and the platform's default holds.
    pub is_default: bool,
    /// What runs before the worker hears of the stop, within the same limit.
    pub hook: Hook,
    /// Whether the workload surely runs the worker. In a file of several workloads of which none can be
    /// recognised, each of them may.
    pub is_worker: bool,
}

/// A hook that runs before the worker hears of the stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hook {
    /// None, or one that takes this long.
    Takes(Duration),
    /// One that takes a time of its own.
    Unknown,
}

impl Hook {
    /// No hook.
    pub(crate) const NONE: Self = Self::Takes(Duration::ZERO);
}

/// A file that no limit can be read from.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum ManifestError {
    /// Not YAML.
    #[error("not valid YAML: {0} (a template must be rendered first)")]
    Yaml(String),
    /// None of the known formats, or nothing in it that runs.
    #[error(
        "neither a Kubernetes manifest with pods, a Compose file with services, nor a systemd unit with [Service]"
    )]
    Unrecognised,
}

/// Reads the limits from the content of a Kubernetes manifest, a Compose file or a systemd unit; which of
/// them it is shows in the content. Where some of the workloads can be recognised as running the worker,
/// the others are left out.
///
/// # Errors
/// If the content is none of the three, or holds nothing that runs.
pub(crate) fn limits(content: &str) -> Result<Vec<Limit>, ManifestError> {
    if systemd::is_unit(content) {
        return Ok(vec![systemd::limit(content)]);
    }
    let documents = YamlLoader::load_from_str(content)
        .map_err(|error| ManifestError::Yaml(error.to_string()))?;
    let mut limits = kubernetes::limits(&documents);
    limits.extend(documents.iter().flat_map(compose::limits));
    if limits.is_empty() {
        return Err(ManifestError::Unrecognised);
    }
    if limits.iter().any(|limit| limit.is_worker) {
        limits.retain(|limit| limit.is_worker);
    } else if let [only] = limits.as_mut_slice() {
        only.is_worker = true;
    }
    Ok(limits)
}

/// Whether an image and the words of a command are those of a worker: the program is named, by the image or
/// the command, and no other of its commands is; or the command begins with `worker`, as arguments of an image
/// whose entry point is the program do. Other programs have workers too: `celery -A app worker` is none of ours.
fn runs_worker<'a>(image: &str, words: impl IntoIterator<Item = &'a str>) -> bool {
    let mut named = image.contains("tidegate");
    let mut worker = false;
    let mut other_command = false;
    for (place, word) in words.into_iter().enumerate() {
        match word {
            "worker" if place == 0 => return true,
            "worker" => worker = true,
            "fleet" | "status" | "publish" | "check" | "dead" | "drain" | "pause" | "resume" => {
                other_command = true;
            }
            _ => named |= word.rsplit('/').next() == Some("tidegate"),
        }
    }
    named && (worker || !other_command)
}

#[cfg(test)]
mod tests;

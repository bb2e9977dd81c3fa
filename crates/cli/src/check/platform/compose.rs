//! Compose files: `stop_grace_period` of each service.

use std::time::Duration;

use yaml_rust2::Yaml;

use super::yaml::{get, shown, text, words};
use super::{Allowed, Hook, Limit, Platform, runs_worker};

/// What a service gets that says nothing.
const DEFAULT: Duration = Duration::from_secs(10);

/// The limits of all services of a Compose file; empty if the document is something else.
pub(super) fn limits(document: &Yaml) -> Vec<Limit> {
    if get(document, "kind").is_some() {
        return Vec::new();
    }
    let Some(services) = get(document, "services").and_then(Yaml::as_hash) else {
        return Vec::new();
    };
    services
        .iter()
        .filter_map(|(name, service)| Some(limit(name.as_str()?, service)))
        .collect()
}

fn limit(name: &str, service: &Yaml) -> Limit {
    let written = get(service, "stop_grace_period");
    let mut command = words(service, "entrypoint");
    command.extend(words(service, "command"));
    Limit {
        platform: Platform::Compose,
        workload: format!("service {name}"),
        allowed: written.map_or(Allowed::For(DEFAULT), |value| {
            value
                .as_str()
                .and_then(duration)
                .map_or_else(|| Allowed::Unknown(shown(value)), Allowed::For)
        }),
        is_default: written.is_none(),
        hook: Hook::NONE,
        is_worker: runs_worker(text(service, "image"), command),
    }
}

/// A duration as Compose takes it: numbers with units in a row, `1m30s`; no spaces, no bare number.
fn duration(text: &str) -> Option<Duration> {
    let compact = !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
    if !compact {
        return None;
    }
    super::systemd::spans(text, |unit| {
        Some(match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" => 1e-6,
            "ns" => 1e-9,
            _ => return None,
        })
    })
}

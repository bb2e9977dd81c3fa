//! Pods: `terminationGracePeriodSeconds` and preStop hooks.
//!
//! The kubelet runs a container's preStop hook first and sends SIGTERM when it has ended; both share the
//! grace period (Kubernetes, "Pod Lifecycle", Termination of Pods).

use std::time::Duration;

use yaml_rust2::Yaml;

use super::yaml::{get, path, shown, text, words};
use super::{Allowed, Hook, Limit, Platform, runs_worker};

/// The grace period of a pod that names none.
const DEFAULT: Duration = Duration::from_secs(30);
/// The places of the pod's spec in the kinds that run pods.
const POD_SPECS: [&[&str]; 3] = [
    &["spec", "jobTemplate", "spec", "template", "spec"],
    &["spec", "template", "spec"],
    &["spec"],
];

/// The limits of all pods in the documents of a manifest; lists (`kind: List`) included.
pub(super) fn limits(documents: &[Yaml]) -> Vec<Limit> {
    documents
        .iter()
        .filter(|document| get(document, "kind").is_some())
        .flat_map(|document| match get(document, "items") {
            Some(Yaml::Array(items)) => limits(items),
            _ => limit(document).into_iter().collect(),
        })
        .collect()
}

fn limit(document: &Yaml) -> Option<Limit> {
    let pod = POD_SPECS
        .iter()
        .filter_map(|keys| path(document, keys))
        .find(|spec| get(spec, "containers").is_some())?;
    let containers = get(pod, "containers")
        .and_then(Yaml::as_vec)
        .map_or(&[] as &[Yaml], Vec::as_slice);
    let workers: Vec<&Yaml> = containers
        .iter()
        .filter(|container| is_worker(container))
        .collect();
    // The others of a recognised worker's pod end beside it and take nothing from its time.
    let hooks = if workers.is_empty() {
        longest(containers.iter().map(hook))
    } else {
        longest(workers.iter().map(|container| hook(container)))
    };
    let name = path(document, &["metadata", "name"]).and_then(Yaml::as_str);
    let written = get(pod, "terminationGracePeriodSeconds");
    Some(Limit {
        platform: Platform::Kubernetes,
        workload: format!("{}/{}", text(document, "kind"), name.unwrap_or("unnamed")),
        allowed: written.map_or(Allowed::For(DEFAULT), |value| {
            seconds(value).map_or_else(|| Allowed::Unknown(shown(value)), Allowed::For)
        }),
        is_default: written.is_none(),
        hook: hooks,
        is_worker: !workers.is_empty(),
    })
}

fn is_worker(container: &Yaml) -> bool {
    let mut command = words(container, "command");
    command.extend(words(container, "args"));
    runs_worker(text(container, "image"), command)
}

fn seconds(value: &Yaml) -> Option<Duration> {
    let seconds = u64::try_from(value.as_i64()?).ok()?;
    Some(Duration::from_secs(seconds))
}

fn longest(hooks: impl Iterator<Item = Hook>) -> Hook {
    hooks.fold(Hook::NONE, |longest, hook| match (longest, hook) {
        (Hook::Takes(one), Hook::Takes(other)) => Hook::Takes(one.max(other)),
        (Hook::Unknown, _) | (_, Hook::Unknown) => Hook::Unknown,
    })
}

fn hook(container: &Yaml) -> Hook {
    let Some(hook) = path(container, &["lifecycle", "preStop"]) else {
        return Hook::NONE;
    };
    let takes = if let Some(sleep) = get(hook, "sleep") {
        get(sleep, "seconds").and_then(seconds)
    } else {
        get(hook, "exec").and_then(|exec| sleep_command(&words(exec, "command")))
    };
    takes.map_or(Hook::Unknown, Hook::Takes)
}

/// How long `sleep N` takes, alone or given to a shell.
fn sleep_command(words: &[&str]) -> Option<Duration> {
    let command = match words {
        [shell, "-c", command @ ..] if shell.ends_with("sh") => command,
        command => command,
    };
    match command {
        [sleep, seconds] if sleep.rsplit('/').next() == Some("sleep") => {
            let seconds = seconds.strip_suffix('s').unwrap_or(seconds);
            Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
        }
        _ => None,
    }
}

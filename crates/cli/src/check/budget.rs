//! The shutdown budget: does the platform wait as long as a drain may take?
//!
//! A drain may take `drain.grace`, and after its deadline [`CLOSING_LIMIT`] for flushing, closing and the
//! report. A platform that kills earlier turns an orderly stop into a crash: deliveries are repeated.

use std::time::Duration;

use super::platform::{Allowed, Hook, Limit, Platform};
use super::{Finding, Level, Section};
use tidegate::lifecycle::CLOSING_LIMIT;

/// What should be left between the end of the longest drain and the kill: the platform's own delays and a
/// busy machine take their part.
pub(crate) const MARGIN: Duration = Duration::from_secs(2);

/// Compares every limit with `grace`. If there is none, says so, with advice for the platform that
/// `environment` (name to value) shows.
pub(crate) fn judge(
    grace: Duration,
    limits: &[Limit],
    environment: impl Fn(&str) -> Option<String>,
) -> Vec<Finding> {
    if limits.is_empty() {
        return vec![unknown(grace, environment)];
    }
    limits.iter().map(|limit| verdict(grace, limit)).collect()
}

fn verdict(grace: Duration, limit: &Limit) -> Finding {
    let (level, message) = match &limit.allowed {
        Allowed::Unlimited => (
            Level::Ok,
            format!("no limit; the drain ends within {}", needs(grace)),
        ),
        Allowed::Unknown(written) => (
            Level::Warning,
            format!(
                "{} is {written:?}, which cannot be read as a time here; make it at least {}s",
                limit.platform.setting(),
                whole_seconds(grace + CLOSING_LIMIT + MARGIN),
            ),
        ),
        Allowed::For(allowed) => compare(grace, *allowed, limit),
    };
    Finding {
        section: Section::ShutdownBudget,
        level,
        subject: limit.workload.clone(),
        message,
    }
}

fn compare(grace: Duration, allowed: Duration, limit: &Limit) -> (Level, String) {
    let hook = match limit.hook {
        Hook::Takes(time) => time,
        Hook::Unknown => Duration::ZERO,
    };
    let left = allowed.saturating_sub(hook);
    let needed = grace + CLOSING_LIMIT;
    let mut parts = vec![format!(
        "{} allows {}",
        limit.platform.setting(),
        humantime::format_duration(allowed)
    )];
    if limit.is_default {
        parts.push(" (the default)".to_owned());
    }
    if !hook.is_zero() {
        parts.push(format!(
            ", of which the preStop hook takes {} and leaves {}",
            humantime::format_duration(hook),
            humantime::format_duration(left)
        ));
    }
    parts.push(format!("; a drain may take {}", needs(grace)));
    let level = if left < needed {
        parts.push(", so it would be killed".to_owned());
        Level::Error
    } else if left < needed + MARGIN {
        parts.push(format!(
            ", which leaves less than {}",
            humantime::format_duration(MARGIN)
        ));
        Level::Warning
    } else {
        Level::Ok
    };
    if level != Level::Ok {
        parts.push(advice(
            limit.platform,
            needed + MARGIN + hook,
            left.saturating_sub(CLOSING_LIMIT + MARGIN),
        ));
    }
    lessen_certainty(limit, level, parts.concat())
}

/// What cannot be known for sure is never an error, and never simply well.
fn lessen_certainty(limit: &Limit, mut level: Level, mut message: String) -> (Level, String) {
    if limit.hook == Hook::Unknown {
        message
            .push_str("; the preStop hook takes its time from this, too, and how much is unknown");
        level = level.max(Level::Warning);
    }
    if !limit.is_worker && level != Level::Ok {
        message = format!("if this runs the worker: {message}");
        level = Level::Warning;
    }
    (level, message)
}

/// The two ways out: a limit that is enough, or a grace that fits in the limit there is.
fn advice(platform: Platform, enough: Duration, grace: Duration) -> String {
    let limit = platform.written(whole_seconds(enough));
    match grace.as_secs() {
        0 => format!(": set {limit}"),
        grace => format!(": set {limit} or drain.grace to {grace}s"),
    }
}

fn unknown(grace: Duration, environment: impl Fn(&str) -> Option<String>) -> Finding {
    let enough = whole_seconds(grace + CLOSING_LIMIT + MARGIN);
    let (subject, advice) = if environment("INVOCATION_ID").is_some() {
        (
            "systemd",
            format!(
                "`systemctl show -p TimeoutStopUSec UNIT` tells; set {} or more",
                Platform::Systemd.written(enough)
            ),
        )
    } else if environment("KUBERNETES_SERVICE_HOST").is_some() {
        (
            "Kubernetes",
            format!(
                "a pod cannot see its own; set {} or more, and check the manifest with --manifest",
                Platform::Kubernetes.written(enough)
            ),
        )
    } else {
        (
            "platform",
            format!(
                "it should be {enough}s or more; name it with --platform-grace, or a Kubernetes manifest, \
                 Compose file or systemd unit with --manifest"
            ),
        )
    };
    Finding::warning(
        Section::ShutdownBudget,
        subject,
        format!(
            "a drain may take {}, and the platform's limit is not known: {advice}",
            needs(grace)
        ),
    )
}

fn needs(grace: Duration) -> String {
    format!(
        "{} (drain.grace {} + {} to close)",
        humantime::format_duration(grace + CLOSING_LIMIT),
        humantime::format_duration(grace),
        humantime::format_duration(CLOSING_LIMIT)
    )
}

/// Rounded up: a platform's setting takes whole seconds.
fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests;

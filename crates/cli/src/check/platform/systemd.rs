//! systemd units: `TimeoutStopSec=` of `[Service]`.

use std::time::Duration;

use super::{Allowed, Hook, Limit, Platform};

/// What a service gets that says nothing (`DefaultTimeoutStopSec=` as it comes).
const DEFAULT: Duration = Duration::from_secs(90);

/// Whether the content is that of a unit with a service.
pub(super) fn is_unit(content: &str) -> bool {
    content.lines().any(|line| line.trim() == "[Service]")
}

/// The unit's limit. The last assignment counts, an empty one brings the default back; `TimeoutSec=` sets
/// the times for start and stop together (systemd.service(5)).
pub(super) fn limit(content: &str) -> Limit {
    let mut in_service = false;
    let mut written = None;
    for line in content.lines().map(str::trim) {
        if line.starts_with('[') {
            in_service = line == "[Service]";
        } else if let Some((key, value)) = line.split_once('=')
            && in_service
            && matches!(key.trim_end(), "TimeoutStopSec" | "TimeoutSec")
        {
            let value = value.trim();
            written = (!value.is_empty()).then_some(value);
        }
    }
    Limit {
        platform: Platform::Systemd,
        workload: "unit".to_owned(),
        allowed: written.map_or(Allowed::For(DEFAULT), allowed),
        is_default: written.is_none(),
        hook: Hook::NONE,
        is_worker: true,
    }
}

/// `infinity` waits for ever, and so does 0, which systemd reads as "no limit".
fn allowed(value: &str) -> Allowed {
    if value == "infinity" {
        return Allowed::Unlimited;
    }
    match spans(value, unit_seconds) {
        Some(Duration::ZERO) => Allowed::Unlimited,
        Some(time) => Allowed::For(time),
        None => Allowed::Unknown(value.to_owned()),
    }
}

/// The units of systemd.time(7); a bare number is in seconds.
fn unit_seconds(unit: &str) -> Option<f64> {
    const DAY: f64 = 86_400.0;
    Some(match unit {
        "" | "s" | "sec" | "second" | "seconds" => 1.0,
        "us" | "µs" | "μs" | "usec" => 1e-6,
        "ms" | "msec" => 1e-3,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => 7.0 * DAY,
        "M" | "month" | "months" => 30.44 * DAY,
        "y" | "year" | "years" => 365.25 * DAY,
        _ => return None,
    })
}

/// The sum of numbers with units in a row, with or without spaces: `1min 30s`. `None` if one cannot be
/// read or the sum is out of bounds.
pub(super) fn spans(text: &str, seconds: impl Fn(&str) -> Option<f64>) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !(c.is_ascii_digit() || c == '.'));
        let (number, after) = rest.split_at(digits.unwrap_or(rest.len()));
        let after = after.trim_start();
        let letters = after.find(|c: char| !c.is_alphabetic());
        let (unit, after) = after.split_at(letters.unwrap_or(after.len()));
        sum += number.parse::<f64>().ok()? * seconds(unit)?;
        rest = after.trim_start();
    }
    Duration::try_from_secs_f64(sum).ok()
}

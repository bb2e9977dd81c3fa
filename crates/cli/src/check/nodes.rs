//! What a valid configuration still gets wrong: combinations that work but surprise.

use std::time::Duration;

use humantime::format_duration;

use super::{Finding, Section};
use tidegate::config::{NodeSettings, Settings, Slots};

/// Brokers give up on a delivery that is not acknowledged in this time, unless told otherwise
/// (RabbitMQ's `consumer_timeout`).
const ACKNOWLEDGEMENT_TIMEOUT: Duration = Duration::from_mins(30);

/// What there is to say about the settings of nodes and pools.
pub(crate) fn findings(settings: &Settings) -> Vec<Finding> {
    let mut findings = pools(settings);
    for node in &settings.nodes {
        findings.extend(prefetch(node));
        findings.extend(timeout(node, settings.drain.grace));
        if node.single_active_consumer {
            findings.push(single_active_consumer(
                Section::Configuration,
                subject(node),
                settings,
                node,
            ));
        }
    }
    findings
}

fn subject(node: &NodeSettings) -> String {
    format!("node {}", node.queue)
}

/// Slots without a delivery to run.
fn prefetch(node: &NodeSettings) -> Option<Finding> {
    let Slots::Own(slots) = node.slots else {
        return None;
    };
    let prefetch = usize::from(node.prefetch);
    (prefetch < slots).then(|| {
        Finding::warning(
            Section::Configuration,
            subject(node),
            format!(
                "prefetch {prefetch} is less than concurrency {slots}: {} of its slots are never used",
                slots - prefetch
            ),
        )
    })
}

fn pools(settings: &Settings) -> Vec<Finding> {
    let reach = |name: &str| -> usize {
        let members = settings
            .nodes
            .iter()
            .filter(|node| matches!(&node.slots, Slots::Pool(pool) if pool == name));
        members.map(|node| usize::from(node.prefetch)).sum()
    };
    let is_partner = |name: &str| {
        let mut borrowers = settings.pools.iter();
        borrowers.any(|(other, pool)| pool.overflow.as_deref() == Some(name) && reach(other) > 0)
    };
    settings
        .pools
        .iter()
        .filter(|(name, _)| !is_partner(name))
        .filter_map(|(name, pool)| {
            let prefetch = reach(name);
            let message = match prefetch {
                0 => "no node uses it".to_owned(),
                short if short < pool.slots => format!(
                    "the prefetches of its nodes are {short} in all, less than its {} slots: {} of them are \
                     never used",
                    pool.slots,
                    pool.slots - short
                ),
                _ => return None,
            };
            let subject = format!("pool {name}");
            Some(Finding::warning(Section::Configuration, subject, message))
        })
        .collect()
}

/// A delivery that may run longer than the drain, or than the broker, waits.
fn timeout(node: &NodeSettings, grace: Duration) -> Vec<Finding> {
    let mut findings = Vec::new();
    let timeout = format_duration(node.timeout);
    if node.timeout > grace {
        findings.push(Finding::warning(
            Section::Configuration,
            subject(node),
            format!(
                "timeout {timeout} is longer than drain.grace {}: a delivery that still runs when the grace \
                 ends is interrupted, handed back and run again",
                format_duration(grace)
            ),
        ));
    }
    for (key, time) in [("timeout", node.timeout), ("hold_max", node.hold_max)] {
        if time >= ACKNOWLEDGEMENT_TIMEOUT {
            findings.push(Finding::warning(
                Section::Configuration,
                subject(node),
                format!(
                    "{key} {} is not within the {} in which brokers want an acknowledgement unless their \
                     consumer_timeout is set: the broker may give the message to another consumer meanwhile",
                    format_duration(time),
                    format_duration(ACKNOWLEDGEMENT_TIMEOUT)
                ),
            ));
        }
    }
    findings
}

/// What a single active consumer means for the node: strict order, which more than one slot would break.
pub(super) fn single_active_consumer(
    section: Section,
    subject: String,
    settings: &Settings,
    node: &NodeSettings,
) -> Finding {
    let slots = match &node.slots {
        Slots::Own(slots) => *slots,
        Slots::Pool(name) => settings.pools.get(name).map_or(1, |pool| pool.slots),
    };
    if slots > 1 {
        return Finding::warning(
            section,
            subject,
            format!(
                "its queue has a single active consumer, but {slots} slots run deliveries side by side, in no \
                 order; concurrency = 1 keeps the order"
            ),
        );
    }
    Finding::ok(
        section,
        subject,
        "its queue has a single active consumer: a drain lets no successor start before the running delivery \
         is settled",
    )
}

#[cfg(test)]
mod tests;

//! Compares the limit of file descriptors with what the slots need. Pure.

use super::{Finding, Section};
use tidegate::config::{HandlerSettings, NodeSettings, Settings, Slots};

/// Descriptors beside those of handlers: connections to the broker and their name look-ups, the HTTP endpoints and their
/// clients, the log, the runtime's own.
const BASE: u64 = 64;
/// Descriptors of the runtime that a node with such a handler has for itself.
const RUNTIME: u64 = 4;
/// Descriptors of a child process: its pipes and the process itself. An `exec` slot has one child; children of a `pool`
/// have no more than one slot each.
const CHILD: u64 = 6;
/// Descriptors of an `http` slot: its connection.
const HTTP: u64 = 1;

/// A warning if `limit`, the most descriptors that the worker may open, is less than its slots need; `None` is no
/// limit.
pub(crate) fn findings(settings: &Settings, limit: Option<u64>) -> Option<Finding> {
    let limit = limit?;
    let needed = needed(settings);
    (needed > limit).then(|| {
        let message = format!(
            "with every slot busy the worker needs about {needed}, but may open {limit} (the hard limit): runs wait \
             until one is free; raise the limit (ulimit -Hn, LimitNOFILE) or lower the concurrency"
        );
        Finding::warning(Section::Configuration, "file descriptors", message)
    })
}

fn needed(settings: &Settings) -> u64 {
    let count = |slots: usize| u64::try_from(slots).unwrap_or(u64::MAX);
    let own = settings.nodes.iter().filter_map(|node| match node.slots {
        Slots::Own(slots) => Some(of_slot(node).saturating_mul(count(slots))),
        Slots::Pool(_) => None,
    });
    let pools = settings.pools.iter().map(|(name, pool)| {
        let members = settings
            .nodes
            .iter()
            .filter(|node| matches!(&node.slots, Slots::Pool(its) if its == name));
        let dearest = members.map(of_slot).max().unwrap_or(0);
        dearest.saturating_mul(count(pool.slots))
    });
    let runtimes = settings.nodes.iter().filter(|node| of_slot(node) > 0);
    let runtimes = RUNTIME.saturating_mul(count(runtimes.count()));
    own.chain(pools)
        .fold(BASE.saturating_add(runtimes), u64::saturating_add)
}

fn of_slot(node: &NodeSettings) -> u64 {
    match node.handler {
        Some(HandlerSettings::Exec(_) | HandlerSettings::Pool(_)) => CHILD,
        Some(HandlerSettings::Http(_)) => HTTP,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::testing::{node, settings};
    use tidegate::config::{ExecSettings, PoolSettings};

    fn exec(slots: Slots) -> NodeSettings {
        let mut node = node("orders");
        node.slots = slots;
        node.handler = Some(HandlerSettings::Exec(ExecSettings::new(["true"])));
        node
    }

    #[test]
    fn more_slots_than_descriptors_are_a_warning_that_says_both_numbers() {
        let settings = settings(vec![exec(Slots::Own(60))]);
        let finding = findings(&settings, Some(100)).unwrap();
        assert!(
            finding.message.contains("about 428, but may open 100"),
            "{finding:?}"
        );
        assert_eq!(findings(&settings, Some(428)), None);
        assert_eq!(findings(&settings, None), None, "no limit");
    }

    #[test]
    fn a_shared_pool_counts_once_and_for_its_dearest_handler() {
        let pool = || Slots::Pool("shared".to_owned());
        let mut settings = settings(vec![exec(pool()), exec(pool())]);
        settings.pools = [("shared".to_owned(), PoolSettings::new(10))].into();
        assert_eq!(needed(&settings), BASE + 2 * RUNTIME + 10 * CHILD);
    }
}

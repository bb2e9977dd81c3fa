//! Nodes and pools that would surprise.

use super::*;
use crate::check::Level;
use crate::check::testing::{node, settings};
use tidegate::config::PoolSettings;

fn levels_and_messages(settings: &Settings) -> Vec<(Level, String)> {
    findings(settings)
        .into_iter()
        .map(|finding| {
            (
                finding.level,
                format!("{}: {}", finding.subject, finding.message),
            )
        })
        .collect()
}

#[test]
fn a_sound_node_gives_no_finding() {
    assert_eq!(levels_and_messages(&settings(vec![node("orders")])), []);
}

#[test]
fn fewer_deliveries_ahead_than_slots_is_a_warning() {
    let mut node = node("orders");
    node.slots = Slots::Own(8);
    node.prefetch = 5;
    assert_eq!(
        levels_and_messages(&settings(vec![node])),
        [(
            Level::Warning,
            "node orders: prefetch 5 is less than concurrency 8: 3 of its slots are never used"
                .to_owned()
        )]
    );
}

#[test]
fn a_pool_is_held_against_the_prefetch_of_all_its_nodes() {
    let shared = || Slots::Pool("shared".to_owned());
    let mut one = node("one");
    one.slots = shared();
    one.prefetch = 3;
    let mut other = node("other");
    other.slots = shared();
    other.prefetch = 5;
    let mut settings = settings(vec![one, other]);
    for (slots, findings) in [(8, 0), (9, 1)] {
        settings
            .pools
            .insert("shared".to_owned(), PoolSettings::new(slots));
        assert_eq!(levels_and_messages(&settings).len(), findings, "{slots}");
    }
    // A pool that others borrow slots from counts as used.
    let mut borrower = PoolSettings::new(8);
    borrower.overflow = Some("partner".to_owned());
    settings.pools.insert("shared".to_owned(), borrower);
    settings
        .pools
        .insert("partner".to_owned(), PoolSettings::new(2));
    assert_eq!(levels_and_messages(&settings), []);
    settings.pools.remove("partner");
    settings.nodes.clear();
    assert_eq!(
        levels_and_messages(&settings),
        [(Level::Warning, "pool shared: no node uses it".to_owned())]
    );
}

#[test]
fn a_delivery_that_can_outlive_the_drain_is_a_warning() {
    let mut node = node("orders");
    node.timeout = Duration::from_mins(5);
    let found = levels_and_messages(&settings(vec![node.clone()]));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, Level::Warning);
    assert!(
        found[0]
            .1
            .contains("timeout 5m is longer than drain.grace 25s")
    );

    node.timeout = Duration::from_secs(25);
    assert_eq!(levels_and_messages(&settings(vec![node])), []);
}

#[test]
fn a_delivery_that_can_outlive_the_brokers_patience_is_a_warning_of_its_own() {
    let mut node = node("orders");
    node.timeout = ACKNOWLEDGEMENT_TIMEOUT;
    let found = levels_and_messages(&settings(vec![node]));
    assert_eq!(found.len(), 2);
    assert!(found[1].1.contains("consumer_timeout"));
}

#[test]
fn a_hold_that_can_outlive_the_brokers_patience_is_a_warning() {
    let mut node = node("orders");
    node.timeout = Duration::from_secs(25);
    node.hold_max = Duration::from_mins(40);
    let found = levels_and_messages(&settings(vec![node]));
    assert_eq!(found.len(), 1);
    assert!(found[0].1.contains("hold_max 40m is not within the 30m"));
}

#[test]
fn a_single_active_consumer_wants_one_slot() {
    let mut node = node("orders");
    node.single_active_consumer = true;
    let level = |node: &NodeSettings| {
        let found = levels_and_messages(&settings(vec![node.clone()]));
        assert_eq!(found.len(), 1);
        found[0].0
    };
    assert_eq!(level(&node), Level::Warning);
    node.slots = Slots::Own(1);
    assert_eq!(level(&node), Level::Ok);
}

//! The text form of the metrics.

use super::*;

#[test]
fn names_and_units_are_prometheus_like() {
    let metrics = Metrics::new();
    let node = metrics.node(&"orders".into(), 8);
    node.done.inc();
    node.handler.observe(0.003);
    metrics.reconnected("consume");
    metrics.status_message("state", true);
    metrics.drained("clean", 12, [("cancel", 2)]);
    let text = metrics.encode();
    for line in [
        r#"tidegate_deliveries_total{queue="orders",outcome="done"} 1"#,
        r#"tidegate_handler_seconds_count{queue="orders"} 1"#,
        r#"tidegate_slots{queue="orders"} 8"#,
        r#"tidegate_reconnects_total{connection="consume"} 1"#,
        r#"tidegate_drain_seconds_count{outcome="clean"} 1"#,
        r#"tidegate_drain_step_seconds{step="cancel"} 0.002"#,
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
}

#[test]
fn nothing_is_left_of_a_node_that_is_gone() {
    let metrics = Metrics::new();
    let before = metrics.encode();
    let node = metrics.node(&"orders".into(), 8);
    node.settling.consumer_timeouts.inc();
    metrics.forget_node("orders");
    assert_eq!(metrics.encode(), before);
}

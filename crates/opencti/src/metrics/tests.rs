//! The text form of the metrics.

use super::*;

#[test]
fn the_platforms_names_are_there_from_the_start_at_zero() {
    let text = Metrics::new().encode_platform();
    for name in [
        "opencti_bundles_global_counter_total 0",
        "opencti_bundles_processing_time_gauge_count 0",
        "opencti_max_ingestion_units 0",
        "opencti_running_ingestion_units 0",
        "opencti_bundles_success_counter_total 0",
        "opencti_bundles_timeout_error_counter_total 0",
        "opencti_bundles_timed_out_error_counter_total 0",
        "opencti_bundles_lock_error_counter_total 0",
        "opencti_bundles_missing_reference_error_counter_total 0",
        "opencti_bundles_missing_reference_retry_attempt_counter_total{attempt=\"1\"} 0",
        "opencti_bundles_bad_gateway_error_counter_total 0",
        "opencti_bundles_technical_error_counter_total 0",
    ] {
        assert!(text.contains(name), "{name} in {text}");
    }
}

#[test]
fn running_and_held_end_with_their_guards() {
    let metrics = Metrics::new();
    let guards = (metrics.running(), metrics.held(Cause::Lock));
    assert!(
        metrics
            .encode_platform()
            .contains("running_ingestion_units 1")
    );
    assert!(metrics.encode_own().contains("held{cause=\"lock\"} 1"));
    drop(guards);
    assert!(
        metrics
            .encode_platform()
            .contains("running_ingestion_units 0")
    );
    assert!(metrics.encode_own().contains("held{cause=\"lock\"} 0"));
}

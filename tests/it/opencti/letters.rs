//! What cannot be imported is told to its work, kept, and counted.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bench::{Bench, identity, message, report};
use crate::harness::wait::{eventually, expect_that};

#[tokio::test(flavor = "multi_thread")]
async fn what_no_rule_can_import_is_told_and_kept_and_counted() {
    let Some(bench) = Bench::new(&["a"]).await else {
        return;
    };
    // No queue is bound with it: nobody reads the platform's own dead letters.
    bench.connector_with_dead_letters("a", "dead_a");
    let lost = json!({"type": "relationship", "id": "relationship--00000000-0000-4000-8000-000000000008",
        "relationship_type": "related-to", "source_ref": null, "target_ref": null});
    bench.platform.declare("large", 1);
    let split = message(&[identity(1), lost.clone()], &json!({"work_id": "split"}));
    let whole = message(
        &[identity(2), lost],
        &json!({"work_id": "whole", "no_split": true, "declared_expectations": 0}),
    );
    let large = message(
        &[report()],
        &json!({"work_id": "large", "applicant_id": "user"}),
    );
    bench.send("a", &[split, whole, large]).await;
    let mut worker = bench.worker(&[
        ("WORKER_OBJECTS_MAX_REFS", "3"),
        ("WORKER_TELEMETRY_ENABLED", "true"),
        ("WORKER_PROMETHEUS_TELEMETRY_HOST", "localhost"),
        ("WORKER_PROMETHEUS_TELEMETRY_PORT", "0"),
    ]);
    bench.until_works_complete(3).await;
    let told = |work: &str| {
        let known = bench.platform.work(work);
        (known.expected, known.processed, known.errors.join(", "))
    };
    let incompatible = "Incompatible element in bundle".to_owned();
    assert_eq!(told("split"), (2, 2, incompatible.clone()));
    assert_eq!(told("whole"), (2, 2, incompatible));
    assert_eq!(told("large"), (1, 1, "Too large element in bundle".into()));
    until_scraped(&bench, &worker).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    assert_eq!(bench.imports(), [1, 1]);
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    for letter in bench.vhost.take_all("tidegate.opencti.dead").await {
        *reasons
            .entry(letter.header("x-tidegate-reason"))
            .or_default() += 1;
        assert_eq!(letter.header("x-tidegate-connector-name"), "Connector a");
        assert_eq!(letter.header("x-tidegate-reported"), "true");
        let body: Value = serde_json::from_slice(&letter.body).unwrap();
        assert_eq!(body["work_id"], Value::Null);
        let content = super::bench::decoded(body["content"].as_str().unwrap());
        assert_eq!(content["objects"].as_array().unwrap().len(), 1, "{content}");
    }
    let expected = [("incompatible".to_owned(), 2), ("too_large".to_owned(), 1)];
    assert_eq!(reasons, BTreeMap::from(expected));
}

/// Waits until the port of the platform's metrics shows what was done. A split counts no object: its parts do.
async fn until_scraped(bench: &Bench, worker: &crate::harness::worker::Worker) {
    bench.until_consumed(worker).await;
    let line = worker.logged("the platform's metrics are served").await;
    let url = format!("http://{}/metrics", line.text("address"));
    eventually("the metrics show what was done", async || {
        let response = reqwest::get(&url)
            .await
            .map_err(|error| error.to_string())?;
        let text = response.text().await.map_err(|error| error.to_string())?;
        let expected = [
            "opencti_bundles_global_counter_total 5",
            "opencti_bundles_success_counter_total 2",
            "opencti_bundles_processing_time_gauge_count 5",
            "opencti_max_ingestion_units 10",
            "opencti_running_ingestion_units 0",
            "opencti_bundles_bad_gateway_error_counter_total 0",
            "tidegate_opencti_rejected_total{cause=\"incompatible\"} 2",
            "tidegate_opencti_rejected_total{cause=\"too_large\"} 1",
            "tidegate_opencti_dead_letters_total{target=\"own\"} 3",
            "tidegate_opencti_version_mismatch 0",
        ];
        let shown: Vec<_> = text.lines().collect();
        let missing = expected.iter().find(|line| !shown.contains(line));
        expect_that(missing.is_none(), || {
            format!("{missing:?} is not in {text}")
        })
    })
    .await;
}

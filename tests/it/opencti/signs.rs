//! The table of signs, row by row: what each failure of the platform comes to.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate_platform_stub::Failure;

use super::bench::{Bench, CONNECTOR_EXCHANGE, identity, message, messages, report};
use crate::harness::wait::{eventually_within, expect_that, limit};

/// What a failure comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Row {
    /// It is held, and imported when the failure is over.
    Held,
    /// It is given up, reported once, and kept.
    Dead(&'static str),
    /// It is done without a report.
    Skipped,
}

fn rows() -> Vec<(Failure, Row)> {
    let status = |status, text: &str| Failure::Status(status, text.to_owned(), Vec::new());
    let asked = vec![("retry-after", "1".to_owned())];
    let mut rows = vec![
        (status(200, "<html>"), Row::Held),
        (status(401, ""), Row::Held),
        (status(403, "<html>"), Row::Held),
        (status(408, ""), Row::Held),
        (Failure::Status(429, String::new(), asked), Row::Held),
        (status(500, ""), Row::Held),
        (status(502, "Bad Gateway"), Row::Held),
        (status(503, "<html>"), Row::Held),
        (status(504, "Request timed out"), Row::Held),
        (Failure::Code("AUTH_REQUIRED"), Row::Held),
        (Failure::Name("DRAFT_LOCKED"), Row::Dead("draft_locked")),
        (Failure::Name("WORK_NOT_ALIVE"), Row::Skipped),
        (
            Failure::Name("MISSING_REFERENCE_ERROR"),
            Row::Dead("missing_reference"),
        ),
        (Failure::Name("FORBIDDEN_ACCESS"), Row::Dead("forbidden")),
        (status(400, "{}"), Row::Dead("invalid")),
        (status(413, ""), Row::Dead("invalid")),
    ];
    let held = [
        "AUTH_REQUIRED",
        "AUTH_FAILURE",
        "DATABASE_ERROR",
        "UNKNOWN_ERROR",
        "COMPLEX_SEARCH_ERROR",
        "FILESYSTEM_ERROR",
        "LOCK_ERROR",
    ];
    rows.extend(held.map(|name| (Failure::Name(name), Row::Held)));
    let dead = [
        "FUNCTIONAL_ERROR",
        "VALIDATION_ERROR",
        "UNSUPPORTED_ERROR",
        "INSUFFICIENT_CONFIDENCE_LEVEL",
        "ALREADY_DELETED_ERROR",
        "RESOURCE_NOT_FOUND",
        "GRAPHQL_VALIDATION_FAILED",
    ];
    rows.extend(dead.map(|name| (Failure::Name(name), Row::Dead("invalid"))));
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sign_comes_to_what_the_table_says() {
    let rows = rows();
    let names: Vec<_> = (0..rows.len()).map(|row| format!("r{row}")).collect();
    let queues: Vec<_> = names.iter().map(String::as_str).collect();
    let Some(bench) = Bench::new(&queues).await else {
        return;
    };
    let id = |row: usize| identity(u32::try_from(row).unwrap())["id"].clone();
    let mut left: BTreeMap<String, (Failure, usize)> = rows
        .iter()
        .enumerate()
        .map(|(row, (failure, end))| {
            let times = if *end == Row::Held { 2 } else { usize::MAX };
            (
                id(row).as_str().unwrap().to_owned(),
                (failure.clone(), times),
            )
        })
        .collect();
    bench.platform.fail(move |call| {
        let id = call.variables["input"]["stix_id"].as_str()?;
        let (failure, times) = left.get_mut(id)?;
        *times = times.checked_sub(1)?;
        Some(failure.clone())
    });
    let mut worker = bench.worker(&[
        ("OPENCTI_MISSING_REF_RETRY_EXPONENTIAL", "true"),
        ("OPENCTI_MISSING_REF_RETRY_INITIAL_DELAY", "0.01"),
    ]);
    worker.logged("pycti has the platform's version").await;
    for (row, queue) in queues.iter().enumerate() {
        bench.platform.declare(queue, 1);
        let number = u32::try_from(row).unwrap();
        let more = json!({"work_id": queue, "draft_id": "draft"});
        bench
            .send(queue, &messages(number..number + 1, &more))
            .await;
    }
    let alive = rows.iter().filter(|(_, end)| *end != Row::Skipped).count();
    eventually_within(limit() * 2, "all are dealt with", async || {
        let works = bench.platform.works();
        let told = works.values().filter(|work| work.processed > 0).count();
        expect_that(told == alive, || format!("{works:?}"))
    })
    .await;
    for queue in &queues {
        bench.vhost.until_ready(queue_name(queue).as_str(), 0).await;
    }
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    let mut letters = BTreeMap::new();
    for letter in bench.vhost.take_all("tidegate.opencti.dead").await {
        letters.insert(letter.header("x-tidegate-connector"), letter);
    }
    let imports = bench.platform.imports();
    for (row, (failure, end)) in rows.iter().enumerate() {
        let work = bench.platform.work(queues[row]);
        let imported = imports.get(id(row).as_str().unwrap()).copied().unwrap_or(0);
        let letter = letters.get(queues[row]);
        let found = (
            work.processed,
            work.errors.len(),
            imported,
            letter.is_some(),
        );
        let expected = match end {
            Row::Held => (1, 0, 1, false),
            Row::Dead(_) => (1, 1, 0, true),
            Row::Skipped => (0, 0, 0, false),
        };
        assert_eq!(found, expected, "{failure:?}");
        if let (Row::Dead(reason), Some(letter)) = (end, letter) {
            assert_eq!(letter.header("x-tidegate-reason"), *reason, "{failure:?}");
            assert_eq!(letter.header("x-tidegate-reported"), "true");
            let body: Value = serde_json::from_slice(&letter.body).unwrap();
            assert_eq!(
                body["work_id"],
                Value::Null,
                "a replay must not report again"
            );
        }
        if matches!(failure, Failure::Name("GRAPHQL_VALIDATION_FAILED")) {
            let both = "the platform is 7.261026.0, pycti is 7.";
            assert!(work.errors[0].contains(both), "{:?}", work.errors);
        }
    }
    // What ran never left its queue: nothing is there any more.
    for queue in &queues {
        assert_eq!(bench.vhost.ready(&queue_name(queue)).await, 0);
    }
}

fn queue_name(connector: &str) -> String {
    format!("push_{connector}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_too_many_references_goes_to_the_platforms_own_dead_letters() {
    let Some(bench) = Bench::new(&["a"]).await else {
        return;
    };
    bench.vhost.declare_with("dead_a", []).await;
    bench
        .vhost
        .bind("dead_a", CONNECTOR_EXCHANGE, "dead_a")
        .await;
    bench.connector_with_dead_letters("a", "dead_a");
    let report = report();
    bench.platform.declare("work", 1);
    let more = json!({"work_id": "work", "no_split": true});
    bench
        .send("a", &[message(std::slice::from_ref(&report), &more)])
        .await;
    let mut worker = bench.worker(&[("WORKER_OBJECTS_MAX_REFS", "3")]);
    bench.until_works_complete(1).await;
    bench.vhost.until_ready("dead_a", 1).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    assert_eq!(
        bench.platform.work("work").errors,
        ["Too large element in bundle"]
    );
    assert_eq!(bench.imports().len(), 0);
    let letter = bench.vhost.take_all("dead_a").await.remove(0);
    let body: Value = serde_json::from_slice(&letter.body).unwrap();
    assert_eq!(body["work_id"], "work", "its form is the platform's");
    let content = super::bench::decoded(body["content"].as_str().unwrap());
    assert_eq!(content["id"], report["id"]);
    let info = json!({"reject_reason": "ELEMENT_TOO_LARGE", "objects_max_refs": 3, "original_connector_id": "a"});
    assert_eq!(content["rejection_info"], info);
}

//! A platform that is not there for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lapin::ExchangeKind;
use serde_json::{Value, json};
use tidegate_platform_stub::Failure;

use super::bench::{Bench, declare_exchange, identity, message, messages, times};
use crate::harness::wait::{eventually, expect_that};

/// The pages of a proxy whose platform is away.
fn page(number: usize) -> Failure {
    let (status, title) = [
        (502, "502 Bad Gateway"),
        (503, "503 Service Unavailable"),
        (504, "504 Gateway Time-out"),
    ][number % 3];
    let html = format!("<html><head><title>{title}</title></head></html>");
    Failure::Status(status, html, Vec::new())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_that_answers_for_the_platform_costs_nothing_and_is_seen() {
    let Some(bench) = Bench::new(&["a", "b", "c"]).await else {
        return;
    };
    declare_exchange(&bench.vhost, "tidegate.status", ExchangeKind::Topic).await;
    bench.vhost.declare_with("states", []).await;
    bench
        .vhost
        .bind("states", "tidegate.status", "state.#")
        .await;
    for (queue, first) in [("a", 0), ("b", 100)] {
        bench.platform.declare(queue, 20);
        let more = json!({"work_id": queue});
        bench.send(queue, &messages(first..first + 20, &more)).await;
    }
    let objects: Vec<_> = (200..220).map(identity).collect();
    let whole = message(&objects, &json!({"work_id": "c"}));
    bench.send("c", &[whole]).await;
    bench.platform.set_latency(Duration::from_millis(60));
    // At first the platform is away, too.
    bench.platform.fail(|_call| Some(page(1)));
    let mut worker = bench.worker(&[]);
    eventually("it is live and not ready", async || {
        let (live, _) = worker.get("/livez").await?;
        let (ready, why) = worker.get("/readyz").await?;
        expect_that((live, ready) == (200, 503), || why)
    })
    .await;
    bench.platform.recover();
    bench.until_imported(6).await;
    let length = Duration::from_secs(times("TIDEGATE_TEST_OPENCTI_OUTAGE_SECONDS", 3) as u64);
    let (until, asked) = (Instant::now() + length, AtomicUsize::new(0));
    bench.platform.fail(move |_call| {
        let number = asked.fetch_add(1, Ordering::Relaxed);
        (Instant::now() < until).then(|| page(number))
    });
    eventually("the breaker is seen", async || {
        let (_, metrics) = worker.get("/metrics").await?;
        let (_, ready) = worker.get("/readyz").await?;
        let seen = metrics.contains("\ntidegate_opencti_breaker_open 1\n")
            && ready.contains("the platform does not answer");
        expect_that(seen, || ready)
    })
    .await;
    bench.until_works_complete(3).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    assert_eq!(bench.imports(), [1; 60]);
    bench.expect_exact_reports();
    let states = bench.vhost.take_all("states").await;
    let states: Vec<Value> = states
        .iter()
        .map(|state| serde_json::from_slice(&state.body).unwrap())
        .collect();
    let notes: Vec<_> = states.iter().map(|state| state["note"].as_str()).collect();
    let expected = Some("nothing is started: the platform does not answer");
    assert!(notes.contains(&expected), "{states:#?}");
    let title = |state: &Value| state["nodes"][0]["title"].clone();
    let titled = states.iter().any(|state| title(state) == "Connector a");
    assert!(titled, "{states:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_rotated_is_read_again() {
    let Some(bench) = Bench::new(&["a"]).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "old\n").unwrap();
    let accepted = Arc::new(std::sync::Mutex::new("Bearer old"));
    let wanted = Arc::clone(&accepted);
    bench.platform.fail(move |call| {
        let given = call.headers.get("authorization").map(String::as_str);
        let refused = given != Some(*wanted.lock().unwrap());
        refused.then(|| Failure::Status(401, String::new(), Vec::new()))
    });
    bench.platform.declare("work", 12);
    let all = messages(0..12, &json!({"work_id": "work"}));
    bench.send("a", &all[..4]).await;
    let path = file.to_string_lossy();
    let mut worker = bench.worker(&[
        ("OPENCTI_TOKEN", ""),
        ("TIDEGATE__OPENCTI__TOKEN_FILE", &path),
    ]);
    bench.until_imported(4).await;
    *accepted.lock().unwrap() = "Bearer new";
    bench.send("a", &all[4..]).await;
    worker
        .logged("the platform refuses the token: nothing is started until it accepts one")
        .await;
    std::fs::write(&file, "new\n").unwrap();
    bench.until_works_complete(1).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    assert_eq!(bench.imports(), [1; 12]);
    bench.expect_exact_reports();
}

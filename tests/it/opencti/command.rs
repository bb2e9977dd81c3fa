//! The commands beside the worker: `check` and `dead`, with nothing but the platform's variables.

use serde_json::{Value, json};
use tidegate_platform_stub::Failure;

use tokio::process::Command;

use super::bench::{Bench, identity, message};
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::Worker;

/// Level and message of the finding about `subject`.
fn about(report: &Value, subject: &str) -> (String, String) {
    let findings = report["findings"].as_array().unwrap();
    let found = findings
        .iter()
        .find(|finding| finding["subject"] == subject);
    let found = found.unwrap_or_else(|| panic!("nothing about {subject}: {report:#}"));
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    (text("level"), text("message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_a_worker_would_find() {
    let Some(bench) = Bench::new(&["a", "b"]).await else {
        return;
    };
    let check = async || {
        let (code, text) = bench
            .run(&["check", "--json", "--platform-grace", "35s"])
            .await;
        let report: Value = serde_json::from_str(&text).unwrap();
        (code, report)
    };
    let (code, report) = check().await;
    assert_eq!(code, Some(0), "{report:#}");
    let [_, _, (_, python)] = bench.variables();
    let (level, versions) = about(&report, &python.to_string_lossy());
    assert_eq!(level, "ok");
    assert!(versions.contains("pycti 7."), "{versions}");
    assert_eq!(
        about(&report, "version"),
        ("ok".into(), "7.261026.0".into())
    );
    let (_, pools) = about(&report, "pools");
    assert!(
        pools.contains("opencti has 2 slots, then those of opencti-realtime"),
        "{pools}"
    );
    let (_, queue) = about(&report, "push_a");
    assert_eq!(queue, "Connector a: there: 0 messages ready, 0 consumers");
    assert_eq!(about(&report, "tidegate.opencti.dead").0, "ok");

    bench.platform.set_version("7.999.0");
    bench.connectors(&["a", "gone"], Some(json!({"id": "odd"})));
    let (code, report) = check().await;
    assert_eq!(code, Some(1), "{report:#}");
    let (level, version) = about(&report, "version");
    assert_eq!(level, "error");
    assert!(version.contains("install pycti==7.999.0"), "{version}");
    let (level, missing) = about(&report, "push_gone");
    assert_eq!(level, "error");
    assert!(
        missing.starts_with("Connector gone: not there"),
        "{missing}"
    );
    assert_eq!(about(&report, "connector").0, "warning");

    bench
        .platform
        .fail(|_call| Some(Failure::Status(401, String::new(), Vec::new())));
    let (code, report) = check().await;
    assert_eq!(code, Some(1));
    assert!(
        about(&report, "version").1.contains("HTTP 401"),
        "{report:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_picked_by_connector_and_a_replay_never_reports_again() {
    let Some(bench) = Bench::new(&["a", "b"]).await else {
        return;
    };
    bench.platform.fail(|call| {
        call.is_import()
            .then_some(Failure::Name("FUNCTIONAL_ERROR"))
    });
    for (queue, number) in [("a", 1), ("b", 2)] {
        bench.platform.declare(queue, 1);
        let more = json!({"work_id": queue});
        bench
            .send(queue, &[message(&[identity(number)], &more)])
            .await;
    }
    let mut worker = bench.worker(&[]);
    bench.until_works_complete(2).await;
    let letters = async |connector: &str| {
        let (code, text) = bench
            .run(&["dead", "list", "--connector", connector, "--json"])
            .await;
        assert_eq!(code, Some(0));
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines.collect::<Vec<Value>>()
    };
    for connector in ["a", "connector A"] {
        let found = letters(connector).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["connector_name"], "Connector a");
        assert_eq!(found[0]["reason"], "invalid");
    }
    assert_eq!(letters("nobody").await.len(), 0);
    let (code, shown) = bench
        .run(&["dead", "show", "--connector", "a", "--reason", "invalid"])
        .await;
    assert_eq!(code, Some(0));
    assert!(shown.contains("Connector a"), "{shown}");
    let (code, _) = bench
        .run(&["dead", "drop", "--connector", "b", "--yes"])
        .await;
    assert_eq!(code, Some(0));
    assert_eq!(letters("b").await.len(), 0);

    bench.platform.recover();
    let (code, text) = bench
        .run(&["dead", "replay", "--connector", "a", "--json"])
        .await;
    assert_eq!(code, Some(0), "{text}");
    bench.until_imported(1).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    assert_eq!(bench.imports(), [1]);
    let work = bench.platform.work("a");
    assert_eq!(
        (work.processed, work.errors.len()),
        (1, 1),
        "told once, of the failure"
    );
    assert_eq!(letters("a").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_platforms_variables_say_what_is_logged_and_in_which_form() {
    let run = |url: &str, variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command
            .arg("worker")
            .env(url, "http://127.0.0.1:9")
            .env("OPENCTI_TOKEN", "token")
            .env("TIDEGATE__WORKER__HTTP", "off")
            .envs(variables.iter().copied());
        Worker::run(command)
    };
    let asking = "asking the platform for its queues";
    let failed = "the platform does not say which queues there are; what is consumed stays";
    let said = |worker: &Worker| worker.log().text().contains(asking);
    // Only JSON has lines with a message.
    let worker = run("OPENCTI_URL", &[]);
    worker.logged(asking).await;
    let worker = run("OPENCTI_URL", &[("WORKER_LOG_LEVEL", "warning")]);
    worker.logged(failed).await;
    assert!(!said(&worker), "{}", worker.log().text());
    let worker = run("OPENCTI_URL", &[("OPENCTI_JSON_LOGGING", "false")]);
    eventually("it logs text", async || {
        expect_that(said(&worker), || worker.log().text())
    })
    .await;
    assert!(!worker.log().text().starts_with('{'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pycti_of_another_version_warns_or_ends_the_worker() {
    let Some(bench) = Bench::new(&["a"]).await else {
        return;
    };
    bench.platform.set_version("7.999.0");
    let mut worker = bench.worker(&[]);
    worker
        .logged("pycti has another version than the platform: imports may fail")
        .await;
    let (_, metrics) = worker.get("/metrics").await.unwrap();
    let mismatch = "\ntidegate_opencti_version_mismatch 1\n";
    assert!(metrics.contains(mismatch), "{metrics}");
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    let mut worker = bench.worker(&[("TIDEGATE__OPENCTI__PYCTI", "require")]);
    let ended = worker.ended().await;
    assert_eq!(ended.code, Some(1), "{}", worker.log().text());
    assert!(
        worker
            .log()
            .text()
            .contains("the platform 7.999.0, and [opencti] pycti")
    );
}

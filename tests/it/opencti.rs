//! OpenCTI's worker: the real program, a real broker, real pycti, and a stand-in for the platform.
//!
//! Without a Python that has pycti these tests are skipped, and say so: `scripts/pycti` makes one.

pub(crate) mod bench;
mod command;
mod cuts;
mod letters;
mod listen;
mod many;
mod outage;
mod signs;
mod stops;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_platform_stub::Failure;

use bench::{Bench, identity, messages};

#[tokio::test(flavor = "multi_thread")]
async fn two_variables_are_enough_to_import_split_and_set_aside() {
    let Some(bench) = Bench::new(&["a", "b"]).await else {
        return;
    };
    let mut worker = bench.worker(&[]);
    bench.until_consumed(&worker).await;
    bench.platform.declare("work-1", 1);
    bench
        .send("a", &messages(1..2, &json!({"work_id": "work-1"})))
        .await;
    // Split: the worker declares what the parts will report.
    bench
        .send(
            "b",
            &[bench::message(
                &[identity(10), identity(11), identity(12)],
                &json!({"work_id": "work-2"}),
            )],
        )
        .await;
    bench.platform.declare("work-3", 1);
    bench
        .send(
            "a",
            &[json!({"type": "bundle", "content": "%%%", "work_id": "work-3"})],
        )
        .await;
    bench.until_works_complete(3).await;
    assert_eq!(bench.imports(), [1, 1, 1, 1]);
    assert_eq!(bench.platform.work("work-2").errors, Vec::<String>::new());
    assert_eq!(bench.platform.work("work-3").errors.len(), 1);
    let letters = bench.vhost.take_all("tidegate.opencti.dead").await;
    assert_eq!(letters.len(), 1);
    assert_eq!(bench.connections().await, 2);
    let begun = Instant::now();
    worker.terminate();
    let ended = worker.ended().await;
    assert_eq!(ended.code, Some(0), "{}", worker.log().text());
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_fails_for_a_while_loses_nothing() {
    let failures = [
        Failure::Status(503, "<html>503</html>".into(), Vec::new()),
        Failure::Status(401, String::new(), Vec::new()),
        Failure::Name("DATABASE_ERROR"),
    ];
    for failure in failures {
        let Some(bench) = Bench::new(&["a", "b"]).await else {
            return;
        };
        let given = failure.clone();
        let from = Instant::now() + Duration::from_secs(2);
        bench.platform.fail(move |call| {
            let is_down = Instant::now() < from && call.field != "connectorsForWorker";
            is_down.then(|| given.clone())
        });
        for (queue, first) in [("a", 0), ("b", 100)] {
            let work = format!("work-{queue}");
            bench.platform.declare(&work, 15);
            bench
                .send(
                    queue,
                    &messages(first..first + 15, &json!({"work_id": work})),
                )
                .await;
        }
        let mut worker = bench.worker(&[]);
        bench.until_works_complete(2).await;
        assert_eq!(bench.imports(), [1; 30], "{failure:?}");
        let errors: usize = bench
            .platform
            .works()
            .values()
            .map(|work| work.errors.len())
            .sum();
        assert_eq!(errors, 0, "{failure:?}");
        worker.terminate();
        assert_eq!(worker.ended().await.code, Some(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_poison_is_reported_once_and_set_aside() {
    let Some(bench) = Bench::new(&["a"]).await else {
        return;
    };
    let bundle = |objects: Value| json!({"type": "bundle", "objects": objects}).to_string();
    let encoded = |content: &str| bench::encoded(content);
    let poison = [
        json!({"content": "not base64 %"}),
        json!({"content": 7}),
        json!({}),
        json!({"content": encoded("not json")}),
        json!({"content": encoded(&bundle(json!([])))}),
        json!({"content": encoded(&bundle(json!([{"type": "identity"}])))}),
        json!({"content": encoded(&bundle(json!([{"id": "identity--1"}])))}),
        json!({"type": "unheard", "content": encoded("{}")}),
        json!({"type": "event", "content": encoded(r#"{"type":"fly","data":{"id":"a","type":"b"}}"#)}),
        json!({"content": encoded(&bundle(json!([{"id": "identity--1", "type": "identity"}])))}),
    ];
    let mut sent = Vec::new();
    for (number, mut message) in poison.into_iter().enumerate() {
        let work = format!("work-{number}");
        bench.platform.declare(&work, 1);
        message["work_id"] = work.into();
        sent.push(message);
    }
    let count = sent.len();
    bench.send("a", &sent).await;
    let mut worker = bench.worker(&[]);
    bench.until_works_complete(count).await;
    for (work, known) in bench.platform.works() {
        assert_eq!((known.processed, known.errors.len()), (1, 1), "{work}");
    }
    bench.vhost.until_ready("push_a", 0).await;
    let letters = bench.vhost.take_all("tidegate.opencti.dead").await;
    assert_eq!(letters.len(), count);
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_platform_it_is_live_and_not_ready_and_ends_at_once() {
    let Some(mut bench) = Bench::new(&["a"]).await else {
        return;
    };
    bench.url = "http://127.0.0.1:9".into();
    let mut worker = bench.worker(&[]);
    worker.logged("asking the platform for its queues").await;
    assert_eq!(worker.get("/livez").await.unwrap().0, 200);
    assert_eq!(worker.get("/readyz").await.unwrap().0, 503);
    let (_, metrics) = worker.get("/metrics").await.unwrap();
    assert!(
        metrics.contains("\ntidegate_opencti_breaker_open 0\n"),
        "{metrics}"
    );
    let begun = Instant::now();
    worker.terminate();
    assert_eq!(
        worker.ended().await.code,
        Some(0),
        "{}",
        worker.log().text()
    );
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn connectors_come_and_go() {
    let Some(bench) = Bench::new(&["a"]).await else {
        return;
    };
    let mut worker = bench.worker(&[("TIDEGATE__OPENCTI__DISCOVERY_INTERVAL", "1s")]);
    bench.until_consumed(&worker).await;
    bench.declare("b").await;
    // One that cannot be read, and one whose queue is missing, stop nobody.
    bench.connectors(&["b", "missing"], Some(json!({"id": "a", "config": null})));
    bench.vhost.until_consumers("push_b", 1).await;
    assert_eq!(bench.vhost.consumers("push_a").await, 1);
    bench.connectors(&["b"], None);
    bench.vhost.until_consumers("push_a", 0).await;
    bench.platform.declare("work", 1);
    bench
        .send("b", &messages(1..2, &json!({"work_id": "work"})))
        .await;
    bench.until_works_complete(1).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
}

//! The handler, delivery by delivery, without a broker.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tidegate::handler::{Context, Handler as _, Outcome};
use tidegate::lifecycle::DrainTrigger;
use tokio::time::{Duration, Instant};

use crate::setup;
use tidegate_platform_stub::{Call, Failure, Platform};

fn identities(count: usize) -> Value {
    let objects: Vec<_> = (0..count)
        .map(|number| {
            json!({"type": "identity", "spec_version": "2.1", "name": format!("Identity {number}"),
                "id": format!("identity--00000000-0000-4000-8000-{number:012}"), "identity_class": "organization"})
        })
        .collect();
    json!({"type": "bundle", "id": "bundle--1", "objects": objects})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_fails_for_a_while_gets_each_object_once_and_no_error() {
    let Some(program) = setup::interpreter() else {
        return;
    };
    let failures = [
        Failure::Status(503, "<html>".into(), Vec::new()),
        Failure::Status(504, "Request timed out".into(), Vec::new()),
        Failure::Name("DATABASE_ERROR"),
        Failure::Name("LOCK_ERROR"),
        Failure::Status(200, "<html>".into(), Vec::new()),
    ];
    let platform = Platform::start().await;
    let (engine, handler) = setup::handler(&platform, &program, &[]);
    for failure in failures {
        let left = AtomicUsize::new(2);
        let given = failure.clone();
        platform.fail(move |call| {
            let fails = call.is_import() && left.load(Ordering::Relaxed) > 0;
            if fails {
                left.fetch_sub(1, Ordering::Relaxed);
            }
            fails.then(|| given.clone())
        });
        platform.forget();
        let work = format!("work {failure:?}");
        let more = json!({"no_split": true, "work_id": work, "declared_expectations": 1});
        platform.declare(&work, 1);
        let delivery = setup::delivery(&identities(3), &more);
        assert_eq!(
            handler.handle(delivery, setup::context()).await,
            Outcome::Done
        );
        assert!(platform.imports().values().all(|imports| *imports == 1));
        assert_eq!(platform.imports().len(), 3);
        let work = platform.work(&work);
        assert_eq!(
            (work.expected, work.processed, work.errors.len()),
            (3, 3, 0)
        );
    }
    engine.python.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_fails_does_not_repeat_the_import() {
    let Some(program) = setup::interpreter() else {
        return;
    };
    let platform = Platform::start().await;
    let (engine, handler) = setup::handler(&platform, &program, &[]);
    let left = AtomicUsize::new(2);
    platform.fail(move |call| {
        let fails = call.field == "workEdit" && left.load(Ordering::Relaxed) > 0;
        if fails {
            left.fetch_sub(1, Ordering::Relaxed);
        }
        fails.then(|| Failure::Status(503, String::new(), Vec::new()))
    });
    let delivery = setup::delivery(&identities(1), &json!({"work_id": "work"}));
    assert_eq!(
        handler.handle(delivery, setup::context()).await,
        Outcome::Done
    );
    assert_eq!(platform.imports().values().sum::<usize>(), 1);
    assert_eq!(platform.work("work").processed, 1);
    engine.python.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_ends_a_wait_at_once_and_reports_nothing() {
    let Some(program) = setup::interpreter() else {
        return;
    };
    let platform = Platform::start().await;
    let (engine, handler) = setup::handler(&platform, &program, &[]);
    let (failed, mut has_failed) = tokio::sync::mpsc::unbounded_channel();
    platform.fail(move |call| {
        (call.is_import()).then(|| {
            failed.send(()).unwrap();
            let asked = vec![("retry-after", "600".to_owned())];
            Failure::Status(429, String::new(), asked)
        })
    });
    let drain = DrainTrigger::new();
    let context = Context::new(drain.signal());
    let delivery = setup::delivery(&identities(1), &json!({"work_id": "work"}));
    let begin = async {
        has_failed.recv().await.unwrap();
        drain.begin(Instant::now() + Duration::from_secs(25));
        Instant::now()
    };
    let (outcome, begun) = tokio::join!(handler.handle(delivery, context), begin);
    assert_eq!(outcome, Outcome::HandBack);
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(platform.work("work").processed, 0);
    engine.python.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_work_that_is_not_alive_is_done_without_a_report() {
    let Some(program) = setup::interpreter() else {
        return;
    };
    let platform = Platform::start().await;
    let (engine, handler) = setup::handler(&platform, &program, &[]);
    platform.fail(|call| (call.is_import()).then_some(Failure::Name("WORK_NOT_ALIVE")));
    let delivery = setup::delivery(&identities(1), &json!({"work_id": "work"}));
    assert_eq!(
        handler.handle(delivery, setup::context()).await,
        Outcome::Done
    );
    assert_eq!(platform.work("work").processed, 0);
    engine.python.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_does_not_wait_for_a_child_that_has_not_started() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("python");
    let started = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = started.local_addr().unwrap().port();
    let script = format!("#!/bin/bash\n: > /dev/tcp/127.0.0.1/{port}\nexec sleep 600\n");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let platform = Platform::start().await;
    let (engine, handler) = setup::handler(&platform, &program, &[]);
    let drain = DrainTrigger::new();
    let delivery = setup::delivery(&identities(1), &json!({"work_id": "work"}));
    let handled = handler.handle(delivery, Context::new(drain.signal()));
    let begin = async {
        started.accept().await.unwrap();
        drain.begin(Instant::now() + Duration::from_secs(600));
    };
    let both = async { tokio::join!(handled, begin).0 };
    let outcome = tokio::time::timeout(Duration::from_secs(30), both).await;
    assert_eq!(outcome, Ok(Outcome::HandBack));
    assert_eq!(platform.work("work").processed, 0);
    engine.python.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_chain_of_references_is_imported_whole_from_its_end() {
    let Some(program) = setup::interpreter() else {
        return;
    };
    let platform = Platform::start().await;
    let (engine, handler) = setup::handler(&platform, &program, &[]);
    let length = 1_200;
    let mut bundle = identities(length);
    let objects = bundle["objects"].as_array_mut().unwrap();
    for index in 1..length {
        objects[index - 1]["created_by_ref"] = objects[index]["id"].clone();
    }
    let last = objects[length - 1]["id"].clone();
    let more = json!({"no_split": true, "work_id": "work"});
    let delivery = setup::delivery(&bundle, &more);
    assert_eq!(
        handler.handle(delivery, setup::context()).await,
        Outcome::Done
    );
    let imports = platform.imports();
    assert_eq!(imports.len(), length);
    assert!(imports.values().all(|times| *times == 1));
    let first = platform.calls().into_iter().find(Call::is_import);
    assert_eq!(first.unwrap().variables["input"]["stix_id"], last);
    let work = platform.work("work");
    assert_eq!((work.processed, work.errors.len()), (length as u64, 0));
    engine.python.close().await;
}

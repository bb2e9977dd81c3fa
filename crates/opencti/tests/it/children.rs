//! The Python children against the stand-in of the platform.
//!
//! These tests need the real `pycti`: `scripts/pycti` makes a virtual environment. Without it they are skipped, and
//! say so.

use serde_json::value::RawValue;
use tidegate_opencti::python::{Headers, ImportRequest, Python, PythonError};
use tidegate_opencti::signs::{Cause, cause};
use tidegate_opencti::{Bundle, Origin};

use crate::setup;
use tidegate_platform_stub::{Call, Failure, Platform};

fn identity(number: u32) -> serde_json::Value {
    let id = format!("identity--00000000-0000-4000-8000-{number:012}");
    serde_json::json!({"type": "identity", "spec_version": "2.1", "id": id,
        "name": format!("Identity {number}"), "identity_class": "organization"})
}

fn raw(value: &serde_json::Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).unwrap()
}

async fn import(python: &Python, item: &RawValue, origin: &Origin) -> Result<(), PythonError> {
    python
        .import(&ImportRequest {
            connector: "connector",
            token: "token",
            headers: &Headers::new(origin, 2),
            item,
            update: false,
            types: None,
            bundle_id: "bundle--1",
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_imported_with_all_headers_and_none_is_left_for_the_next() {
    for program in setup::interpreters() {
        let platform = Platform::start().await;
        let python = setup::python(&platform, &program, &[]);
        let origin = Origin {
            applicant: Some("applicant".into()),
            work: Some("work".into()),
            draft: Some("draft".into()),
            playbook: Some("playbook".into()),
            event: Some("event".into()),
            synchronized: true,
            previous_standard: Some("previous".into()),
        };
        import(&python, &raw(&identity(1)), &origin).await.unwrap();
        import(&python, &raw(&identity(2)), &Origin::default())
            .await
            .unwrap();
        let adds: Vec<_> = platform
            .calls()
            .into_iter()
            .filter(Call::is_import)
            .collect();
        assert_eq!(adds.len(), 2);
        let header = |index: usize, name: &str| adds[index].headers.get(name).cloned();
        for (name, value) in Headers::new(&origin, 2).pairs() {
            assert_eq!(header(0, name).as_deref(), Some(value), "{name}");
        }
        for (name, _) in Headers::new(&origin, 2).pairs() {
            let expected = match name {
                "opencti-retry-number" => Some("2"),
                "synchronized-upsert" => Some("false"),
                _ => None,
            };
            assert_eq!(header(1, name).as_deref(), expected, "{name}");
        }
        assert_eq!(header(0, "authorization").as_deref(), Some("Bearer token"));
        assert!(header(0, "user-agent").unwrap().contains("worker/"));
        python.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_come_back_with_their_signs() {
    for program in setup::interpreters() {
        let platform = Platform::start().await;
        let python = setup::python(&platform, &program, &[]);
        let html = "<html><h1>503 Service Unavailable</h1></html>";
        let cases = [
            (
                Failure::Status(503, html.into(), vec![("retry-after", "7".into())]),
                Cause::Unreachable,
            ),
            (
                Failure::Status(200, html.into(), Vec::new()),
                Cause::Unreachable,
            ),
            (
                Failure::Status(401, String::new(), Vec::new()),
                Cause::Unauthorized,
            ),
            (
                Failure::Status(413, html.into(), Vec::new()),
                Cause::Invalid,
            ),
            (Failure::Name("LOCK_ERROR"), Cause::Lock),
            (
                Failure::Code("MISSING_REFERENCE_ERROR"),
                Cause::MissingReference,
            ),
            (Failure::Name("WORK_NOT_ALIVE"), Cause::WorkNotAlive),
            (Failure::Name("DRAFT_LOCKED"), Cause::DraftLocked),
            (Failure::Code("FUNCTIONAL_ERROR"), Cause::Invalid),
            (Failure::Name("SOMETHING_NEW"), Cause::Platform),
        ];
        for (failure, expected) in cases {
            let given = failure.clone();
            platform.fail(move |call| (call.is_import()).then(|| given.clone()));
            let error = import(&python, &raw(&identity(1)), &Origin::default())
                .await
                .unwrap_err();
            let sign = error.into_sign();
            assert_eq!(cause(&sign), expected, "{failure:?} gave {sign:?}");
            if let Failure::Status(503, ..) = failure {
                assert_eq!(sign.retry_after, Some(std::time::Duration::from_secs(7)));
            }
        }
        platform.recover();
        import(&python, &raw(&identity(1)), &Origin::default())
            .await
            .unwrap();
        python.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_is_not_there_is_unreachable() {
    let Some(program) = setup::interpreter() else {
        return;
    };
    let settings = setup::settings("http://127.0.0.1:9", &program, &[]);
    let python = Python::new(&settings, 2).unwrap();
    let error = import(&python, &raw(&identity(1)), &Origin::default())
        .await
        .unwrap_err();
    assert_eq!(cause(&error.into_sign()), Cause::Unreachable);
    python.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_split_in_the_order_of_its_dependencies() {
    let Some(program) = setup::interpreter() else {
        return;
    };
    let platform = Platform::start().await;
    for fork in ["true", "false"] {
        let python = setup::python(&platform, &program, &[("TIDEGATE__OPENCTI__FORK", fork)]);
        let mut report = identity(3);
        report["object_refs"] = serde_json::json!([identity(1)["id"], identity(2)["id"]]);
        let lost = serde_json::json!({"type": "relationship", "id": "relationship--1",
            "source_ref": null, "target_ref": null});
        let bundle = serde_json::json!({"type": "bundle", "id": "bundle--9",
            "objects": [report, identity(1), identity(2), lost]});
        let bundle = Bundle::read(&bundle.to_string().into()).unwrap();
        let lease = python.lease().await.unwrap();
        let split = lease.split(&bundle.json, "bundle--9", Some("\"1\""), true);
        let split = split.await.unwrap();
        assert!(split.incompatible.is_empty());
        let parts: Vec<serde_json::Value> = split
            .elements
            .iter()
            .map(|element| serde_json::from_str(element.json.get()).unwrap())
            .collect();
        let ids: Vec<_> = parts
            .iter()
            .map(|part| part["objects"][0]["id"].clone())
            .collect();
        assert_eq!(
            ids,
            [
                identity(1)["id"].clone(),
                identity(2)["id"].clone(),
                identity(3)["id"].clone(),
                "relationship--1".into()
            ]
        );
        assert_eq!(parts[0]["id"], "bundle--9");
        assert_eq!(parts[0]["x_opencti_event_version"], "1");
        let lease = python.lease().await.unwrap();
        let split = lease.split(&bundle.json, "bundle--9", None, false);
        let split = split.await.unwrap();
        assert_eq!(split.elements.len(), 3);
        assert_eq!(split.incompatible[0].id, "relationship--1");
        assert_eq!(split.elements[2].references, 2);
        assert_eq!(split.elements[2].id, identity(3)["id"]);
        python.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_chains_of_references_are_split_from_their_end() {
    for program in setup::interpreters() {
        let platform = Platform::start().await;
        let python = setup::python(&platform, &program, &[]);
        for length in [1_200, 5_000] {
            let objects: Vec<_> = (0..length)
                .map(|number| {
                    let mut object = identity(number);
                    if number + 1 < length {
                        object["created_by_ref"] = identity(number + 1)["id"].clone();
                    }
                    object
                })
                .collect();
            let bundle =
                serde_json::json!({"type": "bundle", "id": "bundle--1", "objects": objects});
            let bundle = Bundle::read(&bundle.to_string().into()).unwrap();
            let lease = python.lease().await.unwrap();
            let split = lease.split(&bundle.json, "bundle--1", None, true);
            let split = split.await.unwrap();
            assert_eq!(split.elements.len(), length as usize);
            let first: serde_json::Value =
                serde_json::from_str(split.elements[0].json.get()).unwrap();
            assert_eq!(first["objects"][0]["id"], identity(length - 1)["id"]);
        }
        python.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abandoned_request_kills_its_child_and_the_next_one_works() {
    let Some(program) = setup::interpreter() else {
        return;
    };
    let platform = Platform::start().await;
    let (asked, mut was_asked) = tokio::sync::mpsc::unbounded_channel();
    platform.fail(move |call| {
        (call.is_import()).then(|| {
            asked.send(()).unwrap();
            Failure::Hang(std::time::Duration::from_secs(600))
        })
    });
    let python = setup::python(&platform, &program, &[]);
    let (item, origin) = (raw(&identity(1)), Origin::default());
    tokio::select! {
        _ = import(&python, &item, &origin) => panic!("nothing was answered"),
        _ = was_asked.recv() => {}
    }
    platform.recover();
    import(&python, &raw(&identity(2)), &Origin::default())
        .await
        .unwrap();
    python.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_pycti_is_said_in_words() {
    let platform = Platform::start().await;
    let python = setup::python(&platform, "/usr/bin/python3".as_ref(), &[]);
    let error = python.versions().await.unwrap_err();
    let PythonError::Unavailable(text) = &error else {
        panic!("{error:?}");
    };
    assert!(text.contains("No module named 'pycti'"), "{text}");
    assert_eq!(cause(&error.into_sign()), Cause::NoChild);
    let python = setup::python(&platform, "/no/such/python".as_ref(), &[]);
    let error = python.versions().await.unwrap_err();
    assert!(
        matches!(error, PythonError::Unavailable(text) if text.contains("cannot start /no/such/python"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_is_replaced_after_so_many_requests_and_when_it_holds_too_much() {
    let Some(program) = setup::interpreter() else {
        return;
    };
    for (key, value, children) in [
        ("TIDEGATE__OPENCTI__CHILD_MAX_REQUESTS", "10", 1),
        ("TIDEGATE__OPENCTI__CHILD_MAX_REQUESTS", "2", 2),
        ("TIDEGATE__OPENCTI__CHILD_MAX_MEMORY", "1MiB", 4),
    ] {
        let platform = Platform::start().await;
        let python = setup::python(&platform, &program, &[(key, value)]);
        for number in 0..4 {
            let item = raw(&identity(number));
            import(&python, &item, &Origin::default()).await.unwrap();
        }
        // Each client of pycti asks this once, and each child has its own.
        let calls = platform.calls();
        let asked = calls
            .iter()
            .filter(|call| call.field == "vocabularyCategories");
        assert_eq!(asked.count(), children, "{key} = {value}");
        python.close().await;
    }
}

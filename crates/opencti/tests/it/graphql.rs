//! The worker's own questions to the platform.

use serde_json::json;
use tidegate_opencti::accounting::WorkError;
use tidegate_opencti::python::Headers;
use tidegate_opencti::signs::{Cause, cause};
use tidegate_opencti::{GraphQl, Origin};

use crate::setup;
use tidegate_platform_stub::{Failure, Platform};

#[tokio::test(flavor = "multi_thread")]
async fn works_are_told_with_the_messages_headers_but_not_for_the_applicant() {
    let platform = Platform::start().await;
    let headers = [("OPENCTI_CUSTOM_HEADERS", "x-gate:open")];
    let settings = setup::settings(
        &format!("{}/", platform.url()),
        "python3".as_ref(),
        &headers,
    );
    let api = GraphQl::new(&settings).unwrap();
    let origin = Origin {
        applicant: Some("applicant".into()),
        draft: Some("draft".into()),
        ..Origin::default()
    };
    let headers = Headers::new(&origin, 0);
    api.add_expectations("work", 3, &headers).await.unwrap();
    api.name_pycti("7.1");
    api.report("work", None, &headers).await.unwrap();
    let error = WorkError {
        error: "broken".into(),
        source: "{}".into(),
    };
    api.report("work", Some(&error), &headers.without_draft())
        .await
        .unwrap();
    let work = platform.work("work");
    assert_eq!(
        (work.expected, work.processed, work.errors),
        (3, 2, vec!["broken".to_owned()])
    );
    let calls = platform.calls();
    assert_eq!(calls[1].variables, json!({"id": "work", "error": null}));
    assert_eq!(calls[1].headers["opencti-draft-id"], "draft");
    assert_eq!(calls[1].headers["x-gate"], "open");
    let agent = &calls[1].headers["user-agent"];
    assert!(agent.starts_with("pycti/7.1 worker/"), "{agent}");
    assert_eq!(calls[1].headers["authorization"], "Bearer token");
    assert!(
        !calls
            .iter()
            .any(|call| call.headers.contains_key("opencti-applicant-id"))
    );
    assert!(!calls[2].headers.contains_key("opencti-draft-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_file_is_read_again() {
    let platform = Platform::start().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, "first\n").unwrap();
    let path = file.display().to_string();
    let variables = [
        ("OPENCTI_TOKEN", ""),
        ("TIDEGATE__OPENCTI__TOKEN_FILE", &path),
    ];
    let settings = setup::settings(&platform.url(), "python3".as_ref(), &variables);
    let api = GraphQl::new(&settings).unwrap();
    platform.fail(|call| {
        let known = call.headers["authorization"] == "Bearer second";
        (!known).then_some(Failure::Name("AUTH_REQUIRED"))
    });
    let sign = api.version().await.unwrap_err();
    assert_eq!(cause(&sign), Cause::Unauthorized);
    assert!(!api.reload_token().unwrap());
    std::fs::write(&file, "second").unwrap();
    assert!(api.reload_token().unwrap());
    assert_eq!(api.version().await.unwrap(), "7.261026.0");
    // Whoever writes the file may have emptied it first.
    std::fs::write(&file, "\n").unwrap();
    assert!(api.reload_token().is_err());
    assert_eq!(api.version().await.unwrap(), "7.261026.0");
    assert!(GraphQl::new(&settings).is_err());
}

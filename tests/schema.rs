//! The committed schemas are those of the messages that the program sends.

use std::path::Path;

use tidegate::cli::schema;
use tidegate::status::wire::Kind;

#[test]
fn the_committed_schemas_are_fresh() {
    for document in schema::documents() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("docs/schema")
            .join(document.file_name());
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            committed,
            document.text(),
            "{} is stale: run `tidegate schema --dir docs/schema`",
            path.display()
        );
    }
}

#[test]
fn the_example_of_the_protocol_obeys_its_schema() {
    let schema = serde_json::to_value(Kind::State.schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let example = serde_json::json!({
        "v": 1, "worker": "web-1-01K", "name": "web-1", "seq": 3,
        "at": "2026-11-23T10:00:00.000Z", "lease_ms": 30500, "phase": "draining", "deadline_ms": 25000,
        "host": "web-1", "pid": 7, "version": "0.1.0", "started_at": "2026-11-23T09:00:00.000Z",
        "reason": "SIGTERM",
        "nodes": [{"queue": "orders", "type": "quorum", "handler": "http", "slots": 8, "prefetch": 16,
                   "phase": "draining"}],
    });
    assert!(validator.is_valid(&example));
    let mut wrong = example;
    wrong["phase"] = "resting".into();
    assert!(!validator.is_valid(&wrong), "an unknown phase is no state");
}

#[test]
fn every_example_in_the_protocol_obeys_its_schema() {
    let page = include_str!("../docs/status-protocol.md");
    for document in schema::documents() {
        let schema: serde_json::Value = serde_json::from_str(&document.text()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let file = document.file_name();
        let kind = file.split('.').next().unwrap();
        let mark = format!("```json {kind}\n");
        let mut examples = 0;
        for block in page.split(&mark).skip(1) {
            let example = block.split("```").next().unwrap();
            let example = serde_json::from_str(example).unwrap();
            let errors: Vec<_> = validator
                .iter_errors(&example)
                .map(|e| e.to_string())
                .collect();
            assert!(errors.is_empty(), "{errors:?} in {example}");
            examples += 1;
        }
        assert!(examples > 0, "the page shows no {kind}");
    }
}

#[test]
fn the_committed_description_of_the_api_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == tidegate::fleet::openapi::text(),
        "{} is stale: run `tidegate schema --openapi > docs/openapi.json`",
        path.display()
    );
}

#[test]
fn every_schema_that_the_description_refers_to_is_there() {
    let document = tidegate::fleet::openapi::document();
    let text = document.to_string();
    let mut count = 0;
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
        count += 1;
    }
    assert!(count > 50, "{count}");
}

//! The committed schemas are those of the messages that the program sends.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tidegate::internal::status::wire::Kind;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What `tidegate schema` with `arguments` prints.
fn schema(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("schema")
        .args(arguments)
        .output()
        .expect("the program starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("it prints text")
}

/// Every schema that the program writes, by the name of its file.
fn documents() -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    schema(&["--dir", &folder.path().to_string_lossy()]);
    let files = std::fs::read_dir(folder.path()).expect("the folder is there");
    files
        .map(|file| {
            let path = file.expect("the folder can be read").path();
            let name = path.file_name().expect("a file has a name");
            let text = std::fs::read_to_string(&path).expect("it was written");
            (name.to_string_lossy().into_owned(), text)
        })
        .collect()
}

#[test]
fn the_committed_schemas_are_fresh() {
    let documents = documents();
    assert_eq!(documents.len(), Kind::ALL.len() + 2, "{documents:?}");
    for (name, text) in documents {
        let path = root().join("docs/schema").join(name);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(
            committed,
            text,
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
    for (file, text) in documents() {
        let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
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
    let path = root().join("docs/openapi.json");
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == schema(&["--openapi"]),
        "{} is stale: run `tidegate schema --openapi > docs/openapi.json`",
        path.display()
    );
}

#[test]
fn every_schema_that_the_description_refers_to_is_there() {
    let text = schema(&["--openapi"]);
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    let mut count = 0;
    for reference in text.split("\"$ref\": \"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
        count += 1;
    }
    assert!(count > 50, "{count}");
}

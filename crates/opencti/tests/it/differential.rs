//! The worker against pycti's own `import_bundle`: the same mutations in the same order, and the same reports.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tidegate::handler::{Handler as _, Outcome};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Duration, timeout};

use crate::setup;
use tidegate_platform_stub::{Call, Platform};

/// Imports the bundle on standard input as the platform's worker does.
const REFERENCE: &str = r#"
import json, sys, threading
from pycti import OpenCTIApiClient
sys.setrecursionlimit(30000)
threading.stack_size(512 << 20)
def run():
    url, work, bundle = json.loads(sys.stdin.read())
    api = OpenCTIApiClient(url, "token", "error", False, json_logging=True, perform_health_check=False, provider="worker/0.1.0")
    api.set_applicant_id_header("applicant")
    api.set_work_id(work)
    api.stix2.import_bundle(bundle, True, None, work, 0)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"#;

async fn reference(program: &Path, platform: &Platform, bundle: &Value) {
    let mut process = tokio::process::Command::new(program)
        .args(["-I", "-c", REFERENCE])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let input = json!([platform.url(), "work", bundle]).to_string();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).await.unwrap();
    drop(stdin);
    let output = process.wait_with_output().await.unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !errors.contains("Traceback"),
        "{errors}"
    );
}

/// A simple generator of numbers, the same in every run (Knuth's constants).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// A bundle of many types, with references that go back and forth, to nothing, and to the object itself.
fn bundle(seed: u64, size: usize) -> Value {
    let mut numbers = Numbers(seed);
    let kinds = [
        "identity",
        "malware",
        "indicator",
        "report",
        "relationship",
        "ipv4-addr",
        "note",
        "sighting",
        "tool",
    ];
    let chosen: Vec<_> = (0..size)
        .map(|_| kinds[numbers.below(kinds.len())])
        .collect();
    let id = |index: usize| format!("{}--{seed:08x}-0000-4000-8000-{index:012x}", chosen[index]);
    let mut objects: Vec<Value> = Vec::new();
    for (index, kind) in chosen.iter().enumerate() {
        let mut any = |dangling: bool| {
            if dangling && numbers.below(12) == 0 {
                "identity--ffffffff-0000-4000-8000-000000000000".to_owned()
            } else {
                id(numbers.below(size))
            }
        };
        let created = "2026-01-01T00:00:00.000Z";
        let mut object = json!({"type": kind, "spec_version": "2.1", "id": id(index), "created": created,
            "modified": created, "name": format!("{kind} {index}"), "labels": ["one", "two"],
            "external_references": [{"source_name": "s", "url": "http://e/1"}, {"source_name": "s", "url": "http://e/1"}]});
        let more = match *kind {
            "identity" => json!({"identity_class": "organization", "created_by_ref": any(true)}),
            "malware" => {
                json!({"is_family": true, "kill_chain_phases": [{"kill_chain_name": "k", "phase_name": "p"}]})
            }
            "indicator" => {
                json!({"pattern": "[ipv4-addr:value = '1.1.1.1']", "pattern_type": "stix", "valid_from": created})
            }
            "report" => {
                json!({"published": created, "object_refs": [any(true), any(false), any(false)]})
            }
            "note" => json!({"content": "text", "object_refs": [any(false)]}),
            "relationship" => {
                json!({"relationship_type": "related-to", "source_ref": any(true), "target_ref": any(false)})
            }
            "sighting" => {
                json!({"sighting_of_ref": any(false), "where_sighted_refs": [any(false)]})
            }
            "ipv4-addr" => json!({"value": format!("10.0.{}.{}", index / 256, index % 256)}),
            _ => json!({}),
        };
        object
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        objects.push(object);
    }
    json!({"type": "bundle", "id": format!("bundle--{seed}"), "objects": objects})
}

fn knowledge(calls: &[Call]) -> Vec<(String, Value)> {
    calls
        .iter()
        .filter(|call| call.field != "workEdit")
        .map(|call| (call.field.clone(), call.variables.clone()))
        .collect()
}

/// The reports, in any order: ours come when all is imported.
fn reports(calls: &[Call]) -> Vec<String> {
    let reports = calls.iter().filter(|call| call.field == "workEdit");
    let mut reports: Vec<_> = reports.map(|call| call.variables.to_string()).collect();
    reports.sort();
    reports
}

/// Seeds and sizes of bundles.
const BUNDLES: [(u64, usize); 6] = [(1, 1), (2, 2), (3, 9), (4, 40), (5, 40), (6, 150)];

#[tokio::test(flavor = "multi_thread")]
async fn generated_bundles_are_imported_as_pycti_imports_them() {
    if let Some(program) = setup::interpreter() {
        for (seed, size) in BUNDLES {
            compare(&program, seed, size).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_bundles_are_imported_as_the_oldest_pycti_imports_them() {
    if let Some(program) = setup::oldest_interpreter() {
        for (seed, size) in BUNDLES {
            compare(&program, seed, size).await;
        }
    }
}

async fn compare(program: &Path, seed: u64, size: usize) {
    let bundle = bundle(seed, size);
    let theirs = Platform::start().await;
    reference(program, &theirs, &bundle).await;
    let ours = Platform::start().await;
    let (engine, handler) = setup::handler(&ours, program, &[]);
    let more =
        json!({"no_split": true, "work_id": "work", "applicant_id": "applicant", "update": true});
    let of = format!("bundle {seed} with {}", program.display());
    let expected = knowledge(&theirs.calls());
    assert!(!expected.is_empty(), "{of}");
    let handled = handler.handle(setup::delivery(&bundle, &more), setup::context());
    if theirs.work("work").errors.is_empty() {
        assert_eq!(handled.await, Outcome::Done, "{of}");
        assert_eq!(reports(&ours.calls()), reports(&theirs.calls()), "{of}");
    } else {
        // Incompatible objects are set aside before they are reported, and there is no broker here to take them.
        let all = ours.until_called(|calls| knowledge(calls).len() >= expected.len());
        tokio::select! {
            outcome = handled => panic!("{of}: {outcome:?}"),
            waited = timeout(Duration::from_secs(120), all) => waited.expect("all is imported"),
        }
    }
    assert_eq!(knowledge(&ours.calls()), expected, "{of}");
    engine.python.close().await;
}

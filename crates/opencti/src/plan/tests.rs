//! The plans of messages.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;

fn body(content: &str, more: &Value) -> Bytes {
    let mut message =
        json!({"type": "bundle", "content": STANDARD.encode(content), "work_id": "work--1"});
    for (key, value) in more.as_object().unwrap() {
        message[key] = value.clone();
    }
    message.to_string().into()
}

fn bundle(ids: &[&str]) -> String {
    let objects: Vec<_> = ids
        .iter()
        .map(|id| json!({"id": id, "type": "label"}))
        .collect();
    json!({"type": "bundle", "id": "bundle--7", "objects": objects}).to_string()
}

fn import(body: &Bytes) -> Import {
    match plan(body) {
        Plan::Import(import) => import,
        other => panic!("{other:?}"),
    }
}

fn poison(body: &Bytes) -> (String, Origin) {
    match plan(body) {
        Plan::Poison { reason, origin } => (reason, origin),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_object_is_imported() {
    let import = import(&body(
        &bundle(&["a"]),
        &json!({"update": true, "entities_types": ["Label"], "applicant_id": "user"}),
    ));
    assert!(import.update && import.limited && !import.long);
    assert_eq!(import.bundle_id, "bundle--7");
    assert_eq!(import.types, Some(vec!["Label".to_owned()]));
    assert_eq!(import.origin.applicant.as_deref(), Some("user"));
    assert_eq!(import.declare, 0);
}

#[test]
fn several_objects_are_split_unless_the_message_forbids_it() {
    let two = bundle(&["a", "b"]);
    assert!(matches!(
        plan(&body(&two, &json!({}))),
        Plan::Split { bundle, bundle_id, .. } if bundle.objects == 2 && bundle_id == "bundle--7"
    ));
    assert_eq!(
        import(&body(&two, &json!({"no_split": true})))
            .bundle
            .objects,
        2
    );
}

#[test]
fn what_was_declared_is_not_declared_again() {
    let three = bundle(&["a", "b", "c", "a"]);
    for (declared, declare) in [
        (json!(1), 2),
        (json!(3), 0),
        (json!(9), 0),
        (json!(null), 0),
    ] {
        let more = json!({"no_split": true, "declared_expectations": declared});
        assert_eq!(import(&body(&three, &more)).declare, declare);
    }
}

#[test]
fn an_event_becomes_a_bundle_of_one() {
    for kind in ["create", "update", "delete", "rule_apply", "revert_draft"] {
        let event = json!({"type": kind, "data": {"id": "a", "type": "label", "content": "kept"}});
        let body = body(&event.to_string(), &json!({"type": "event"}));
        let import = import(&body);
        assert!(import.update && !import.limited);
        assert_eq!(import.long, kind == "rule_apply");
        let made: Value = serde_json::from_slice(&import.bundle.json).unwrap();
        assert_eq!(made["id"], import.bundle_id);
        assert_eq!(made["objects"][0]["content"], "kept");
        let operation = &made["objects"][0]["opencti_operation"];
        match kind {
            "create" | "update" => assert!(operation.is_null()),
            _ => assert_eq!(operation, kind),
        }
    }
}

#[test]
fn a_merge_names_target_and_sources() {
    let event = json!({"type": "merge", "data": {"id": "a", "type": "label"},
        "context": {"sources": [{"id": "b", "x": 1}, {"id": "c"}]}});
    let import = import(&body(&event.to_string(), &json!({"type": "event"})));
    let made: Value = serde_json::from_slice(&import.bundle.json).unwrap();
    assert_eq!(made["objects"][0]["merge_target_id"], "a");
    assert_eq!(made["objects"][0]["merge_source_ids"], json!(["b", "c"]));
}

#[test]
fn a_bundle_without_an_id_has_the_same_id_at_each_try() {
    let text = json!({"type": "bundle", "objects": [{"id": "a", "type": "label"}]}).to_string();
    let body = body(&text, &json!({}));
    assert_eq!(import(&body).bundle_id, import(&body).bundle_id);
    assert!(import(&body).bundle_id.starts_with("bundle--"));
}

#[test]
fn each_kind_of_poison_says_why_and_keeps_the_work() {
    let one = bundle(&["a"]);
    let cases = [
        (body("{", &json!({})), "the content is not a JSON object"),
        (body(&one, &json!({"content": "*"})), "not base64"),
        (
            body(&one, &json!({"content": 1})),
            r#""content" must be text"#,
        ),
        (
            body(&one, &json!({"type": "other"})),
            r#"the type "other" is unknown"#,
        ),
        (
            body(&one, &json!({"update": "x"})),
            r#""update" must be true or false"#,
        ),
        (
            body(&one, &json!({"draft_id": 5})),
            r#""draft_id" must be text"#,
        ),
        (body(&bundle(&[]), &json!({})), "no objects"),
        (body("{}", &json!({"type": "event"})), "not an event"),
        (
            body(r#"{"type":"fly","data":{}}"#, &json!({"type": "event"})),
            r#"the event type "fly" is unknown"#,
        ),
        (
            body(
                r#"{"type":"merge","data":{"id":"a"}}"#,
                &json!({"type": "event"}),
            ),
            r#"the merge has no "context""#,
        ),
        (
            body(
                r#"{"type":"create","data":{"id":"a"}}"#,
                &json!({"type": "event"}),
            ),
            r#"has no "type""#,
        ),
    ];
    for (body, why) in cases {
        let (reason, origin) = poison(&body);
        assert!(reason.contains(why), "{reason}");
        assert_eq!(origin.work.as_deref(), Some("work--1"), "{reason}");
    }
    assert_eq!(poison(&Bytes::from_static(b"rubbish")).1, Origin::default());
}

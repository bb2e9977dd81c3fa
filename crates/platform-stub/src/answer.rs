//! Reads requests, and answers them as `pycti` expects.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use crate::{Call, State};

/// Reads a request, a multipart one included.
pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Call {
    let kind = headers["content-type"]
        .to_str()
        .expect("the stand-in knows what is asked of it");
    let multipart = kind.starts_with("multipart/form-data");
    let operation: Value = if multipart {
        let text = String::from_utf8_lossy(body);
        let start = text
            .find("name=\"operations\"")
            .expect("operations come first");
        let json = &text[start
            + text[start..]
                .find("\r\n\r\n")
                .expect("the stand-in knows what is asked of it")
            + 4..];
        serde_json::from_str(
            &json[..json
                .find("\r\n")
                .expect("the stand-in knows what is asked of it")],
        )
        .expect("the stand-in knows what is asked of it")
    } else {
        serde_json::from_slice(body).expect("the stand-in knows what is asked of it")
    };
    let query = operation["query"]
        .as_str()
        .expect("the stand-in knows what is asked of it");
    let (name, rest) = field(
        &query[query
            .find('{')
            .expect("the stand-in knows what is asked of it")
            + 1..],
    );
    let inner = rest.find('{').map(|start| field(&rest[start + 1..]).0);
    let known = |name: &str| {
        name.starts_with("opencti-")
            || [
                "authorization",
                "user-agent",
                "synchronized-upsert",
                "previous-standard",
            ]
            .contains(&name)
            || name.starts_with("x-")
    };
    Call {
        field: name.to_owned(),
        inner: inner.unwrap_or_default().to_owned(),
        variables: operation["variables"].clone(),
        headers: headers
            .iter()
            .filter(|(name, _)| known(name.as_str()))
            .map(|(name, value)| {
                (
                    name.to_string(),
                    value
                        .to_str()
                        .expect("the stand-in knows what is asked of it")
                        .to_owned(),
                )
            })
            .collect(),
        multipart,
    }
}

/// The first field of a selection, and what follows it.
fn field(selection: &str) -> (&str, &str) {
    let selection = selection.trim_start();
    let end = selection
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(selection.len());
    selection.split_at(end)
}

pub(crate) fn answer(state: &mut State, call: &Call) -> Value {
    let id = call.variables["input"]["stix_id"]
        .as_str()
        .or(call.variables["id"].as_str());
    let object = json!({"id": id.unwrap_or("id"), "standard_id": id.unwrap_or("id"),
        "entity_type": "Thing", "parent_types": [], "value": "v", "key": "k"});
    let connection = json!({"edges": [], "pageInfo": {"startCursor": null, "endCursor": null,
        "hasNextPage": false, "hasPreviousPage": false, "globalCount": 0}});
    let data = match call.field.as_str() {
        "connectorsForWorker" => state.connectors.clone(),
        "about" => json!({"version": state.version}),
        "connectorJWT" => json!("jwt"),
        "vocabularyCategories" => json!([]),
        "workEdit" => {
            let work = call.variables["id"]
                .as_str()
                .expect("the stand-in knows what is asked of it")
                .to_owned();
            let work = state.works.entry(work).or_default();
            if call.inner == "addExpectations" {
                work.expected += call.variables["expectations"]
                    .as_u64()
                    .expect("the stand-in knows what is asked of it");
            } else {
                work.processed += 1;
                let error = call.variables["error"]["error"].as_str();
                work.errors.extend(error.map(str::to_owned));
            }
            json!({ call.inner.as_str(): "ok" })
        }
        name if name.ends_with('s') && call.inner == "edges" => connection,
        name if name.ends_with("Edit") || name.ends_with("Delete") => {
            json!({ call.inner.as_str(): object })
        }
        "ruleApplyAsync" => json!(true),
        _ => object,
    };
    json!({ call.field.as_str(): data })
}

//! What a message of a push queue asks for.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::bundle::Bundle;
use crate::identity;
use crate::message::{Message, MessageError, Origin};
use crate::raw_object::RawObject;

/// Operations that an event asks for; the object carries them as `opencti_operation`.
const OPERATIONS: [&str; 12] = [
    "merge",
    "delete",
    "restore",
    "delete_force",
    "share",
    "unshare",
    "rule_apply",
    "rule_clear",
    "rules_rescan",
    "enrichment",
    "clear_access_restriction",
    "revert_draft",
];

/// Operations that the platform may take hours for.
const LONG: [&str; 2] = ["rule_apply", "rules_rescan"];

/// What a message asks for.
#[derive(Debug)]
pub enum Plan {
    /// Split the bundle, and publish each part as a message of its own.
    Split {
        /// The message, whose keys the parts keep.
        message: Message,
        /// For whom.
        origin: Origin,
        /// The bundle, more than one object.
        bundle: Bundle,
        /// The bundle's id.
        bundle_id: String,
    },
    /// Import the bundle's objects one by one.
    Import(Import),
    /// Nothing can be done: report once if a work is known, then dead-letter.
    Poison {
        /// What is wrong.
        reason: String,
        /// For whom; whatever could be read of it.
        origin: Origin,
    },
}

/// An import of a bundle's objects.
#[derive(Debug)]
pub struct Import {
    /// The message, which a rejected object is published in.
    pub message: Message,
    /// For whom.
    pub origin: Origin,
    /// The bundle.
    pub bundle: Bundle,
    /// The bundle's id, the same at each try.
    pub bundle_id: String,
    /// Whether entities that match several existing ones are merged.
    pub update: bool,
    /// The types of objects to import; `None` means all.
    pub types: Option<Vec<String>>,
    /// Whether the limit on references applies.
    pub limited: bool,
    /// Expectations that the platform has to be told before the import, beyond those declared.
    pub declare: u64,
    /// Whether an object's import may take hours.
    pub long: bool,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct MergeContext {
    sources: Vec<Source>,
}

#[derive(Deserialize)]
struct Source {
    id: String,
}

/// Decides what `body` asks for. Never fails: what cannot be done is [`Plan::Poison`].
pub fn plan(body: &Bytes) -> Plan {
    let message = match Message::read(body) {
        Ok(message) => message,
        Err(error) => {
            return Plan::Poison {
                reason: error.to_string(),
                origin: Origin::default(),
            };
        }
    };
    // If only another key is broken, the work is still told.
    let origin = message.origin().unwrap_or_else(|_reported_below| Origin {
        work: message.text("work_id").ok().flatten(),
        applicant: message.text("applicant_id").ok().flatten(),
        ..Origin::default()
    });
    of_message(message, body).unwrap_or_else(|reason| Plan::Poison { reason, origin })
}

fn of_message(message: Message, body: &[u8]) -> Result<Plan, String> {
    let say = |error: MessageError| error.to_string();
    let origin = message.origin().map_err(say)?;
    let kind = message.text("type").map_err(say)?;
    let content = message.content().map_err(say)?;
    let types = message.list("entities_types").map_err(say)?;
    match kind.as_deref().unwrap_or("bundle") {
        "bundle" => {}
        "event" => {
            let bundle_id = identity::bundle_id(body);
            let (content, long) = event_bundle(&content, &bundle_id)?;
            return Ok(Plan::Import(Import {
                bundle: Bundle::read(&content).map_err(|error| error.to_string())?,
                message,
                origin,
                bundle_id,
                update: true,
                types,
                limited: false,
                declare: 0,
                long,
            }));
        }
        other => {
            return Err(format!(
                "the type {other:?} is unknown; known are bundle and event"
            ));
        }
    }
    let bundle = Bundle::read(&content).map_err(|error| error.to_string())?;
    let bundle_id = bundle
        .id
        .clone()
        .unwrap_or_else(|| identity::bundle_id(body));
    if bundle.objects > 1 && !message.flag("no_split").map_err(say)? {
        return Ok(Plan::Split {
            message,
            origin,
            bundle,
            bundle_id,
        });
    }
    let declared = message.number("declared_expectations").map_err(say)?;
    let distinct = bundle.distinct as u64;
    Ok(Plan::Import(Import {
        update: message.flag("update").map_err(say)?,
        long: LONG
            .iter()
            .any(|operation| contains(&bundle.json, operation.as_bytes())),
        message,
        origin,
        bundle,
        bundle_id,
        types,
        limited: true,
        declare: declared.map_or(0, |declared| distinct.saturating_sub(declared)),
    }))
}

/// A bundle of the event's one object, and whether its import may take hours.
fn event_bundle(content: &Bytes, bundle_id: &str) -> Result<(Bytes, bool), String> {
    let event: Event<'_> = serde_json::from_slice(content)
        .map_err(|error| format!("the content is not an event with type and data: {error}"))?;
    let object = RawObject::read(&content.slice_ref(event.data.get().as_bytes()))
        .map_err(|error| format!("the event's data is not an object: {error}"))?;
    let mut changes: Vec<(&str, Value)> = Vec::new();
    let kind = event.kind.as_str();
    match kind {
        "create" | "update" => {}
        "merge" => {
            let target = object.get("id").ok_or("the event's data has no \"id\"")?;
            let target = serde_json::from_slice(target).map_err(|error| error.to_string())?;
            let context = event.context.ok_or("the merge has no \"context\"")?;
            let context: MergeContext = serde_json::from_str(context.get())
                .map_err(|error| format!("the merge's context has no sources with ids: {error}"))?;
            let sources = context.sources.into_iter().map(|source| source.id);
            changes.push(("opencti_operation", kind.into()));
            changes.push(("merge_target_id", target));
            changes.push(("merge_source_ids", sources.collect()));
        }
        kind if OPERATIONS.contains(&kind) => changes.push(("opencti_operation", kind.into())),
        _ => return Err(format!("the event type {kind:?} is unknown")),
    }
    let object = object.with(&changes);
    let mut bundle = format!(r#"{{"type":"bundle","id":"{bundle_id}","objects":["#).into_bytes();
    bundle.extend_from_slice(&object);
    bundle.extend_from_slice(b"]}");
    Ok((bundle.into(), LONG.contains(&kind)))
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

#[cfg(test)]
mod tests;

//! Where an object goes that is given up.
//!
//! The platform has a routing key of its own for rejected objects. Only what its worker publishes there may go
//! there, in exactly that form: an object with too many references, or one whose runs are used up. All else
//! goes to [`QUEUE`].

use bytes::Bytes;
use serde_json::{Value, json};

use crate::message::Message;
use crate::raw_object::RawObject;

/// The queue of our own dead letters.
pub const QUEUE: &str = "tidegate.opencti.dead";

/// Header: the id of the connector whose queue the message came from.
pub const CONNECTOR: &str = "x-tidegate-connector";
/// Header: that connector's name.
pub const CONNECTOR_NAME: &str = "x-tidegate-connector-name";
/// Header: the user in whose name the message was to be imported.
pub const APPLICANT: &str = "x-tidegate-applicant";
/// Header: the work that the message belonged to. If that was told of the failure, the body has no work any more.
pub const WORK: &str = "x-tidegate-work";
/// Header: `true` if the work was told of the failure. A replay of such a letter must not report again.
pub const REPORTED: &str = "x-tidegate-reported";

/// Why an object goes to the platform's own dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlatformReason {
    /// `ELEMENT_TOO_LARGE`: it has at least this many references.
    TooLarge {
        /// `WORKER_OBJECTS_MAX_REFS`.
        objects_max_refs: u64,
    },
    /// `MAX_RETRY`: its runs are used up.
    MaxRetry {
        /// The last failure.
        last_error: String,
    },
}

/// The body of a letter to the platform's routing key: the message as it was received, with the bare object and
/// its `rejection_info` as content. `None` if `object` is not a JSON object.
pub fn platform_letter(
    message: &Message,
    object: &str,
    reason: &PlatformReason,
    connector: &str,
) -> Option<Bytes> {
    let info = match reason {
        PlatformReason::TooLarge { objects_max_refs } => json!({
            "reject_reason": "ELEMENT_TOO_LARGE",
            "objects_max_refs": objects_max_refs,
            "original_connector_id": connector,
        }),
        PlatformReason::MaxRetry { last_error } => json!({
            "reject_reason": "MAX_RETRY",
            "last_error_msg": last_error,
            "original_connector_id": connector,
        }),
    };
    let object = RawObject::read(&Bytes::copy_from_slice(object.as_bytes())).ok()?;
    let content = object.with(&[("rejection_info", info)]);
    Some(message.body_with_content(&content, &[]))
}

/// The body of a letter to [`QUEUE`] for one of several objects: the message with a bundle of that object, which
/// a replay imports as it is.
pub fn single_letter(message: &Message, object: &str, bundle_id: &str) -> Bytes {
    let id = Value::from(bundle_id);
    let content =
        format!(r#"{{"type":"bundle","id":{id},"spec_version":"2.1","objects":[{object}]}}"#);
    // The key would make a replay of this one object declare the expectations of all.
    message.body_with_content(
        content.as_bytes(),
        &[
            ("type", "bundle".into()),
            ("no_split", true.into()),
            ("declared_expectations", Value::Null),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, plan};

    fn message() -> Message {
        let body = br#"{"type":"bundle","work_id":"w","content":"e30=","update":false}"#;
        Message::read(&Bytes::from_static(body)).unwrap()
    }

    fn content(body: &Bytes) -> Value {
        let content = Message::read(body).unwrap().content().unwrap();
        serde_json::from_slice(&content).unwrap()
    }

    #[test]
    fn the_platforms_letters_have_its_exact_form() {
        let object = r#"{"id":"report--1","type":"report","nb_deps":3}"#;
        let reason = PlatformReason::TooLarge {
            objects_max_refs: 3,
        };
        let body = platform_letter(&message(), object, &reason, "connector").unwrap();
        assert_eq!(
            content(&body),
            json!({"id": "report--1", "type": "report", "nb_deps": 3, "rejection_info": {
                "reject_reason": "ELEMENT_TOO_LARGE", "objects_max_refs": 3,
                "original_connector_id": "connector"}})
        );
        let message_keys: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(message_keys["work_id"], "w");
        assert_eq!(message_keys["update"], false);
        let reason = PlatformReason::MaxRetry {
            last_error: "LOCK_ERROR".into(),
        };
        let body = platform_letter(&message(), object, &reason, "connector").unwrap();
        assert_eq!(
            content(&body)["rejection_info"],
            json!({"reject_reason": "MAX_RETRY", "last_error_msg": "LOCK_ERROR",
                "original_connector_id": "connector"})
        );
    }

    #[test]
    fn a_letter_of_one_object_is_imported_without_a_split() {
        let body = single_letter(&message(), r#"{"id":"a","type":"label"}"#, "bundle--\"1");
        let Plan::Import(import) = plan(&body) else {
            panic!("a letter of one object is an import");
        };
        assert_eq!(import.bundle.objects, 1);
        assert_eq!(import.bundle_id, "bundle--\"1");
        assert_eq!(import.declare, 0);
    }
}

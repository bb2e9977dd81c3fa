//! A message as the platform or a connector published it.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use serde_json::Value;

use crate::raw_object::RawObject;

/// Python publishes with padding; the padding of other publishers does not matter.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A message of a push queue: a JSON object whose keys and values are kept exactly, in their order.
#[derive(Debug, Clone)]
pub struct Message {
    object: RawObject,
}

/// For whom and for what a message is imported: what goes into the request headers and the reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    /// The user in whose name the import runs.
    pub applicant: Option<String>,
    /// The work that expects a report for each object.
    pub work: Option<String>,
    /// The draft workspace that the objects go to.
    pub draft: Option<String>,
    /// The playbook that published the message.
    pub playbook: Option<String>,
    /// The event that published the message.
    pub event: Option<String>,
    /// Whether the objects come from a synchronized platform.
    pub synchronized: bool,
    /// The standard id that the object had before.
    pub previous_standard: Option<String>,
}

/// Why a message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// The body is not a JSON object.
    #[error("the body is not a JSON object: {0}")]
    Json(String),
    /// A key that is needed is missing.
    #[error("the key {0:?} is missing")]
    Missing(&'static str),
    /// A key has a value of the wrong type.
    #[error("the key {key:?} must be {rule}")]
    Type {
        /// The key.
        key: &'static str,
        /// What the value must be.
        rule: &'static str,
    },
    /// `content` is not base64.
    #[error("the key \"content\" is not base64: {0}")]
    Base64(String),
}

impl Message {
    /// Reads a body.
    ///
    /// # Errors
    /// The body is not a JSON object.
    pub fn read(body: &Bytes) -> Result<Self, MessageError> {
        RawObject::read(body)
            .map(|object| Self { object })
            .map_err(|error| MessageError::Json(error.to_string()))
    }

    /// The text at `key`; an empty text counts as absent.
    ///
    /// # Errors
    /// The value is not text.
    pub fn text(&self, key: &'static str) -> Result<Option<String>, MessageError> {
        let rule = "text";
        let Some(raw) = self.object.get(key) else {
            return Ok(None);
        };
        let text: String =
            serde_json::from_slice(raw).map_err(|_type| MessageError::Type { key, rule })?;
        Ok(Some(text).filter(|text| !text.is_empty()))
    }

    /// The truth at `key`; absent means false.
    ///
    /// # Errors
    /// The value is neither `true` nor `false`.
    pub fn flag(&self, key: &'static str) -> Result<bool, MessageError> {
        let rule = "true or false";
        self.object.get(key).map_or(Ok(false), |raw| {
            serde_json::from_slice(raw).map_err(|_type| MessageError::Type { key, rule })
        })
    }

    /// The whole number at `key`.
    ///
    /// # Errors
    /// The value is not a whole number from 0 on.
    pub fn number(&self, key: &'static str) -> Result<Option<u64>, MessageError> {
        let rule = "a whole number from 0 on";
        self.object
            .get(key)
            .map(|raw| {
                serde_json::from_slice(raw).map_err(|_type| MessageError::Type { key, rule })
            })
            .transpose()
    }

    /// The list of texts at `key`; an empty list counts as absent.
    ///
    /// # Errors
    /// The value is not a list of texts.
    pub fn list(&self, key: &'static str) -> Result<Option<Vec<String>>, MessageError> {
        let rule = "a list of texts";
        let list: Option<Vec<String>> = self
            .object
            .get(key)
            .map(|raw| {
                serde_json::from_slice(raw).map_err(|_type| MessageError::Type { key, rule })
            })
            .transpose()?;
        Ok(list.filter(|list| !list.is_empty()))
    }

    /// The decoded `content`. White space inside the base64 is skipped, as Python does.
    ///
    /// # Errors
    /// `content` is missing, no text, or not base64.
    pub fn content(&self) -> Result<Bytes, MessageError> {
        let raw = self
            .object
            .get("content")
            .ok_or(MessageError::Missing("content"))?;
        // Text without escapes and white space is decoded where it stands.
        let is_odd = |byte: &u8| *byte == b'\\' || byte.is_ascii_whitespace();
        let plain = raw
            .strip_prefix(b"\"")
            .and_then(|raw| raw.strip_suffix(b"\""))
            .filter(|text| !text.iter().any(is_odd));
        let content = match plain {
            Some(text) if !text.is_empty() => BASE64.decode(text),
            _ => {
                let text = self.text("content")?;
                let text = text.ok_or(MessageError::Missing("content"))?;
                let mut text = text.into_bytes();
                text.retain(|byte| !byte.is_ascii_whitespace());
                BASE64.decode(text)
            }
        };
        let content = content.map_err(|error| MessageError::Base64(error.to_string()))?;
        Ok(content.into())
    }

    /// For whom and for what the message is imported.
    ///
    /// # Errors
    /// A key has a value of the wrong type.
    pub fn origin(&self) -> Result<Origin, MessageError> {
        Ok(Origin {
            applicant: self.text("applicant_id")?,
            work: self.text("work_id")?,
            draft: self.text("draft_id")?,
            playbook: self.text("playbook_id")?,
            event: self.text("event_id")?,
            synchronized: self.flag("synchronized")?,
            previous_standard: self.text("previous_standard")?,
        })
    }

    /// The same message with `changes`.
    pub fn with(&self, changes: &[(&str, Value)]) -> Bytes {
        self.object.with(changes)
    }

    /// The same message with another `content`, and with `more` keys at its end: what a part of a bundle and a
    /// rejected object are published as.
    pub fn body_with_content(&self, content: &[u8], more: &[(&str, Value)]) -> Bytes {
        let content = Value::from(BASE64.encode(content));
        let mut changes = vec![("content", content)];
        changes.extend_from_slice(more);
        self.object.with(&changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        Message::read(&Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    #[test]
    fn every_key_survives_a_new_content() {
        let read = message(
            r#"{"type":"bundle","content":"e30=","odd":[1e400,{"deep":12345678901234567890123}],"work_id":null}"#,
        );
        let body = read.body_with_content(b"{\"a\":1}", &[("why", "because".into())]);
        assert_eq!(
            std::str::from_utf8(&body).unwrap(),
            r#"{"type":"bundle","content":"eyJhIjoxfQ==","odd":[1e400,{"deep":12345678901234567890123}],"work_id":null,"why":"because"}"#
        );
    }

    #[test]
    fn the_last_of_equal_keys_counts() {
        let read = message(r#"{"work_id":"a","work_id":"b"}"#);
        assert_eq!(read.origin().unwrap().work.as_deref(), Some("b"));
    }

    #[test]
    fn absent_null_and_empty_are_no_value() {
        for text in [r"{}", r#"{"work_id":null}"#, r#"{"work_id":""}"#] {
            assert_eq!(message(text).origin().unwrap(), Origin::default());
        }
    }

    #[test]
    fn content_may_be_wrapped_and_unpadded() {
        for content in [
            "eyJhIjoxfQ==",
            "eyJhIjoxfQ",
            "eyJh\\nIjox\\r\\nfQ==",
            "eyJh Ijox fQ==",
        ] {
            let read = message(&format!(r#"{{"content":"{content}"}}"#));
            assert_eq!(read.content().unwrap(), &b"{\"a\":1}"[..]);
        }
    }

    #[test]
    fn errors_name_the_key_and_the_rule() {
        let cases = [
            (r#"{"content":5}"#, r#"the key "content" must be text"#),
            (r"{}", r#"the key "content" is missing"#),
            (
                r#"{"content":"%%"}"#,
                r#"the key "content" is not base64: Invalid symbol 37, offset 0."#,
            ),
        ];
        for (text, error) in cases {
            assert_eq!(message(text).content().unwrap_err().to_string(), error);
        }
        let error = message(r#"{"synchronized":"yes"}"#).origin().unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"the key "synchronized" must be true or false"#
        );
    }

    #[test]
    fn a_body_that_is_no_object_is_refused() {
        for body in [&b"[]"[..], b"not json", b"", b"\xff{}", b"{\"a\":1}{}"] {
            let read = Message::read(&Bytes::from_static(body));
            assert!(matches!(read, Err(MessageError::Json(_))));
        }
    }

    #[test]
    fn depth_does_not_matter() {
        let depth = 100_000;
        let body = format!(
            r#"{{"a":{}{},"work_id":"w"}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        let read = message(&body);
        assert_eq!(read.origin().unwrap().work.as_deref(), Some("w"));
    }
}

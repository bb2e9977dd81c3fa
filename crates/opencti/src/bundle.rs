//! What must be known of a STIX bundle before Python sees it.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

/// A STIX bundle as text, with the little that is decided upon.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The bundle as JSON on one line.
    pub json: Bytes,
    /// Its id, if it has one.
    pub id: Option<String>,
    /// How many objects it has.
    pub objects: usize,
    /// How many different ids its objects have.
    pub distinct: usize,
    /// `x_opencti_event_version` as JSON.
    pub event_version: Option<String>,
}

/// Why a bundle cannot be imported.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The content is not JSON, or not an object.
    #[error("the content is not a JSON object: {0}")]
    Json(String),
    /// `type` is not `bundle`.
    #[error("the content's \"type\" must be \"bundle\"")]
    Type,
    /// There are no objects.
    #[error("the bundle has no objects")]
    Empty,
    /// An object is not a JSON object.
    #[error("object {0} of the bundle is not a JSON object")]
    Object(usize),
    /// An object lacks its id or type.
    #[error("object {0} of the bundle has no {1:?}")]
    Lacks(usize, &'static str),
}

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    objects: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    x_opencti_event_version: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Object {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl Bundle {
    /// Reads a bundle.
    ///
    /// # Errors
    /// It is not a STIX bundle of objects with ids and types.
    pub fn read(content: &Bytes) -> Result<Self, BundleError> {
        let outer: Outer<'_> = serde_json::from_slice(content)
            .map_err(|error| BundleError::Json(error.to_string()))?;
        if outer.kind.and_then(text).as_deref() != Some("bundle") {
            return Err(BundleError::Type);
        }
        let objects = outer.objects.unwrap_or_default();
        if objects.is_empty() {
            return Err(BundleError::Empty);
        }
        let mut ids = BTreeSet::new();
        for (index, raw) in objects.iter().enumerate() {
            let object: Object =
                serde_json::from_str(raw.get()).map_err(|_type| BundleError::Object(index))?;
            object.kind.ok_or(BundleError::Lacks(index, "type"))?;
            ids.insert(object.id.ok_or(BundleError::Lacks(index, "id"))?);
        }
        Ok(Self {
            id: outer.id.and_then(text),
            objects: objects.len(),
            distinct: ids.len(),
            event_version: outer
                .x_opencti_event_version
                .map(|raw| raw.get().to_owned()),
            json: on_one_line(content),
        })
    }
}

fn text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// Valid JSON without line breaks. Strings cannot contain raw ones, so each stands between tokens.
fn on_one_line(json: &Bytes) -> Bytes {
    if !json.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return json.clone();
    }
    let mut line = json.to_vec();
    for byte in &mut line {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Bundle, BundleError> {
        Bundle::read(&Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn objects_and_distinct_ids_are_counted() {
        let bundle = read(
            r#"{"type":"bundle","id":"bundle--1","x_opencti_event_version":"1",
            "objects":[{"id":"a","type":"x"},{"id":"b","type":"x"},{"id":"a","type":"x"}]}"#,
        )
        .unwrap();
        assert_eq!((bundle.objects, bundle.distinct), (3, 2));
        assert_eq!(bundle.id.as_deref(), Some("bundle--1"));
        assert_eq!(bundle.event_version.as_deref(), Some("\"1\""));
        assert!(!bundle.json.contains(&b'\n'));
    }

    #[test]
    fn each_kind_of_broken_bundle_is_named() {
        let cases = [
            ("nonsense", None),
            ("{}", Some(BundleError::Type)),
            (r#"{"type":"bundle"}"#, Some(BundleError::Empty)),
            (
                r#"{"type":"bundle","objects":[]}"#,
                Some(BundleError::Empty),
            ),
            (
                r#"{"type":"bundle","objects":null}"#,
                Some(BundleError::Empty),
            ),
            (
                r#"{"type":"bundle","objects":[5]}"#,
                Some(BundleError::Object(0)),
            ),
            (
                r#"{"type":"bundle","objects":[{"type":"x"}]}"#,
                Some(BundleError::Lacks(0, "id")),
            ),
            (
                r#"{"type":"bundle","objects":[{"id":"x"}]}"#,
                Some(BundleError::Lacks(0, "type")),
            ),
            (r#"{"type":"report","objects":[]}"#, Some(BundleError::Type)),
            (r#"{"type":"bundle","objects":{}}"#, None),
            (r#"{"type":"bundle","objects":[NaN]}"#, None),
        ];
        for (text, expected) in cases {
            let error = read(text).unwrap_err();
            match expected {
                Some(expected) => assert_eq!(error, expected, "{text}"),
                None => assert!(matches!(error, BundleError::Json(_)), "{text}"),
            }
        }
    }

    #[test]
    fn deep_objects_are_read_without_recursion() {
        let deep = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
        let text = format!(r#"{{"type":"bundle","objects":[{{"id":"a","type":"x","d":{deep}}}]}}"#);
        assert_eq!(read(&text).unwrap().objects, 1);
    }
}

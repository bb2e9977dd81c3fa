//! The lines that are exchanged with a child.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::message::Origin;
use crate::signs::Sign;

/// The headers of an import. `pycti` keeps headers from one call to the next, so all are set for each.
#[derive(Debug, Clone, Serialize)]
pub struct Headers {
    #[serde(rename = "opencti-applicant-id")]
    applicant: Option<String>,
    #[serde(rename = "opencti-work-id")]
    work: Option<String>,
    #[serde(rename = "opencti-draft-id")]
    draft: Option<String>,
    #[serde(rename = "opencti-playbook-id")]
    playbook: Option<String>,
    #[serde(rename = "opencti-event-id")]
    event: Option<String>,
    #[serde(rename = "synchronized-upsert")]
    synchronized: &'static str,
    #[serde(rename = "previous-standard")]
    previous_standard: Option<String>,
    #[serde(rename = "opencti-retry-number")]
    retry_number: String,
}

impl Headers {
    /// The headers of the `retry`th retry of an import for `origin`; 0 is the first run.
    pub fn new(origin: &Origin, retry: u32) -> Self {
        Self {
            applicant: origin.applicant.clone(),
            work: origin.work.clone(),
            draft: origin.draft.clone(),
            playbook: origin.playbook.clone(),
            event: origin.event.clone(),
            synchronized: if origin.synchronized { "true" } else { "false" },
            previous_standard: origin.previous_standard.clone(),
            retry_number: retry.to_string(),
        }
    }

    /// The same headers without a draft.
    #[must_use]
    pub fn without_draft(&self) -> Self {
        Self {
            draft: None,
            ..self.clone()
        }
    }

    /// Each header that has a value.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, &str)> {
        [
            ("opencti-applicant-id", self.applicant.as_deref()),
            ("opencti-work-id", self.work.as_deref()),
            ("opencti-draft-id", self.draft.as_deref()),
            ("opencti-playbook-id", self.playbook.as_deref()),
            ("opencti-event-id", self.event.as_deref()),
            ("synchronized-upsert", Some(self.synchronized)),
            ("previous-standard", self.previous_standard.as_deref()),
            ("opencti-retry-number", Some(self.retry_number.as_str())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }
}

/// An import of one object.
#[derive(Debug)]
pub struct ImportRequest<'a> {
    /// The connector whose caches are used.
    pub connector: &'a str,
    /// The token.
    pub token: &'a str,
    /// The headers.
    pub headers: &'a Headers,
    /// The object.
    pub item: &'a RawValue,
    /// Whether entities that match several existing ones are merged.
    pub update: bool,
    /// The types to import.
    pub types: Option<&'a [String]>,
    /// The bundle's id.
    pub bundle_id: &'a str,
}

/// The versions on the Python side.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Versions {
    /// Of pycti.
    pub pycti: String,
    /// Of Python.
    pub python: String,
}

/// A part of a split bundle: the content of a message, or an object.
#[derive(Debug)]
pub struct Element {
    /// The JSON.
    pub json: Box<RawValue>,
    /// The object's id; empty for a part.
    pub id: String,
    /// How many references the object has.
    pub references: u64,
}

/// What a process says first.
#[derive(Deserialize)]
pub(super) struct Hello {
    pub(super) secret: String,
    pub(super) name: String,
    pub(super) pid: i32,
    #[serde(flatten)]
    pub(super) versions: Versions,
}

/// What the fork server says later.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum ServerLine {
    Failed { failed: String, error: String },
    Died { died: String, status: i32 },
}

/// A line of an answer; the last one has `done` or `failed`.
#[derive(Deserialize)]
pub(super) struct AnswerLine {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) done: bool,
    pub(super) failed: Option<WireSign>,
    #[serde(default)]
    pub(super) incompatible: bool,
    pub(super) part: Option<Box<RawValue>>,
    pub(super) item: Option<Box<RawValue>>,
    #[serde(default)]
    pub(super) element: String,
    #[serde(default)]
    pub(super) references: u64,
    pub(super) memory: Option<u64>,
}

#[derive(Deserialize)]
pub(super) struct WireSign {
    classes: Vec<String>,
    text: String,
    name: Option<String>,
    status: Option<u16>,
    retry_after: Option<String>,
}

impl From<WireSign> for Sign {
    fn from(wire: WireSign) -> Self {
        let now = SystemTime::now();
        Self {
            status: wire.status,
            name: wire.name,
            classes: wire.classes,
            text: wire.text,
            retry_after: wire.retry_after.and_then(|text| retry_after(&text, now)),
        }
    }
}

/// The delay that a `Retry-After` header asks for: seconds, or a date (RFC 9110, 10.2.3).
pub(crate) fn retry_after(text: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// What comes after the JSON of a request.
pub(super) const TAIL: &str = "}\n";

/// A request, but for its number. The JSON that it is about may be large: it is written from where it is.
pub(super) struct RequestLine<'a> {
    /// All keys but the first and the last, as an object.
    keys: String,
    /// The name of the last key.
    last: &'static str,
    json: &'a [u8],
}

impl RequestLine<'_> {
    /// What comes before the JSON.
    pub(super) fn head(&self, id: u64) -> String {
        let keys = &self.keys[1..self.keys.len() - 1];
        format!("{{\"id\":{id},{keys},\"{}\":", self.last)
    }

    /// The JSON, without line breaks.
    pub(super) fn json(&self) -> &[u8] {
        self.json
    }
}

pub(super) fn split_line<'a>(
    bundle: &'a [u8],
    bundle_id: &str,
    event_version: Option<&str>,
    parts: bool,
) -> RequestLine<'a> {
    #[derive(Serialize)]
    struct Keys<'a> {
        r#do: &'static str,
        bundle_id: &'a str,
        event_version: &'a RawValue,
        parts: bool,
    }
    let version = serde_json::from_str(event_version.unwrap_or("null"));
    line(
        &Keys {
            r#do: "split",
            bundle_id,
            event_version: version.expect("a bundle was read as JSON before"),
            parts,
        },
        "bundle",
        bundle,
    )
}

pub(super) fn import_line<'a>(request: &ImportRequest<'a>) -> RequestLine<'a> {
    #[derive(Serialize)]
    struct Keys<'a> {
        r#do: &'static str,
        connector: &'a str,
        token: &'a str,
        headers: &'a Headers,
        update: bool,
        types: Option<&'a [String]>,
        bundle_id: &'a str,
    }
    line(
        &Keys {
            r#do: "import",
            connector: request.connector,
            token: request.token,
            headers: request.headers,
            update: request.update,
            types: request.types,
            bundle_id: request.bundle_id,
        },
        "item",
        request.item.get().as_bytes(),
    )
}

fn line<'a>(keys: &impl Serialize, last: &'static str, json: &'a [u8]) -> RequestLine<'a> {
    let keys = serde_json::to_string(keys).expect("a request can be written as JSON");
    RequestLine { keys, last, json }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_eight_headers_are_always_there() {
        let none = serde_json::to_value(Headers::new(&Origin::default(), 0)).unwrap();
        assert_eq!(none.as_object().unwrap().len(), 8);
        let mut set: Vec<_> = none
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        set.sort();
        assert_eq!(
            set,
            [
                r#"opencti-retry-number="0""#,
                r#"synchronized-upsert="false""#
            ]
        );
        assert_eq!(Headers::new(&Origin::default(), 0).pairs().count(), 2);
    }

    #[test]
    fn a_request_is_one_line() {
        let line = split_line(b"{\"a\":1}", "bundle--1", None, true);
        let mut text = line.head(7).into_bytes();
        text.extend_from_slice(line.json());
        text.extend_from_slice(TAIL.as_bytes());
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"id\":7,\"do\":\"split\",\"bundle_id\":\"bundle--1\",\"event_version\":null,\"parts\":true,\"bundle\":{\"a\":1}}\n"
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let cases = [
            ("120", Some(120)),
            ("Sun, 06 Nov 1994 08:50:07 GMT", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ];
        for (text, seconds) in cases {
            assert_eq!(
                retry_after(text, now),
                seconds.map(Duration::from_secs),
                "{text}"
            );
        }
    }

    #[test]
    fn whatever_a_child_writes_is_an_answer_or_nonsense() {
        let words = [
            "\"failed\":",
            "\"retry_after\":",
            "\"item\":",
            "null",
            "-1",
            "[",
            "1e999",
        ];
        tidegate_fuzzing::run("python-lines", &words, |input| {
            for line in input.split(|byte| *byte == b'\n') {
                if let Ok(answer) = serde_json::from_slice::<AnswerLine>(line)
                    && let Some(failed) = answer.failed
                {
                    let _ = crate::signs::cause(&Sign::from(failed));
                }
                drop(serde_json::from_slice::<Hello>(line).map(|hello| hello.versions));
                drop(serde_json::from_slice::<ServerLine>(line));
            }
        });
    }
}

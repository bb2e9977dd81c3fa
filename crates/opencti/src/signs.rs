//! From the signs of a failure to its cause: what an HTTP status, a GraphQL error or a Python exception means.

use std::time::Duration;

use serde::Deserialize;

/// What is known of one failed call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sign {
    /// The status of the HTTP response that the failure comes from.
    pub status: Option<u16>,
    /// The name of the GraphQL error, or its `extensions.code`.
    pub name: Option<String>,
    /// The Python exception's class and its base classes, the nearest first.
    pub classes: Vec<String>,
    /// The failure's text.
    pub text: String,
    /// How long the platform asks to wait.
    pub retry_after: Option<Duration>,
}

/// Why a call failed, named for what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// The platform did not answer, or a proxy answered in its place: wait until it does.
    Unreachable,
    /// The platform does not accept our token.
    Unauthorized,
    /// The applicant may not do this.
    Forbidden,
    /// The platform failed inside; it may succeed soon.
    Platform,
    /// Somebody else holds the lock.
    Lock,
    /// An object that this one refers to is not there yet.
    MissingReference,
    /// The draft is read only.
    DraftLocked,
    /// The work was ended: nobody wants the object any more.
    WorkNotAlive,
    /// The object itself is wrong; another try ends the same.
    Invalid,
    /// The Python child died.
    ChildDied,
    /// No Python child can be started: what we lack is never charged to the object.
    NoChild,
}

/// The class that stands for a child that died.
pub(crate) const CHILD_DIED: &str = "tidegate.ChildDied";
/// The class that stands for a child that could not be started.
pub(crate) const NO_CHILD: &str = "tidegate.NoChild";

impl Cause {
    /// The cause as it appears in logs, headers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::Platform => "platform",
            Self::Lock => "lock",
            Self::MissingReference => "missing_reference",
            Self::DraftLocked => "draft_locked",
            Self::WorkNotAlive => "work_not_alive",
            Self::Invalid => "invalid",
            Self::ChildDied => "child_died",
            Self::NoChild => "no_child",
        }
    }

    /// Whether the failure says that the platform as a whole does not work for us.
    pub const fn is_outage(self) -> bool {
        matches!(self, Self::Unreachable | Self::Unauthorized)
    }
}

/// Errors by the name that the platform gives them.
const NAMES: [(&str, Cause); 18] = [
    ("AUTH_REQUIRED", Cause::Unauthorized),
    ("AUTH_FAILURE", Cause::Unauthorized),
    ("FORBIDDEN_ACCESS", Cause::Forbidden),
    ("DATABASE_ERROR", Cause::Platform),
    ("UNKNOWN_ERROR", Cause::Platform),
    ("COMPLEX_SEARCH_ERROR", Cause::Platform),
    ("FILESYSTEM_ERROR", Cause::Platform),
    ("LOCK_ERROR", Cause::Lock),
    ("MISSING_REFERENCE_ERROR", Cause::MissingReference),
    ("DRAFT_LOCKED", Cause::DraftLocked),
    ("WORK_NOT_ALIVE", Cause::WorkNotAlive),
    ("FUNCTIONAL_ERROR", Cause::Invalid),
    ("VALIDATION_ERROR", Cause::Invalid),
    ("UNSUPPORTED_ERROR", Cause::Invalid),
    ("INSUFFICIENT_CONFIDENCE_LEVEL", Cause::Invalid),
    ("ALREADY_DELETED_ERROR", Cause::Invalid),
    ("RESOURCE_NOT_FOUND", Cause::Invalid),
    ("GRAPHQL_VALIDATION_FAILED", Cause::Invalid),
];

/// Texts of a proxy's error page, whatever its status.
const PROXY_TEXTS: [&str; 2] = ["Bad Gateway", "Request timed out"];

/// Statuses that blame the request itself.
const REQUEST_AT_FAULT: [u16; 6] = [400, 413, 414, 415, 422, 431];

/// Python exceptions that blame the object, though `requests` derives them from its network errors.
const OBJECT_AT_FAULT: [&str; 5] = [
    "InvalidJSONError",
    "InvalidHeader",
    "InvalidURL",
    "InvalidSchema",
    "MissingSchema",
];

/// Python exceptions of the network.
const NETWORK: [&str; 4] = ["RequestException", "HTTPError", "Timeout", "OSError"];

/// The cause that `sign` points to. The platform's own name for its error decides first, then the status,
/// then the exception's class.
pub fn cause(sign: &Sign) -> Cause {
    if sign
        .classes
        .iter()
        .any(|class| class.starts_with("tidegate."))
    {
        return of_exception(sign);
    }
    let from_body;
    let name = if let Some(name) = &sign.name {
        Some(name.as_str())
    } else {
        from_body = name_in(&sign.text);
        from_body.as_deref()
    };
    if let Some(name) = name {
        if let Some((_, cause)) = NAMES.iter().find(|(known, _)| *known == name) {
            return *cause;
        }
        if PROXY_TEXTS.iter().any(|text| name.contains(text)) {
            return Cause::Unreachable;
        }
    }
    match sign.status {
        Some(401 | 403) => return Cause::Unauthorized,
        Some(status) if REQUEST_AT_FAULT.contains(&status) && !is_proxy_page(&sign.text) => {
            return Cause::Invalid;
        }
        // An answer that is no GraphQL comes from something before the platform.
        Some(status) if status != 200 => return Cause::Unreachable,
        _ => {}
    }
    if name.is_some() {
        // The platform answered with an error that we do not know: its own trouble, and bounded.
        return Cause::Platform;
    }
    of_exception(sign)
}

fn of_exception(sign: &Sign) -> Cause {
    let is = |class: &str| sign.classes.iter().any(|known| known == class);
    // A 200 that is not JSON: a proxy's page. It derives from `InvalidJSONError`.
    if is("JSONDecodeError") && sign.status == Some(200) {
        return Cause::Unreachable;
    }
    if is_proxy_page(&sign.text) && !is(CHILD_DIED) && !is(NO_CHILD) {
        return Cause::Unreachable;
    }
    if OBJECT_AT_FAULT.into_iter().any(is) {
        return Cause::Invalid;
    }
    if NETWORK.into_iter().any(is) {
        return Cause::Unreachable;
    }
    if is("MemoryError") || is(CHILD_DIED) {
        return Cause::ChildDied;
    }
    if is(NO_CHILD) {
        return Cause::NoChild;
    }
    Cause::Invalid
}

fn is_proxy_page(text: &str) -> bool {
    PROXY_TEXTS.iter().any(|page| text.contains(page))
}

#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<GraphQlError>,
}

/// One error of a GraphQL answer.
#[derive(Debug, Clone, Deserialize)]
pub struct GraphQlError {
    name: Option<String>,
    #[serde(default)]
    message: String,
    extensions: Option<Extensions>,
}

#[derive(Debug, Clone, Deserialize)]
struct Extensions {
    code: Option<String>,
}

impl GraphQlError {
    /// The platform's name for the error: `name`, on older platforms `extensions.code`.
    pub fn into_name(self) -> String {
        self.name
            .or(self.extensions.and_then(|extensions| extensions.code))
            .unwrap_or(self.message)
    }

    /// What the platform says about the error.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The name in a body of GraphQL errors that came with a status other than 200.
fn name_in(text: &str) -> Option<String> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let body: ErrorBody = serde_json::from_str(text).ok()?;
    Some(body.errors.into_iter().next()?.into_name())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, text: &str) -> Cause {
        cause(&Sign {
            status: Some(status),
            classes: vec!["ValueError".into()],
            text: text.into(),
            ..Sign::default()
        })
    }

    fn exception(classes: &[&str]) -> Cause {
        cause(&Sign {
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
            ..Sign::default()
        })
    }

    #[test]
    fn statuses() {
        for code in [404, 408, 425, 429, 500, 502, 503, 504, 521] {
            assert_eq!(status(code, "<html>"), Cause::Unreachable, "{code}");
        }
        for code in [401, 403] {
            assert_eq!(status(code, ""), Cause::Unauthorized);
        }
        for code in [400, 413, 422] {
            assert_eq!(status(code, ""), Cause::Invalid);
            assert_eq!(status(code, "<h1>Bad Gateway</h1>"), Cause::Unreachable);
        }
    }

    #[test]
    fn every_name_of_the_table_decides_by_name_and_by_code() {
        for (name, expected) in NAMES {
            let by_name = Sign {
                status: Some(200),
                name: Some(name.into()),
                classes: vec!["ValueError".into()],
                ..Sign::default()
            };
            assert_eq!(cause(&by_name), expected);
            let body =
                format!(r#"{{"errors":[{{"message":"m","extensions":{{"code":"{name}"}}}}]}}"#);
            assert_eq!(status(400, &body), expected);
            assert_eq!(status(500, &body), expected);
        }
    }

    #[test]
    fn an_unknown_name_is_the_platforms_trouble_unless_the_status_says_more() {
        let unknown = |status| Sign {
            status: Some(status),
            name: Some("INTERNAL_SERVER_ERROR".into()),
            ..Sign::default()
        };
        assert_eq!(cause(&unknown(200)), Cause::Platform);
        assert_eq!(cause(&unknown(500)), Cause::Unreachable);
        let gateway = Sign {
            status: Some(200),
            name: Some("Bad Gateway".into()),
            ..Sign::default()
        };
        assert_eq!(cause(&gateway), Cause::Unreachable);
    }

    #[test]
    fn exceptions() {
        assert_eq!(
            exception(&[
                "ConnectTimeout",
                "ConnectionError",
                "RequestException",
                "OSError"
            ]),
            Cause::Unreachable
        );
        assert_eq!(
            exception(&["ProtocolError", "HTTPError"]),
            Cause::Unreachable
        );
        let page = Sign {
            status: Some(200),
            classes: vec!["JSONDecodeError".into(), "InvalidJSONError".into()],
            ..Sign::default()
        };
        assert_eq!(cause(&page), Cause::Unreachable);
        assert_eq!(
            exception(&["InvalidJSONError", "RequestException", "OSError"]),
            Cause::Invalid
        );
        for class in [
            "KeyError",
            "AttributeError",
            "ValueError",
            "RecursionError",
            "TypeError",
        ] {
            assert_eq!(exception(&[class]), Cause::Invalid);
        }
        assert_eq!(exception(&["MemoryError"]), Cause::ChildDied);
    }

    #[test]
    fn a_value_error_of_the_object_is_not_taken_for_the_platforms() {
        let sign = Sign {
            text: "Unknown type LOCK_ERROR".into(),
            classes: vec!["ValueError".into()],
            ..Sign::default()
        };
        assert_eq!(cause(&sign), Cause::Invalid);
    }
}

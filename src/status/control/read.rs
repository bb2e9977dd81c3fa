//! Reads a command from a message, or finds what is wrong with it. Pure.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{COMMAND_TYPE, Command};

/// The largest body of a command, in bytes.
pub const BODY_LIMIT: usize = 16 * 1024;
/// The longest reason, in characters; more is cut off.
pub const REASON_LIMIT: usize = 200;
/// The longest interval of a `cadence`.
pub const SLOWEST_CADENCE: Duration = Duration::from_hours(1);
/// The longest that a `cadence` lasts.
pub const LONGEST_CADENCE: Duration = Duration::from_hours(24);
/// The longest name of a requester, in characters; more is cut off.
const REQUESTER_LIMIT: usize = 100;

/// Characters of a wrong value that an error shows.
const SHOWN: usize = 80;
/// The commands' words.
const WORDS: [&str; 6] = ["drain", "pause", "resume", "report", "cadence", "ping"];

/// A message that is not a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The command's word; empty if there is none.
    pub command: String,
    /// The fault: the field, its value and the rule.
    pub error: String,
}

/// Reads a command from a message's property `type`, which may be missing, and its body. Fields that are not
/// known are ignored. Reasons come out [cleaned](clean).
///
/// # Errors
/// If the message is not a command.
pub fn read(kind: Option<&str>, body: &[u8]) -> Result<Command, Unreadable> {
    let fields = fields(kind, body).map_err(|error| Unreadable {
        command: String::new(),
        error,
    })?;
    let word = fields.get("command").and_then(Value::as_str);
    command(word, &fields).map_err(|error| Unreadable {
        command: clean(word.unwrap_or_default(), SHOWN),
        error,
    })
}

fn fields(kind: Option<&str>, body: &[u8]) -> Result<Map<String, Value>, String> {
    if body.len() > BODY_LIMIT {
        return Err(format!("body = {} bytes: at most {BODY_LIMIT}", body.len()));
    }
    if let Some(kind) = kind
        && kind != COMMAND_TYPE
    {
        let kind = clean(kind, SHOWN);
        return Err(format!(
            "type = {kind:?}: must be {COMMAND_TYPE:?}, or absent"
        ));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(format!("body = {}: must be a JSON object", shown(&other))),
        Err(error) => Err(format!("body: must be a JSON object: {error}")),
    }
}

fn command(word: Option<&str>, fields: &Map<String, Value>) -> Result<Command, String> {
    if let Some(version) = fields.get("v")
        && *version != 1
    {
        return Err(format!("v = {}: must be 1, or absent", shown(version)));
    }
    match word {
        Some("drain") => Ok(Command::Drain {
            reason: text(fields, "reason", REASON_LIMIT)?,
        }),
        Some("pause") => Ok(Command::Pause {
            reason: text(fields, "reason", REASON_LIMIT)?,
        }),
        Some("resume") => Ok(Command::Resume),
        Some("report") => Ok(Command::Report),
        Some("cadence") => Ok(Command::Cadence {
            interval_ms: millis(fields, "interval_ms", 1, SLOWEST_CADENCE)?,
            for_ms: millis(fields, "for_ms", 0, LONGEST_CADENCE)?,
            by: text(fields, "by", REQUESTER_LIMIT)?,
        }),
        Some("ping") => Ok(Command::Ping),
        _ => {
            let rule = format!("must be one of {}", WORDS.join(", "));
            Err(wrong(fields, "command", &rule))
        }
    }
}

/// A text that may be missing, [cleaned](clean).
fn text(fields: &Map<String, Value>, name: &str, limit: usize) -> Result<Option<String>, String> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let text = clean(text, limit);
            Ok((!text.is_empty()).then_some(text))
        }
        Some(_) => Err(wrong(fields, name, "must be a string")),
    }
}

fn millis(
    fields: &Map<String, Value>,
    name: &str,
    least: u64,
    most: Duration,
) -> Result<u64, String> {
    let most = most.as_secs() * 1000;
    let number = fields.get(name).and_then(Value::as_u64);
    let number = number.filter(|number| (least..=most).contains(number));
    number.ok_or_else(|| {
        let rule = format!("must be a whole number from {least} to {most}");
        wrong(fields, name, &rule)
    })
}

fn wrong(fields: &Map<String, Value>, name: &str, rule: &str) -> String {
    match fields.get(name) {
        Some(value) => format!("{name} = {}: {rule}", shown(value)),
        None => format!("{name}: missing; it {rule}"),
    }
}

fn shown(value: &Value) -> String {
    clean(&value.to_string(), SHOWN)
}

/// `text` as one line of at most `limit` characters. Control characters and characters that change the writing
/// direction are left out, because the text goes into logs and onto pages.
pub fn clean(text: &str, limit: usize) -> String {
    let turns = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    // The first bound keeps the work small; the second one below is the limit.
    let text: String = text
        .chars()
        .take(BODY_LIMIT)
        .filter(|c| !turns(*c))
        .map(plain)
        .collect();
    let words: Vec<_> = text.split_whitespace().collect();
    let line = words.join(" ");
    if line.chars().count() <= limit {
        return line;
    }
    let kept: String = line.chars().take(limit.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(body: &str) -> String {
        read(None, body.as_bytes()).expect_err(body).error
    }

    #[test]
    fn commands_are_read_whatever_else_they_hold() {
        let read = |body: &str| read(Some(COMMAND_TYPE), body.as_bytes()).unwrap();
        assert_eq!(read(r#"{"v":1,"command":"ping","new":[]}"#), Command::Ping);
        let reason = Some("deploy 42".to_owned());
        assert_eq!(
            read(r#"{"command":"drain","reason":" deploy\n42 "}"#),
            Command::Drain { reason }
        );
        assert_eq!(
            read(r#"{"command":"pause","reason":null}"#),
            Command::Pause { reason: None }
        );
        assert_eq!(
            read(r#"{"command":"drain","reason":"\u0000"}"#),
            Command::Drain { reason: None }
        );
        let cadence = r#"{"command":"cadence","interval_ms":30000,"for_ms":0,"by":" fleet\n1"}"#;
        assert_eq!(
            read(cadence),
            Command::Cadence {
                interval_ms: 30_000,
                for_ms: 0,
                by: Some("fleet 1".to_owned()),
            }
        );
        assert_eq!(read(r#"{"command":"resume"}"#), Command::Resume);
        assert_eq!(read(r#"{"command":"report"}"#), Command::Report);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_value_and_the_rule() {
        let words = "must be one of drain, pause, resume, report, cadence, ping";
        assert_eq!(
            read(None, br#"{"command":"fly"}"#),
            Err(Unreadable {
                command: "fly".into(),
                error: format!("command = \"fly\": {words}"),
            })
        );
        assert_eq!(error("{}"), format!("command: missing; it {words}"));
        assert_eq!(error(r#"{"command":7}"#), format!("command = 7: {words}"));
        assert_eq!(error("[1]"), "body = [1]: must be a JSON object");
        assert!(error("drain").starts_with("body: must be a JSON object: expected value"));
        assert_eq!(
            error(r#"{"command":"ping","v":2}"#),
            "v = 2: must be 1, or absent"
        );
        assert_eq!(
            error(r#"{"command":"drain","reason":["x"]}"#),
            "reason = [\"x\"]: must be a string"
        );
        assert_eq!(
            error(r#"{"command":"cadence","interval_ms":1,"for_ms":1,"by":7}"#),
            "by = 7: must be a string"
        );
        assert_eq!(
            error(r#"{"command":"cadence","interval_ms":0,"for_ms":1}"#),
            "interval_ms = 0: must be a whole number from 1 to 3600000"
        );
        assert_eq!(
            error(r#"{"command":"cadence","interval_ms":1}"#),
            "for_ms: missing; it must be a whole number from 0 to 86400000"
        );
        let large = read(None, &vec![b' '; BODY_LIMIT + 1]).unwrap_err();
        assert_eq!(large.error, "body = 16385 bytes: at most 16384");
        let other = read(Some("tidegate.command.v2"), b"{}").unwrap_err();
        assert_eq!(
            other.error,
            "type = \"tidegate.command.v2\": must be \"tidegate.command.v1\", or absent"
        );
    }

    #[test]
    fn a_reason_becomes_one_line_of_bounded_length() {
        assert_eq!(clean("a\u{202e}b\r\n\tc\u{7}", 10), "ab c");
        assert_eq!(clean("abcdef", 4), "abc…");
        assert_eq!(clean("ab cdef", 4), "ab…");
    }

    proptest! {
        #[test]
        fn anything_at_all_is_a_command_or_an_error(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(None, &body);
        }

        #[test]
        fn a_reason_is_never_longer_nor_more_than_a_line(reason in any::<String>()) {
            let cleaned = clean(&reason, REASON_LIMIT);
            prop_assert!(cleaned.chars().count() <= REASON_LIMIT);
            prop_assert!(!cleaned.chars().any(char::is_control));
        }
    }

    #[test]
    fn whatever_is_published_is_a_command_or_a_short_error() {
        let words = [
            "\"command\":",
            "\"drain\"",
            "\"cadence\"",
            "\"interval_ms\":",
            "-1",
            "1e999",
            "\\u202e",
            "[",
        ];
        tidegate_fuzzing::run("control", &words, |body| {
            let kind = body.first().is_some_and(|byte| byte % 2 == 0);
            match read(kind.then_some(COMMAND_TYPE), body) {
                Ok(Command::Drain { reason } | Command::Pause { reason }) => {
                    let reason = reason.unwrap_or_default();
                    assert!(reason.chars().count() <= REASON_LIMIT);
                    assert!(!reason.contains(char::is_control));
                }
                Ok(Command::Cadence {
                    interval_ms,
                    for_ms,
                    by,
                }) => {
                    assert!((1..=3_600_000).contains(&interval_ms));
                    assert!(for_ms <= 86_400_000);
                    assert!(by.is_none_or(|by| by.chars().count() <= REQUESTER_LIMIT));
                }
                Ok(Command::Resume | Command::Report | Command::Ping) => {}
                Err(unreadable) => {
                    assert!(unreadable.command.chars().count() <= SHOWN);
                    assert!(unreadable.error.chars().count() <= 4 * SHOWN);
                }
            }
        });
    }
}

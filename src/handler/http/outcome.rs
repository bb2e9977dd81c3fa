//! From an HTTP response to an outcome: the table of the `http` contract.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use http::header::{HeaderMap, RETRY_AFTER};

use super::client::Answer;
use crate::handler::Outcome;

/// The longest delay that a server can ask for.
const RETRY_AFTER_LIMIT: Duration = Duration::from_hours(24);

/// The outcome that a status asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The server has done the work.
    Done,
    /// The server cannot do it now: too busy, restarting, broken.
    Retry,
    /// The server will never do it as it was asked.
    Dead,
}

/// 2xx done; 408, 425, 429 and 5xx retry; all else dead. A redirect is not followed: which server does the
/// work is the operator's decision, and RFC 9110 turns some redirected POSTs into GETs.
fn verdict(status: StatusCode) -> Verdict {
    match status.as_u16() {
        200..=299 => Verdict::Done,
        408 | 425 | 429 | 500..=599 => Verdict::Retry,
        _ => Verdict::Dead,
    }
}

/// The outcome of an answer.
pub(super) fn outcome(answer: &Answer, now: SystemTime) -> Outcome {
    let describe = || describe(answer.status, &answer.excerpt);
    match verdict(answer.status) {
        Verdict::Done => Outcome::Done,
        Verdict::Retry => match retry_after(&answer.headers, now) {
            Some(delay) => Outcome::retry_after(delay, describe()),
            None => Outcome::retry(describe()),
        },
        Verdict::Dead => Outcome::dead(describe()),
    }
}

/// `HTTP 404 Not Found: <beginning of the body>`, on one line.
fn describe(status: StatusCode, excerpt: &[u8]) -> String {
    let mut text = format!("HTTP {}", status.as_u16());
    if let Some(phrase) = status.canonical_reason() {
        text.push(' ');
        text.push_str(phrase);
    }
    if status.is_redirection() {
        text.push_str(" (redirects are not followed)");
    }
    let excerpt = String::from_utf8_lossy(excerpt);
    let words: Vec<&str> = excerpt
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect();
    if !words.is_empty() {
        text.push_str(": ");
        text.push_str(&words.join(" "));
    }
    text
}

/// `Retry-After` as a delay (RFC 9110, 10.2.3): seconds, or a date, which in the past means at once. At most
/// [`RETRY_AFTER_LIMIT`]; `None` if the header is absent or malformed.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let delay = if is_number {
        // Digits that do not fit are a very long delay.
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let at = httpdate::parse_http_date(text).ok()?;
        at.duration_since(now).unwrap_or(Duration::ZERO)
    };
    Some(delay.min(RETRY_AFTER_LIMIT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(status: StatusCode, headers: &HeaderMap, excerpt: &[u8]) -> Outcome {
        let answer = Answer {
            status,
            headers: headers.clone(),
            excerpt: excerpt.to_owned(),
        };
        outcome(&answer, SystemTime::now())
    }

    fn asked(value: &str, now: SystemTime) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, value.parse().unwrap());
        retry_after(&headers, now)
    }

    #[test]
    fn every_status_has_the_outcome_of_the_contract() {
        for code in 100..=999_u16 {
            let status = StatusCode::from_u16(code).unwrap();
            let expected = match code {
                200..=299 => "done",
                408 | 425 | 429 | 500..=599 => "retry",
                _ => "dead",
            };
            let outcome = of(status, &HeaderMap::new(), b"");
            assert_eq!(outcome.as_str(), expected, "{code}");
        }
    }

    #[test]
    fn the_error_names_the_status_and_the_beginning_of_the_body() {
        let dead = |code: u16, body: &[u8]| {
            let status = StatusCode::from_u16(code).unwrap();
            of(status, &HeaderMap::new(), body)
        };
        assert_eq!(
            dead(422, b"{\n  \"error\": \"no such order\"\n}\n"),
            Outcome::dead("HTTP 422 Unprocessable Entity: { \"error\": \"no such order\" }")
        );
        assert_eq!(
            dead(302, b""),
            Outcome::dead("HTTP 302 Found (redirects are not followed)")
        );
        assert_eq!(
            dead(499, b"\x1b[31m\xff"),
            Outcome::dead("HTTP 499: [31m\u{fffd}")
        );
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(asked("120", now), Some(Duration::from_mins(2)));
        assert_eq!(asked("0", now), Some(Duration::ZERO));
        assert_eq!(
            asked("Sun, 06 Nov 1994 08:50:07 GMT", now),
            Some(Duration::from_secs(30))
        );
        assert_eq!(
            asked("Sun, 06 Nov 1994 08:00:00 GMT", now),
            Some(Duration::ZERO)
        );
    }

    #[test]
    fn retry_after_is_bounded() {
        let now = SystemTime::UNIX_EPOCH;
        for far in [
            "86401",
            "99999999999999999999999",
            "Sun, 06 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(asked(far, now), Some(RETRY_AFTER_LIMIT), "{far}");
        }
    }

    #[test]
    fn a_malformed_retry_after_leaves_the_delay_to_the_policy() {
        for bad in ["", "soon", "-1", "1.5", "+3", "Sun, 99 Nov 1994"] {
            assert_eq!(asked(bad, SystemTime::now()), None, "{bad}");
        }
    }

    #[test]
    fn retry_after_counts_for_retries_alone() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        let of = |status| of(status, &headers, b"");
        assert_eq!(
            of(StatusCode::SERVICE_UNAVAILABLE),
            Outcome::retry_after(Duration::from_secs(7), "HTTP 503 Service Unavailable")
        );
        assert_eq!(
            of(StatusCode::NOT_FOUND),
            Outcome::dead("HTTP 404 Not Found")
        );
        assert_eq!(of(StatusCode::OK), Outcome::Done);
    }

    proptest! {
        #[test]
        fn any_retry_after_is_within_the_limit(value in "[ -~]{0,40}") {
            let delay = asked(&value, SystemTime::now());
            prop_assert!(delay.is_none_or(|delay| delay <= RETRY_AFTER_LIMIT));
        }
    }
}

//! A delivery of a listen queue: its body is posted to the connector's callback.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use tracing::{info, warn};
use url::Url;

use crate::handler::{End, Job};
use crate::message::{Message, Origin};
use crate::python::retry_after;
use crate::raw_object::RawObject;
use crate::schedule::{asked_or_backoff, backoff};
use crate::signs::{Cause, cause};

/// How long a token for callbacks is used.
pub(crate) const JWT_AGE: Duration = Duration::from_mins(30);
/// How long a callback may take.
const TIMEOUT: Duration = Duration::from_mins(5);
/// The longest delay that a callback may ask for.
const RETRY_AFTER_LIMIT: Duration = Duration::from_mins(10);
/// How much of a callback's answer is quoted, in bytes.
const EXCERPT: usize = 500;

/// What a callback's answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Done,
    Hold,
    /// The token was refused: another one, after a while.
    Renew,
    Dead,
}

/// What the status of a callback's answer means.
fn verdict(status: u16) -> Verdict {
    match status {
        200 | 202 => Verdict::Done,
        401 | 403 => Verdict::Renew,
        408 | 425 | 429 => Verdict::Hold,
        400..=499 => Verdict::Dead,
        _ => Verdict::Hold,
    }
}

impl Job {
    /// Posts the body until the connector takes or refuses it; says that it was one object.
    pub(crate) async fn listen(&self, callback: &Url) -> Result<usize, End> {
        let mut failures = 0;
        loop {
            let jwt = self.jwt().await?;
            let running = self.engine.metrics.running();
            let answer = self.call(callback, &jwt).await;
            drop(running);
            let (verdict, asked, why) = match answer {
                Ok((status, asked, text)) => {
                    (verdict(status), asked, format!("HTTP {status} {text}"))
                }
                Err(error) => (Verdict::Hold, None, error.without_url().to_string()),
            };
            match verdict {
                Verdict::Done => return Ok(1),
                Verdict::Dead => {
                    let reason = format!("the callback refused the message: {why}");
                    self.set_aside("refused", &reason, &origin(&self.delivery.body))
                        .await?;
                    return Ok(1);
                }
                Verdict::Renew => self.engine.keep_jwt(None),
                Verdict::Hold => {}
            }
            failures += 1;
            let connector = &self.node.connector.name;
            if failures == 1 {
                info!(
                    queue = self.node.queue,
                    connector, why, "a callback failed; trying again"
                );
            }
            let asked = asked.unwrap_or_default().min(RETRY_AFTER_LIMIT);
            let delay = backoff(failures, rand::random()).max(asked);
            self.hold(delay, Cause::Unreachable).await?;
        }
    }

    /// The token for callbacks, asked for anew if it is too old.
    async fn jwt(&self) -> Result<SecretString, End> {
        let mut failures = 0;
        loop {
            if let Some(jwt) = self.engine.cached_jwt() {
                return Ok(jwt);
            }
            self.wait_for_platform().await?;
            match self.engine.platform.connector_jwt().await {
                Ok(jwt) => {
                    self.engine.gate.answered();
                    self.engine.keep_jwt(Some(jwt.clone()));
                    return Ok(jwt);
                }
                Err(sign) => {
                    self.engine.gate.failed(&sign);
                    failures += 1;
                    if failures == 1 {
                        warn!(why = sign.text, "no token for callbacks; trying again");
                    }
                    let delay = asked_or_backoff(&sign, failures, rand::random());
                    self.hold(delay, cause(&sign)).await?;
                }
            }
        }
    }

    async fn call(
        &self,
        callback: &Url,
        jwt: &SecretString,
    ) -> Result<(u16, Option<Duration>, String), reqwest::Error> {
        let mut request = self
            .engine
            .callbacks
            .post(callback.clone())
            .header(CONTENT_TYPE, "application/json")
            .timeout(TIMEOUT)
            .body(self.delivery.body.clone());
        let bearer = format!("Bearer {}", jwt.expose_secret());
        if let Ok(mut bearer) = HeaderValue::try_from(bearer) {
            bearer.set_sensitive(true);
            request = request.header(AUTHORIZATION, bearer);
        }
        let response = request.send().await?;
        let status = response.status().as_u16();
        let asked = response.headers().get(RETRY_AFTER).cloned();
        let asked = asked.and_then(|value| retry_after(value.to_str().ok()?, SystemTime::now()));
        // The status decides; a body that breaks off changes nothing.
        let text = response.text().await.unwrap_or_default();
        let text = text[..text.floor_char_boundary(EXCERPT)].trim().to_owned();
        Ok((status, asked, text))
    }
}

/// For whom, and for which work, a listen message was sent.
fn origin(body: &Bytes) -> Origin {
    let outer = RawObject::read(body).ok();
    let internal = outer.and_then(|outer| outer.part("internal"));
    let internal = internal.and_then(|internal| Message::read(&internal).ok());
    let text = |key| internal.as_ref()?.text(key).ok().flatten();
    Origin {
        work: text("work_id"),
        applicant: text("applicant_id"),
        ..Origin::default()
    }
}

/// The body of a listen message without its work, which was told already: a replay must not report again.
pub(crate) fn without_work(body: &Bytes) -> Bytes {
    let without = || {
        let outer = RawObject::read(body).ok()?;
        let internal = RawObject::read(&outer.part("internal")?).ok()?;
        let internal = internal.with(&[("work_id", Value::Null)]);
        Some(outer.replace("internal", internal).with(&[]))
    };
    without().unwrap_or_else(|| body.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_decides() {
        for (status, expected) in [
            (200, Verdict::Done),
            (202, Verdict::Done),
            (204, Verdict::Hold),
            (301, Verdict::Hold),
            (400, Verdict::Dead),
            (401, Verdict::Renew),
            (403, Verdict::Renew),
            (404, Verdict::Dead),
            (408, Verdict::Hold),
            (425, Verdict::Hold),
            (429, Verdict::Hold),
            (500, Verdict::Hold),
            (503, Verdict::Hold),
        ] {
            assert_eq!(verdict(status), expected, "{status}");
        }
    }

    #[test]
    fn a_body_says_its_work_and_its_applicant_and_loses_only_the_work() {
        let body = Bytes::from_static(
            br#"{"internal":{"work_id":"w","applicant_id":"u","n":1e400},"event":{"work_id":"kept"}}"#,
        );
        let (work, applicant) = (Some("w".to_owned()), Some("u".to_owned()));
        let expected = Origin {
            applicant,
            work,
            ..Origin::default()
        };
        assert_eq!(origin(&body), expected);
        let without = without_work(&body);
        assert_eq!(
            without,
            br#"{"internal":{"work_id":null,"applicant_id":"u","n":1e400},"event":{"work_id":"kept"}}"#[..]
        );
        assert_eq!(origin(&without).work, None);
        for odd in [r#"{"internal":7}"#, r#"{"internal":null}"#, "nonsense"] {
            assert_eq!(origin(&odd.into()), Origin::default());
            assert_eq!(without_work(&odd.into()), odd.as_bytes());
        }
    }
}

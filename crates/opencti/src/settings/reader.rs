//! Reads single settings, and gathers what is wrong with them.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use url::Url;

use super::error::{SettingError, SettingErrors};
use super::source::{Found, Sources};
use super::{CustomHeaders, Pem, Verify};

/// The levels that the platform's worker knows.
pub(super) const LOG_LEVELS: [&str; 6] = ["debug", "info", "warn", "warning", "error", "critical"];

const TRUE: [&str; 3] = ["yes", "true", "True"];
const FALSE: [&str; 3] = ["no", "false", "False"];

/// The largest pool.
const POOL_LIMIT: u64 = 1_000;

pub(super) struct Reader<'a> {
    sources: &'a Sources<'a>,
    errors: Vec<SettingError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(sources: &'a Sources<'a>) -> Self {
        Self {
            errors: sources.unknown(),
            sources,
        }
    }

    pub(super) fn finish(self) -> Result<(), SettingErrors> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(SettingErrors(self.errors))
        }
    }

    pub(super) fn refuse(&mut self, key: &str, value: Option<String>, rule: impl Into<String>) {
        let origin = self.sources.find(key).map(|found| found.origin);
        self.errors.push(SettingError {
            key: origin.unwrap_or_else(|| key.to_owned()),
            value,
            rule: rule.into(),
        });
    }

    /// Whether `key` is set, be it to something wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.sources.find(key).is_some()
    }

    fn found(&mut self, key: &str) -> Option<(Found, String)> {
        let found = self.sources.find(key)?;
        let text = match &found.value {
            Value::String(text) => text.trim().to_owned(),
            Value::Bool(_) | Value::Number(_) => found.value.to_string(),
            _ => {
                self.refuse(key, None, "must be a single value");
                return None;
            }
        };
        Some((found, text))
    }

    /// A value that `parse` accepts; else the error says that it must be `rule`.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        rule: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let (_, text) = self.found(key)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.refuse(key, Some(text), format!("must be {rule}"));
        }
        parsed
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.found(key).map(|(_, text)| text)
    }

    pub(super) fn flag(&mut self, key: &str, default: bool) -> bool {
        self.parsed(key, "yes, true or True, or no, false or False", flag)
            .unwrap_or(default)
    }

    pub(super) fn whole(&mut self, key: &str, default: u64, range: (u64, u64)) -> u64 {
        let rule = if range.1 == u64::MAX {
            format!("a whole number from {} on", range.0)
        } else {
            format!("a whole number from {} to {}", range.0, range.1)
        };
        let parse = |text: &str| {
            text.parse()
                .ok()
                .filter(|number| (range.0..=range.1).contains(number))
        };
        self.parsed(key, &rule, parse).unwrap_or(default)
    }

    pub(super) fn pool(&mut self, key: &str, default: usize) -> usize {
        let size = self.whole(key, default as u64, (1, POOL_LIMIT));
        usize::try_from(size).unwrap_or(default)
    }

    pub(super) fn seconds(&mut self, key: &str, default: u64) -> Duration {
        Duration::from_secs(self.whole(key, default, (1, 86_400)))
    }

    pub(super) fn float(&mut self, key: &str, default: f64, least: f64) -> f64 {
        let rule = format!("a number from {least} to 3600");
        let parse = |text: &str| {
            text.parse()
                .ok()
                .filter(|number| (least..=3_600.0).contains(number))
        };
        self.parsed(key, &rule, parse).unwrap_or(default)
    }

    pub(super) fn duration(&mut self, key: &str, default: Duration) -> Duration {
        let range = Duration::from_secs(1)..=Duration::from_hours(24);
        let parse = |text: &str| {
            humantime::parse_duration(text)
                .ok()
                .filter(|duration| range.contains(duration))
        };
        self.parsed(key, "a duration from 1s to 24h", parse)
            .unwrap_or(default)
    }

    pub(super) fn size(&mut self, key: &str, default: u64) -> u64 {
        let range = (1 << 20)..=(4 << 30);
        let parse = |text: &str| {
            text.parse::<bytesize::ByteSize>()
                .ok()
                .map(|size| size.as_u64())
                .filter(|size| range.contains(size))
        };
        self.parsed(key, "a size from 1MiB to 4GiB", parse)
            .unwrap_or(default)
    }

    pub(super) fn word(&mut self, key: &str, words: &[&str]) -> Option<String> {
        let rule = format!("one of {}", words.join(", "));
        let parse = |text: &str| {
            let text = text.to_lowercase();
            words.contains(&text.as_str()).then_some(text)
        };
        self.parsed(key, &rule, parse)
    }

    /// A list, or a text of words separated by commas.
    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        let Some(found) = self.sources.find(key) else {
            return Vec::new();
        };
        let words = match &found.value {
            Value::Array(values) => values
                .iter()
                .map(|value| value.as_str().map(str::to_owned))
                .collect(),
            Value::String(text) => Some(
                text.split(',')
                    .map(|word| word.trim().to_owned())
                    .filter(|word| !word.is_empty())
                    .collect(),
            ),
            _ => None,
        };
        words.unwrap_or_else(|| {
            let value = found.value.to_string();
            self.refuse(key, Some(value), "must be a list of texts");
            Vec::new()
        })
    }

    pub(super) fn url(&mut self, key: &str) -> Option<Url> {
        if self.sources.find(key).is_none() {
            self.refuse(key, None, "must be set: the platform's URL");
            return None;
        }
        let (_, text) = self.found(key)?;
        let url = Url::parse(&text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
        if url.is_none() {
            // It is not shown: a URL may hold a password.
            self.refuse(
                key,
                None,
                "must be a URL that begins with http:// or https://",
            );
        }
        url
    }

    /// A path of a file that can be read.
    pub(super) fn file(&mut self, key: &str) -> Option<PathBuf> {
        self.parsed(key, "the path of a file that can be read", readable)
    }

    pub(super) fn verify(&mut self, key: &str) -> Option<Verify> {
        let rule = "true, false, or the path of a file with certificate authorities";
        self.parsed(key, rule, |text| match flag(text) {
            Some(true) => Some(Verify::System),
            Some(false) => Some(Verify::No),
            None => readable(text).map(Verify::Ca),
        })
    }

    pub(super) fn pem(&mut self, key: &str) -> Option<Pem> {
        let (_, text) = self.found(key)?;
        if text.starts_with("-----BEGIN ") {
            return Some(Pem::Inline(text));
        }
        let file = readable(&text);
        if file.is_none() {
            // It is not shown: it may be a key that was pasted without its first line.
            let rule = "must be PEM text, or the path of a file that can be read";
            self.refuse(key, None, rule);
        }
        file.map(Pem::File)
    }

    pub(super) fn proxy(&mut self, key: &str) -> Option<String> {
        let text = self.text(key)?;
        if reqwest::Proxy::all(&text).is_ok() {
            return Some(text);
        }
        // It is not shown: it may hold a password.
        let rule = "must be the URL of a proxy, such as http://proxy:3128";
        self.refuse(key, None, rule);
        None
    }

    pub(super) fn custom_headers(&mut self, key: &str) -> CustomHeaders {
        let Some(text) = self.text(key) else {
            return CustomHeaders::default();
        };
        let pairs = text.split(';').filter(|pair| !pair.trim().is_empty());
        let read: Option<Vec<_>> = pairs
            .map(|pair| {
                let (name, value) = pair.split_once(':')?;
                let (name, value) = (name.trim(), value.trim());
                let is_name = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
                let good = !name.is_empty()
                    && name.chars().all(is_name)
                    && value.chars().all(|c| !c.is_control());
                good.then(|| (name.to_owned(), value.to_owned()))
            })
            .collect();
        CustomHeaders(read.unwrap_or_else(|| {
            // It is not shown: a value may be a secret.
            let rule = "must be pairs name:value, separated by semicolons";
            self.refuse(key, None, rule);
            Vec::new()
        }))
    }
}

fn flag(text: &str) -> Option<bool> {
    if TRUE.contains(&text) {
        return Some(true);
    }
    FALSE.contains(&text).then_some(false)
}

fn readable(text: &str) -> Option<PathBuf> {
    let path = PathBuf::from(text);
    let is_file = std::fs::File::open(&path)
        .and_then(|file| file.metadata())
        .is_ok_and(|metadata| metadata.is_file());
    is_file.then_some(path)
}

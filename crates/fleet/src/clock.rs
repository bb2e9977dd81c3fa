//! The receipt clock: when something reached this program.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::fmt::temporal::Pieces;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use tidegate::internal::status::wire::rfc3339;

/// A moment, in milliseconds since the Unix epoch; in JSON as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Moment(i64);

impl Moment {
    /// The moment at `ms` milliseconds since the Unix epoch.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn ms(self) -> i64 {
        self.0
    }

    /// The moment that an RFC 3339 text names. A moment beyond those that can be counted is the last or first one.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Some(Self(at.as_millisecond()));
        }
        let pieces = Pieces::parse(text).ok()?;
        pieces.time()?;
        pieces.offset()?;
        let last = pieces.date().year() > 0;
        let beyond = if last { Timestamp::MAX } else { Timestamp::MIN };
        Some(Self(beyond.as_millisecond()))
    }

    /// `duration` later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole(duration)))
    }

    /// `duration` earlier.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(whole(duration)))
    }

    /// `ms` later, or earlier where it is negative.
    #[must_use]
    pub const fn shifted(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// How long after `earlier` this is; nothing if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        let ms = self.0.saturating_sub(earlier.0);
        Duration::from_millis(u64::try_from(ms).unwrap_or(0))
    }
}

fn whole(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl std::fmt::Display for Moment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = Timestamp::from_millisecond(self.0).unwrap_or(if self.0 < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        });
        f.write_str(&rfc3339(at))
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom(format!("{text:?} is no RFC 3339 time"));
        Self::parse(&text).ok_or_else(wrong)
    }
}

impl JsonSchema for Moment {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// Counts from the wall clock at its start by the monotonic clock: it never jumps, whatever becomes of the wall
/// clock, so that a lease lasts as long as it says.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
    wall: Moment,
}

impl Clock {
    /// Starts it.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            wall: Moment(Timestamp::now().as_millisecond()),
        }
    }

    /// When it was started.
    pub fn started_at(&self) -> Moment {
        self.wall
    }

    /// Now.
    pub fn now(&self) -> Moment {
        self.wall.after(self.start.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_the_text_that_it_came_from() {
        let text = "2026-11-23T10:00:00.250Z";
        let moment = Moment::parse(text).unwrap();
        assert_eq!(moment.to_string(), text);
        assert_eq!(
            serde_json::to_value(moment).unwrap(),
            serde_json::json!(text)
        );
        assert_eq!(
            serde_json::from_str::<Moment>("\"2026-11-23T11:00:00.25+01:00\"").unwrap(),
            moment
        );
        assert!(serde_json::from_str::<Moment>("\"yesterday\"").is_err());
    }

    #[test]
    fn moments_beyond_every_calendar_are_still_text() {
        assert!(Moment::from_ms(i64::MAX).to_string().starts_with("9999-"));
        assert!(Moment::from_ms(i64::MIN).to_string().starts_with("-9999-"));
        let last = Moment::parse("9999-12-31T23:59:59Z").unwrap();
        assert_eq!(Moment::parse(&last.to_string()), Some(last));
        assert!(Moment::parse("9999-12-30T00:00:00Z").unwrap() < last);
        assert_eq!(Moment::from_ms(0).since(Moment::from_ms(5)), Duration::ZERO);
    }
}

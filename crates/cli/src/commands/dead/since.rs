//! Points in the past, as people write them.

use jiff::Timestamp;

/// The time that `text` names: a duration before `now` (`2h`, `1d 6h`), or an RFC 3339 date and time.
///
/// # Errors
/// A sentence that says what was expected.
pub(crate) fn since(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let before = humantime::parse_duration(text).map_err(|error| {
        format!(
            "must be a duration such as \"2h\" or a time such as \"2026-11-23T10:00:00Z\": {error}"
        )
    })?;
    now.checked_sub(before)
        .map_err(|error| format!("reaches too far back: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_back_and_a_time_is_itself() {
        let now = Timestamp::from_second(1_795_428_000).unwrap();
        assert_eq!(since("2h", now).unwrap().as_second(), 1_795_420_800);
        let at = since("2026-11-23T11:00:00+01:00", now).unwrap();
        assert_eq!(at, now);
    }

    #[test]
    fn what_is_neither_says_what_was_expected() {
        let now = Timestamp::UNIX_EPOCH;
        for text in ["yesterday", "2", ""] {
            let error = since(text, now).unwrap_err();
            assert!(error.contains("such as \"2h\""), "{text}: {error}");
        }
        let error = since("1000000 years", now).unwrap_err();
        assert!(error.contains("too far back"), "{error}");
    }
}

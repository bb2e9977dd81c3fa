//! What the broker says when a declaration differs from the queue that is there (406). Pure.

/// A property or an argument that is there with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::broker) struct Inequivalent<'t> {
    /// Its name, such as `durable` or `x-max-length`.
    pub argument: &'t str,
    /// What the queue has; `None` if it has none.
    pub current: Option<Current<'t>>,
}

/// A value as the broker names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::broker) struct Current<'t> {
    /// The value as text.
    pub value: &'t str,
    /// Its AMQP type, if the broker names one.
    pub kind: Option<&'t str>,
}

/// Reads `inequivalent arg 'x-a' for queue 'q' in vhost '/': received … but current is the value 'v' of type 'longstr'`,
/// `… but current is 'v'` or `… but current is none`. Nothing if `text` says something else, or was cut off.
pub(in crate::broker) fn inequivalent(text: &str) -> Option<Inequivalent<'_>> {
    let (_, rest) = text.split_once("inequivalent arg '")?;
    let (argument, rest) = rest.split_once('\'')?;
    // A queue's name may hold anything, so the end is what counts.
    let (_, current) = rest.rsplit_once("but current is ")?;
    if current.starts_with("none") {
        return Some(Inequivalent {
            argument,
            current: None,
        });
    }
    let current = current.strip_prefix("the value ").unwrap_or(current);
    let quoted = current.strip_prefix('\'')?.strip_suffix('\'')?;
    let current = match quoted.rsplit_once("' of type '") {
        Some((value, kind)) => Current {
            value,
            kind: Some(kind),
        },
        None => Current {
            value: quoted,
            kind: None,
        },
    };
    Some(Inequivalent {
        argument,
        current: Some(current),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(rest: &str) -> String {
        format!("PRECONDITION_FAILED - inequivalent arg {rest}")
    }

    #[test]
    fn the_broker_s_words_name_the_argument_and_its_value() {
        let current = |value, kind| Some(Current { value, kind });
        for (rest, argument, expected) in [
            (
                "'x-max-length' for queue 'it''s' in vhost '/': received none but current is the value '7' of type 'long'",
                "x-max-length",
                current("7", Some("long")),
            ),
            (
                "'x-a' for queue 'q' in vhost '/': received none but current is the value 'it's' of type 'longstr'",
                "x-a",
                current("it's", Some("longstr")),
            ),
            (
                "'durable' for queue 'q' in vhost '/': received 'true' but current is 'false'",
                "durable",
                current("false", None),
            ),
            (
                "'x-a' for queue 'q' in vhost '/': received the value '-1' of type 'signedint' but current is none",
                "x-a",
                None,
            ),
        ] {
            let text = text(rest);
            let current = expected;
            assert_eq!(
                inequivalent(&text),
                Some(Inequivalent { argument, current }),
                "{rest}"
            );
        }
    }

    #[test]
    fn a_text_that_was_cut_off_or_says_something_else_says_nothing() {
        for rest in [
            "'x-a' for queue 'q' in vhost '/': recei",
            "'x-a' for queue 'q' in vhost '/': received none but current is the value 'v",
        ] {
            assert_eq!(inequivalent(&text(rest)), None, "{rest}");
        }
        assert_eq!(inequivalent("NOT_FOUND - no queue 'q'"), None);
    }
}

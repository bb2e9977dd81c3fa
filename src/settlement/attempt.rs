//! Which run of a message a delivery is.

use std::collections::BTreeMap;

use crate::delivery::{HeaderValue, header};

/// Which run of a message this is, by its headers, when it is delivered from `queue`: one more than the
/// runs that the worker counted in its last copy, where `queue` is what it was copied from.
///
/// Where the queue delays what is rejected (`delayed_by_broker`), the broker counts the rejections since
/// that copy in `x-delivery-count`; and, which nobody can tell apart, each time a worker that had the
/// message lost its channel. Elsewhere that header says nothing of runs: brokers before 4.3 count what was handed back
/// unstarted, too.
pub(crate) fn attempt_of(
    headers: &BTreeMap<String, HeaderValue>,
    queue: &str,
    delayed_by_broker: bool,
) -> u32 {
    let number = |name: &str| {
        let number = headers.get(name).and_then(HeaderValue::as_i64);
        number.map_or(0, |number| u32::try_from(number.max(0)).unwrap_or(u32::MAX))
    };
    let own = headers.get(header::QUEUE).and_then(HeaderValue::as_str) == Some(queue);
    let copied = if own { number(header::ATTEMPTS) } else { 0 };
    let returned = if delayed_by_broker {
        number("x-delivery-count")
    } else {
        0
    };
    copied.saturating_add(returned).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&str, HeaderValue)]) -> BTreeMap<String, HeaderValue> {
        let all = all
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        all.collect()
    }

    #[test]
    fn the_first_run_is_attempt_one() {
        assert_eq!(attempt_of(&headers(&[]), "orders", false), 1);
        let handed_back = headers(&[("x-delivery-count", HeaderValue::I64(7))]);
        assert_eq!(attempt_of(&handed_back, "orders", false), 1);
    }

    #[test]
    fn runs_are_counted_by_copies_and_by_a_queue_that_delays() {
        let copied = headers(&[
            (header::QUEUE, "orders".into()),
            (header::ATTEMPTS, HeaderValue::I64(2)),
            ("x-delivery-count", HeaderValue::I64(3)),
        ]);
        assert_eq!(attempt_of(&copied, "orders", false), 3);
        assert_eq!(attempt_of(&copied, "orders", true), 6);
        assert_eq!(attempt_of(&copied, "elsewhere", false), 1);
    }

    #[test]
    fn headers_that_make_no_sense_do_no_harm() {
        for (value, expected) in [
            (HeaderValue::I64(-4), 1),
            (HeaderValue::I64(i64::MAX), u32::MAX),
            ("many".into(), 1),
        ] {
            let forged = headers(&[(header::QUEUE, "orders".into()), (header::ATTEMPTS, value)]);
            assert_eq!(attempt_of(&forged, "orders", false), expected);
        }
    }
}

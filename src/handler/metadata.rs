//! What a delivery tells a handler outside this process: its properties and headers as names and texts,
//! from which HTTP headers and environment variables are made.

use std::borrow::Cow;
use std::collections::HashSet;

use super::trace;
use crate::delivery::Delivery;

/// Everything about `delivery` but its headers and body: names in lower case with hyphens, values as text.
/// Optional properties that are absent are absent here.
///
/// Bounded by the broker: each is a short string of at most 255 bytes, or a number.
pub(super) fn facts(delivery: &Delivery) -> impl Iterator<Item = (&'static str, Cow<'_, str>)> {
    fn text(property: Option<&String>) -> Option<Cow<'_, str>> {
        property.map(|text| text.as_str().into())
    }
    fn number<'a>(number: Option<impl ToString>) -> Option<Cow<'a, str>> {
        number.map(|number| number.to_string().into())
    }
    let properties = &delivery.properties;
    let redelivered = if delivery.redelivered {
        "true"
    } else {
        "false"
    };
    [
        ("queue", Some((&*delivery.queue).into())),
        ("exchange", text(Some(&delivery.exchange))),
        ("routing-key", text(Some(&delivery.routing_key))),
        ("attempt", number(Some(delivery.attempt))),
        ("redelivered", Some(redelivered.into())),
        ("message-id", text(properties.message_id.as_ref())),
        ("correlation-id", text(properties.correlation_id.as_ref())),
        ("content-type", text(properties.content_type.as_ref())),
        (
            "content-encoding",
            text(properties.content_encoding.as_ref()),
        ),
        ("type", text(properties.kind.as_ref())),
        ("timestamp", number(properties.timestamp)),
        ("app-id", text(properties.app_id.as_ref())),
        ("user-id", text(properties.user_id.as_ref())),
        ("reply-to", text(properties.reply_to.as_ref())),
        ("expiration", text(properties.expiration.as_ref())),
        ("priority", number(properties.priority)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

/// The message headers of `delivery` as texts, in the order of their names, without its trace context.
pub(super) fn headers(delivery: &Delivery) -> impl Iterator<Item = (&str, String)> {
    delivery
        .properties
        .headers
        .iter()
        .filter(|(name, _)| !trace::NAMES.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), value.to_text()))
}

/// What [`fit`] allows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Total of the lengths of names and values, in bytes.
    pub(super) bytes: usize,
    /// Number of entries.
    pub(super) entries: usize,
}

/// Leaves out entries until the rest fits: of those with the same name all but the first, then the largest.
/// Returns what is kept, in its order, and how many were left out.
pub(super) fn fit(
    mut entries: Vec<(String, String)>,
    room: Room,
) -> (Vec<(String, String)>, usize) {
    if entries.is_empty() {
        return (entries, 0);
    }
    let offered = entries.len();
    let mut seen = HashSet::new();
    entries.retain(|(name, _)| seen.insert(name.clone()));

    let size = |(name, value): &(String, String)| name.len() + value.len();
    let mut sizes: Vec<(usize, usize)> = entries.iter().map(size).zip(0..).collect();
    sizes.sort_unstable();
    let mut left = room.bytes;
    let kept: HashSet<usize> = sizes
        .into_iter()
        .take(room.entries)
        .map_while(|(size, index)| {
            left = left.checked_sub(size)?;
            Some(index)
        })
        .collect();
    let entries: Vec<_> = entries
        .into_iter()
        .enumerate()
        .filter(|(index, _)| kept.contains(index))
        .map(|(_, entry)| entry)
        .collect();
    let omitted = offered - entries.len();
    (entries, omitted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &str, value: &str) -> (String, String) {
        (name.into(), value.into())
    }

    #[test]
    fn the_largest_are_left_out_first_and_the_order_stays() {
        let offered = vec![
            entry("c", "1"),
            entry("a", &"x".repeat(50)),
            entry("b", "2"),
        ];
        let room = Room {
            bytes: 10,
            entries: 10,
        };
        assert_eq!(
            fit(offered, room),
            (vec![entry("c", "1"), entry("b", "2")], 1)
        );
    }

    #[test]
    fn of_equal_names_the_first_is_kept() {
        let room = Room {
            bytes: 10,
            entries: 10,
        };
        assert_eq!(
            fit(vec![entry("a", "1"), entry("a", "2")], room),
            (vec![entry("a", "1")], 1)
        );
    }

    proptest! {
        #[test]
        fn what_is_kept_fits_and_what_is_left_out_is_counted(
            offered in prop::collection::vec(("[a-d]{1,3}", "[x]{0,30}"), 0..40),
            bytes in 0_usize..300,
            entries in 0_usize..20,
        ) {
            let (kept, omitted) = fit(offered.clone(), Room { bytes, entries });
            let total: usize = kept.iter().map(|(name, value)| name.len() + value.len()).sum();
            prop_assert!(total <= bytes);
            prop_assert!(kept.len() <= entries);
            prop_assert_eq!(kept.len() + omitted, offered.len());
            prop_assert!(kept.iter().all(|entry| offered.contains(entry)));
        }
    }
}

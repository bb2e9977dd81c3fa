//! The identity of a dead letter, by which a later pass recognises it.

use serde_json::json;
use xxhash_rust::xxh3::xxh3_128;

use super::Letter;

/// Headers that the broker changes on its own while the message waits.
const CHANGING: [&str; 2] = ["x-delivery-count", "x-acquired-count"];

/// A fingerprint of everything in the letter that does not change while it waits, as 32 hexadecimal digits.
///
/// Two letters with the same identity are the same in every byte: if one is settled, the other remains.
pub fn identity(letter: &Letter) -> String {
    let properties = &letter.delivery.properties;
    let headers: Vec<_> = properties
        .headers
        .iter()
        .filter(|(name, _)| !CHANGING.contains(&name.as_str()))
        .map(|(name, value)| (name, value.to_json()))
        .collect();
    let facts = json!([
        letter.delivery.exchange,
        letter.delivery.routing_key,
        headers,
        properties.content_type,
        properties.content_encoding,
        properties.delivery_mode,
        properties.priority,
        properties.correlation_id,
        properties.reply_to,
        properties.expiration,
        properties.message_id,
        properties.timestamp,
        properties.kind,
        properties.user_id,
        properties.app_id,
        format!("{:032x}", xxh3_128(&letter.delivery.body)),
    ]);
    format!("{:032x}", xxh3_128(facts.to_string().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::super::letter::testing::letter;
    use super::*;
    use tidegate::delivery::HeaderValue;

    #[test]
    fn a_letter_keeps_its_identity_when_it_is_delivered_again() {
        let first = letter(&[("k", "v".into())]);
        let mut again = letter(&[
            ("k", "v".into()),
            ("x-delivery-count", HeaderValue::I64(3)),
            ("x-acquired-count", HeaderValue::I64(4)),
        ]);
        again.delivery.redelivered = true;
        assert_eq!(identity(&first), identity(&again));
        assert_eq!(identity(&first).len(), 32);
    }

    #[test]
    fn any_other_difference_is_another_identity() {
        let one = identity(&letter(&[("k", "v".into())]));
        let mut others = vec![letter(&[("k", "w".into())]), letter(&[])];
        let mut changed = letter(&[("k", "v".into())]);
        changed.delivery.body = "bodz".into();
        others.push(changed.clone());
        changed.delivery.body = "body".into();
        changed.delivery.properties.correlation_id = Some("c".into());
        others.push(changed);
        for other in others {
            assert_ne!(identity(&other), one);
        }
    }
}

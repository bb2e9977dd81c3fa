//! The proof that the `x-tidegate-*` headers of a message were written for it. Pure.
//!
//! Applications pass headers on: a handler that publishes new messages with the headers of the one it works on, a shovel
//! that moves dead letters back. So a header that a worker acts on needs a proof. The seal is a hash over the copy's
//! own headers, what it was made for, its properties, its headers and its body; it fits no other message.
//!
//! The seal is no secret. A publisher who forges one can say only about their own message which run it is and when it
//! may run; that harms this message alone. Whether two copies are one message is decided by
//! [`Identity`](crate::settlement::Identity), which nobody outside this process can compute.

use crate::delivery::{ContentHash, HeaderValue, Properties, header};

/// The purpose of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be run again by a consumer of its queue.
    Retry,
    /// To wait in the dead letters.
    Dead,
}

impl Purpose {
    const fn number(self) -> u64 {
        match self {
            Self::Retry => 1,
            Self::Dead => 2,
        }
    }
}

/// Seals a copy that was made for `purpose`, with these properties and this body. Nothing of it may change afterwards.
///
/// The seal leaves out what brokers may change on the way: `expiration` and `delivery_mode`, which dead-lettering and queues
/// touch, `timestamp` and the header `timestamp_in_ms`, which interceptors set, and headers of the form `x-…` that are
/// not ours, as in `x-death`.
pub fn seal(purpose: Purpose, properties: &mut Properties, body: &[u8]) {
    let seal = HeaderValue::Text(seal_of(purpose, properties, body));
    properties.headers.insert(header::SEAL.to_owned(), seal);
}

fn seal_of(purpose: Purpose, properties: &Properties, body: &[u8]) -> String {
    let mut hash = ContentHash::with_seed(0);
    hash.number(purpose.number());
    hash.stable_properties(properties);
    for (name, value) in properties.headers.iter().filter(|(name, _)| counts(name)) {
        hash.header(name, value);
    }
    hash.bytes(body);
    format!("{:032x}", hash.finish())
}

fn counts(header: &str) -> bool {
    if header.starts_with(header::PREFIX) {
        return header != header::SEAL;
    }
    !header.starts_with("x-") && header != "timestamp_in_ms"
}

/// Whether a worker made this message, unchanged since, for `purpose`.
pub fn is_sealed(purpose: Purpose, properties: &Properties, body: &[u8]) -> bool {
    let claimed = properties.headers.get(header::SEAL);
    claimed
        .and_then(HeaderValue::as_str)
        .is_some_and(|claimed| claimed == seal_of(purpose, properties, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Properties {
        let mut properties = Properties {
            message_id: Some("7".into()),
            delivery_mode: Some(2),
            ..Properties::default()
        };
        for (name, value) in [
            ("tenant", "a".into()),
            (header::QUEUE, "orders".into()),
            (header::ATTEMPTS, HeaderValue::I64(2)),
            (header::COPY, "01K".into()),
        ] {
            properties.headers.insert(name.to_owned(), value);
        }
        seal(Purpose::Retry, &mut properties, b"body");
        properties
    }

    #[test]
    fn a_seal_fits_its_message_and_its_purpose_alone() {
        let properties = sealed();
        assert!(is_sealed(Purpose::Retry, &properties, b"body"));
        assert!(!is_sealed(Purpose::Dead, &properties, b"body"));
        assert!(!is_sealed(Purpose::Retry, &properties, b"another body"));
        let changes: [fn(&mut Properties); 5] = [
            |it| it.message_id = Some("8".into()),
            |it| it.correlation_id = Some("c".into()),
            |it| {
                let two = HeaderValue::I64(3);
                it.headers.insert(header::ATTEMPTS.to_owned(), two);
            },
            |it| {
                it.headers.insert("tenant".to_owned(), "b".into());
            },
            |it| {
                it.headers.remove(header::SEAL);
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut changed = properties.clone();
            change(&mut changed);
            assert!(
                !is_sealed(Purpose::Retry, &changed, b"body"),
                "change {number}"
            );
        }
    }

    #[test]
    fn what_a_broker_changes_on_the_way_breaks_no_seal() {
        let mut properties = sealed();
        properties.delivery_mode = None;
        properties.timestamp = Some(1_795_428_000);
        for name in ["x-death", "x-first-death-queue", "timestamp_in_ms"] {
            properties.headers.insert(name.to_owned(), "new".into());
        }
        let narrower = HeaderValue::U8(2);
        let headers = &mut properties.headers;
        headers.insert(header::ATTEMPTS.to_owned(), narrower);
        assert!(is_sealed(Purpose::Retry, &properties, b"body"));
    }
}

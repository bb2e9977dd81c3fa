//! Makes a copy fit the largest frame that the broker takes. Pure.
//!
//! A content header is one frame, whatever is in it. The broker answers a larger one by closing the whole connection
//! (501), so that such a copy must never be sent.

use super::copy::Target;
use super::seal::{Purpose, seal};
use crate::delivery::{HeaderValue, Message, Properties, header, header_frame_size, header_size};

/// Room that a copy for a retry leaves for what the broker adds in the delay queue (`x-death` and the like, with names of
/// queues of up to 255 bytes each).
const ROOM_FOR_DEATHS: usize = 2_048;
/// Room for the list of what a dead letter leaves out.
const ROOM_FOR_NAMES: usize = 2_048;
/// Headers of ours that only inform; a copy that leaves them out works all the same.
const INFORMING: [&str; 3] = [header::WORKER, header::AT, header::REASON];

/// `message`, a copy for `target`, made to fit `frame_max` (0: no limit). The error text is shortened first. A dead letter
/// then leaves out headers of the message, the largest first, and says which. `None` if a retry does not fit even without
/// its error: what a handler sees must not change between runs.
pub(crate) fn fit(mut message: Message, target: &Target, frame_max: u32) -> Option<Message> {
    let frame_max = usize::try_from(frame_max).unwrap_or(usize::MAX);
    let purpose = target.purpose();
    let limit = match (frame_max, purpose) {
        (0, _) => usize::MAX,
        (limit, Purpose::Retry) => limit.saturating_sub(ROOM_FOR_DEATHS),
        (limit, Purpose::Dead) => limit,
    };
    let properties = &mut message.properties;
    if header_frame_size(properties) <= limit {
        return Some(message);
    }
    let error = properties.headers.remove(header::ERROR);
    match purpose {
        Purpose::Retry => {
            for name in INFORMING {
                if header_frame_size(properties) > limit {
                    properties.headers.remove(name);
                }
            }
        }
        Purpose::Dead if header_frame_size(properties) > limit => leave_out(properties, limit),
        Purpose::Dead => {}
    }
    if let Some(HeaderValue::Text(error)) = error {
        put_back(properties, error, limit);
    }
    seal(purpose, properties, &message.body);
    (header_frame_size(properties) <= limit).then_some(message)
}

/// Leaves out the largest headers that are not ours until the rest fits; then what else can be missed.
fn leave_out(properties: &mut Properties, limit: usize) {
    let limit = limit.saturating_sub(ROOM_FOR_NAMES);
    let mut candidates: Vec<_> = properties
        .headers
        .iter()
        .map(|(name, value)| {
            let own = name.starts_with(header::PREFIX);
            let last = own && name != header::CC;
            (last, header_size(name, value), name.clone())
        })
        .filter(|(last, _, name)| !last || name == header::ORIGINAL)
        .collect();
    candidates.sort_by_key(|(last, size, _)| (*last, std::cmp::Reverse(*size)));
    let mut omitted = Vec::new();
    let mut size = header_frame_size(properties);
    for (_, header_size, name) in candidates {
        if size <= limit {
            break;
        }
        properties.headers.remove(&name);
        size -= header_size;
        omitted.push(name);
    }
    let mut room = ROOM_FOR_NAMES / 2;
    let names = omitted.iter().map_while(|name| {
        room = room.checked_sub(name.len() + 5)?;
        Some(HeaderValue::from(name.as_str()))
    });
    let names = HeaderValue::List(names.collect());
    properties.headers.insert(header::OMITTED.to_owned(), names);
}

/// Puts as much of the error text back as fits.
fn put_back(properties: &mut Properties, mut error: String, limit: usize) {
    let empty = header_size(header::ERROR, &HeaderValue::Text(String::new()));
    let room = limit.saturating_sub(header_frame_size(properties) + empty);
    error.truncate(error.floor_char_boundary(room));
    if !error.is_empty() {
        let error = HeaderValue::Text(error);
        properties.headers.insert(header::ERROR.to_owned(), error);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::seal::is_sealed;
    use super::super::testing::{delivery, now};
    use super::super::{Why, copy, receive};
    use super::*;
    use crate::handler::Reason;

    const FRAME_MAX: u32 = 8_192;

    fn made(sizes: &[usize], error: usize, target: &Target) -> Message {
        let mut delivery = delivery();
        for (number, size) in sizes.iter().enumerate() {
            let value = HeaderValue::Text("x".repeat(*size));
            delivery
                .properties
                .headers
                .insert(format!("h{number}"), value);
        }
        let why = Why {
            reason: Reason::Handler,
            error: "ü".repeat(error / 2),
            attempts: 1,
        };
        let received = receive(delivery.into(), false, now());
        let id = ulid::Ulid::from_parts(0, 7);
        copy(&received, target, &why, "web-1-01K", now(), id)
    }

    fn dead() -> Target {
        Target::Dead {
            exchange: String::new(),
            routing_key: "orders.dead".into(),
        }
    }

    fn delay() -> Target {
        Target::Delay {
            step: std::time::Duration::from_secs(1),
            not_before: None,
        }
    }

    #[test]
    fn what_fits_is_left_as_it_is() {
        let message = made(&[100], 100, &dead());
        assert_eq!(
            fit(message.clone(), &dead(), FRAME_MAX),
            Some(message.clone())
        );
        assert_eq!(fit(message.clone(), &dead(), 0), Some(message));
    }

    #[test]
    fn the_error_is_shortened_before_anything_is_left_out() {
        let message = made(&[6_000], 2_000, &dead());
        let fitting = fit(message, &dead(), FRAME_MAX).expect("dead letters can be made to fit");
        let headers = &fitting.properties.headers;
        assert!(!headers.contains_key(header::OMITTED));
        assert!((1..2_000).contains(&headers[header::ERROR].to_text().len()));
        let message = made(&[8_000], 2_000, &dead());
        let fitting = fit(message, &dead(), FRAME_MAX).expect("dead letters can be made to fit");
        let headers = &fitting.properties.headers;
        // With the large header gone there is room for the text again.
        assert_eq!(headers[header::OMITTED].to_text(), r#"["h0"]"#);
        assert_eq!(headers[header::ERROR].to_text().len(), 2_000);
        let message = made(&[4_500], 2_000, &delay());
        let fitting = fit(message, &delay(), FRAME_MAX).expect("there is room for some of it");
        let headers = &fitting.properties.headers;
        assert!(headers[header::ERROR].to_text().len() < 2_000);
        assert!(!headers.contains_key(header::OMITTED));
    }

    #[test]
    fn a_retry_that_leaves_something_out_is_none() {
        let message = made(&[7_000], 0, &delay());
        assert_eq!(fit(message, &delay(), FRAME_MAX), None);
    }

    proptest! {
        #[test]
        fn every_dead_letter_fits_and_is_sealed(
            sizes in prop::collection::vec(0_usize..9_000, 0..20),
            error in 0_usize..2_000,
        ) {
            let message = made(&sizes, error, &dead());
            let fitting = fit(message, &dead(), FRAME_MAX).expect("every dead letter can be made to fit");
            let properties = &fitting.properties;
            prop_assert!(header_frame_size(properties) <= FRAME_MAX as usize);
            prop_assert!(is_sealed(Purpose::Dead, properties, &fitting.body));
            prop_assert!(properties.headers.contains_key(header::REASON));
        }

        #[test]
        fn a_retry_that_fits_is_whole(
            sizes in prop::collection::vec(0_usize..3_000, 0..4),
            error in 0_usize..2_000,
        ) {
            let message = made(&sizes, error, &delay());
            let whole = message.clone();
            if let Some(fitting) = fit(message, &delay(), FRAME_MAX) {
                let properties = &fitting.properties;
                prop_assert!(header_frame_size(properties) + ROOM_FOR_DEATHS <= FRAME_MAX as usize);
                prop_assert!(is_sealed(Purpose::Retry, properties, &fitting.body));
                for (name, value) in &whole.properties.headers {
                    if !name.starts_with(header::PREFIX) {
                        prop_assert_eq!(properties.headers.get(name), Some(value));
                    }
                }
            }
        }
    }
}

//! What a dead letter says about itself, as far as it is proven.
//!
//! Headers are passed on: an application that publishes with the headers of the message it works on hands down
//! `x-tidegate-*` too. So these headers count only if the letter's seal proves that a worker wrote them for this letter.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use tidegate::delivery::{Delivery, HeaderValue, header};
use tidegate::internal::retry::{Purpose, Received, is_sealed};
use tidegate::internal::settlement::Identity;

/// The headers in which a dead letter of OpenCTI's worker names the connector that it came from: its id and its name.
pub const CONNECTOR: &str = "x-tidegate-connector";
/// See [`CONNECTOR`].
pub const CONNECTOR_NAME: &str = "x-tidegate-connector-name";

/// The header in which RabbitMQ records how a message was dead-lettered, the latest first.
const DEATHS: &str = "x-death";

/// A dead letter.
#[derive(Debug, Clone, PartialEq)]
pub struct Letter {
    /// The queue whose dead letter it is.
    pub queue: String,
    /// The message as it waits in the dead-letter queue.
    pub delivery: Delivery,
    /// Whether a worker made this letter, so that its notes in `x-tidegate-*` are about this message.
    by_worker: bool,
}

/// One entry of that header: a queue's own dead-lettering.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death<'a>(&'a BTreeMap<String, HeaderValue>);

impl<'a> Death<'a> {
    /// The entries in `headers`, the latest first.
    fn all(headers: &'a BTreeMap<String, HeaderValue>) -> impl Iterator<Item = Self> {
        let deaths = match headers.get(DEATHS) {
            Some(HeaderValue::List(deaths)) => &deaths[..],
            _ => &[],
        };
        deaths.iter().filter_map(|death| match death {
            HeaderValue::Table(death) => Some(Self(death)),
            _ => None,
        })
    }

    /// Whether `queue` is what dead-lettered the message.
    fn is_in(self, queue: &str) -> bool {
        self.text("queue") == Some(queue)
    }

    fn text(self, name: &str) -> Option<&'a str> {
        self.0.get(name)?.as_str()
    }

    /// The exchange that the message had been published to.
    pub(super) fn exchange(self) -> Option<&'a str> {
        self.text("exchange")
    }

    /// The routing key that it had been published with.
    pub(super) fn routing_key(self) -> Option<&'a str> {
        match self.0.get("routing-keys")? {
            HeaderValue::List(keys) => keys.first()?.as_str(),
            _ => None,
        }
    }

    /// The time to live that it had had.
    pub(super) fn expiration(self) -> Option<&'a str> {
        self.text("original-expiration")
    }

    fn at(self) -> Option<Timestamp> {
        match self.0.get("time")? {
            HeaderValue::Timestamp(seconds) => seconds_since_epoch(*seconds),
            _ => None,
        }
    }
}

fn seconds_since_epoch(seconds: u64) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(seconds).ok()?).ok()
}

impl Letter {
    /// The dead letter of `queue` that `delivery` is.
    pub fn new(queue: impl Into<String>, delivery: Delivery) -> Self {
        let queue = queue.into();
        let by_worker = is_by_worker(&queue, &delivery);
        Self {
            queue,
            delivery,
            by_worker,
        }
    }

    /// Whether a worker made this letter, unchanged since. If not, its `x-tidegate-*` headers are inherited or forged, or
    /// from a worker that did not seal its letters yet.
    pub(super) fn is_by_worker(&self) -> bool {
        self.by_worker
    }

    fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.delivery.properties.headers.get(name)
    }

    /// A worker's note in the header `name`; nothing if no worker made this letter.
    pub(super) fn note(&self, name: &str) -> Option<&str> {
        self.noted(name)?.as_str()
    }

    fn noted(&self, name: &str) -> Option<&HeaderValue> {
        self.header(name).filter(|_| self.by_worker)
    }

    /// Why the letter itself cannot be decoded, if so: somebody moved an undecodable message here. Our own connection says
    /// so, and no sender can.
    pub(super) fn undecodable(&self) -> Option<&str> {
        self.header(header::UNDECODABLE)?.as_str()
    }

    /// How RabbitMQ dead-lettered it: from the queue whose dead letter it is, else the latest entry.
    pub(super) fn death(&self) -> Option<Death<'_>> {
        let latest = Death::all(&self.delivery.properties.headers).next();
        self.death_here().or(latest)
    }

    /// How RabbitMQ dead-lettered it from the queue whose dead letter it is.
    pub(super) fn death_here(&self) -> Option<Death<'_>> {
        let mut deaths = Death::all(&self.delivery.properties.headers);
        deaths.find(|death| death.is_in(&self.queue))
    }

    /// The message's identifier, if it has one.
    pub fn id(&self) -> Option<&str> {
        self.delivery.properties.message_id.as_deref()
    }

    /// Why its last run failed: a reason of Tidegate's (`handler`, `timeout`, …) if a worker made the letter, else of
    /// RabbitMQ's (`rejected`, `maxlen`, …).
    pub fn reason(&self) -> Option<&str> {
        if self.undecodable().is_some() {
            return Some("undecodable");
        }
        let own = self.note(header::REASON);
        own.or_else(|| self.death()?.text("reason"))
    }

    /// What went wrong, in a worker's words.
    pub fn error(&self) -> Option<&str> {
        self.undecodable().or_else(|| self.note(header::ERROR))
    }

    /// How many times it has been run, by a worker's count.
    pub fn attempts(&self) -> Option<u64> {
        let attempts = self.noted(header::ATTEMPTS)?.as_i64()?;
        u64::try_from(attempts).ok()
    }

    /// The worker that gave it up.
    pub fn worker(&self) -> Option<&str> {
        self.note(header::WORKER)
    }

    /// The OpenCTI connector that it came from: its id and its name, as far as OpenCTI's worker says.
    pub fn connector(&self) -> (Option<&str>, Option<&str>) {
        (self.note(CONNECTOR), self.note(CONNECTOR_NAME))
    }

    /// When it died, as far as it says.
    pub fn at(&self) -> Option<Timestamp> {
        let own = self
            .note(header::AT)
            .and_then(|text| text.parse::<Timestamp>().ok());
        own.or_else(|| self.death()?.at())
    }

    /// Which copy this letter is, if a worker made it: a hash over its id, its queue and its content. A copy that was
    /// published again, because its first confirm was lost, has the same. As with the copies for retries, nobody outside
    /// this process can make two letters that look like one.
    pub(super) fn copy(&self) -> Option<Identity> {
        self.noted(header::COPY)?;
        let received = Received {
            delivery: Arc::new(self.delivery.clone()),
            copy: None,
            expires_at: None,
        };
        Some(Identity::of(&received, None))
    }

    /// How often it has been returned to a quorum queue, by the broker's count.
    pub fn returns(&self) -> Option<u64> {
        u64::try_from(self.header("x-delivery-count")?.as_i64()?).ok()
    }
}

/// Whether a worker made `delivery` as a dead letter, and it is one of `queue`.
///
/// Several queues may share the queue of their dead letters, so that a letter can name another queue than the one by which
/// it is looked for. But if the broker dead-lettered the message from `queue` itself, somebody had moved the other
/// queue's letter there: its notes are about an earlier death.
fn is_by_worker(queue: &str, delivery: &Delivery) -> bool {
    let headers = &delivery.properties.headers;
    let noted = headers.get(header::QUEUE).and_then(HeaderValue::as_str);
    is_sealed(Purpose::Dead, &delivery.properties, &delivery.body)
        && (noted == Some(queue) || !Death::all(headers).any(|death| death.is_in(queue)))
}

#[cfg(test)]
pub(super) mod testing {
    use tidegate::internal::retry::seal;

    use super::*;

    /// A dead letter of `orders` with `headers`.
    pub(crate) fn letter(headers: &[(&str, HeaderValue)]) -> Letter {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let mut delivery = Delivery::new("orders.dead", "body");
        delivery.properties.message_id = Some("m-1".into());
        delivery.properties.headers = headers.collect();
        Letter::new("orders", delivery)
    }

    /// A dead letter of `orders` with `headers`, as a worker makes it.
    pub(crate) fn sealed(headers: &[(&str, HeaderValue)]) -> Letter {
        let own = [(header::QUEUE, "orders".into())];
        sealed_again(letter(&[&own, headers].concat()).delivery)
    }

    /// `delivery`, which was changed, as the letter that a worker makes of it.
    pub(crate) fn sealed_again(mut delivery: Delivery) -> Letter {
        seal(Purpose::Dead, &mut delivery.properties, &delivery.body);
        Letter::new("orders", delivery)
    }

    /// One entry of `x-death`.
    pub(crate) fn death(queue: &str, reason: &str, exchange: &str, key: &str) -> HeaderValue {
        let fields = [
            ("queue", queue.into()),
            ("reason", reason.into()),
            ("exchange", exchange.into()),
            ("routing-keys", HeaderValue::List(vec![key.into()])),
            ("time", HeaderValue::Timestamp(1_795_428_000)),
            ("original-expiration", "60000".into()),
        ];
        HeaderValue::Table(fields.map(|(name, value)| (name.to_owned(), value)).into())
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{death, letter, sealed, sealed_again};
    use super::*;

    #[test]
    fn a_letter_of_a_worker_says_why_it_died() {
        let letter = sealed(&[
            (header::REASON, "handler".into()),
            (header::ERROR, "no such customer".into()),
            (header::ATTEMPTS, HeaderValue::I64(5)),
            (header::WORKER, "web-1-01K".into()),
            (header::AT, "2026-11-23T10:00:00.000Z".into()),
            (header::COPY, "01K".into()),
            (
                "x-death",
                HeaderValue::List(vec![death("orders.retry.1000", "expired", "", "x")]),
            ),
        ]);
        assert_eq!(letter.reason(), Some("handler"));
        assert_eq!(letter.error(), Some("no such customer"));
        assert_eq!(letter.attempts(), Some(5));
        assert_eq!(letter.worker(), Some("web-1-01K"));
        assert_eq!(letter.at().unwrap().as_second(), 1_795_428_000);
        assert!(letter.copy().is_some());
    }

    #[test]
    fn what_a_letter_inherited_or_forged_says_nothing() {
        let notes = [
            (header::QUEUE, "orders".into()),
            (header::REASON, "handler".into()),
            (header::ERROR, "no such customer".into()),
            (header::ATTEMPTS, HeaderValue::I64(5)),
            (header::WORKER, "web-1-01K".into()),
            (header::AT, "2026-11-23T10:00:00.000Z".into()),
            (header::COPY, "01K".into()),
            (CONNECTOR, "c-1".into()),
        ];
        let mut inherited = sealed(&notes).delivery;
        inherited.body = "another".into();
        for letter in [letter(&notes), Letter::new("orders", inherited)] {
            assert_eq!((letter.reason(), letter.error()), (None, None));
            assert_eq!((letter.attempts(), letter.at()), (None, None));
            assert_eq!(letter.connector(), (None, None));
            assert_eq!((letter.worker(), letter.copy()), (None, None));
        }
    }

    #[test]
    fn copies_are_one_letter_if_id_and_content_and_queue_are_the_same() {
        let of = |id: &str, queue: &str| {
            sealed(&[(header::COPY, id.into()), (header::QUEUE, queue.into())])
        };
        let one = of("01K", "orders");
        let mut again = one.clone();
        again.delivery.redelivered = true;
        let headers = &mut again.delivery.properties.headers;
        headers.insert(header::DELIVERY_COUNT.to_owned(), HeaderValue::I64(1));
        assert_eq!(again.copy(), one.copy());
        let mut other_body = one.delivery.clone();
        other_body.body = "another".into();
        let mut other_message = one.delivery.clone();
        other_message.properties.message_id = Some("m-2".into());
        for other in [
            of("01L", "orders"),
            of("01K", "bills"),
            sealed_again(other_body),
            sealed_again(other_message),
        ] {
            assert!(other.copy().is_some());
            assert_ne!(other.copy(), one.copy());
        }
    }

    #[test]
    fn a_letter_that_was_moved_to_another_queue_and_died_there_is_not_the_first_queue_s() {
        let mut moved = sealed(&[(header::REASON, "handler".into())]).delivery;
        assert_eq!(
            Letter::new("shared", moved.clone()).reason(),
            Some("handler")
        );
        let headers = &mut moved.properties.headers;
        let deaths = HeaderValue::List(vec![death("bills", "rejected", "", "bills")]);
        headers.insert(DEATHS.to_owned(), deaths);
        let found = |queue: &str| Letter::new(queue, moved.clone());
        assert_eq!(found("bills").reason(), Some("rejected"));
        assert_eq!(found("orders").reason(), Some("handler"));
    }

    #[test]
    fn a_letter_of_the_broker_says_what_happened_in_its_queue() {
        let letter = letter(&[(
            "x-death",
            HeaderValue::List(vec![
                death("later", "expired", "", "later"),
                death("orders", "rejected", "shop", "order.new"),
            ]),
        )]);
        assert_eq!(letter.reason(), Some("rejected"));
        assert_eq!(letter.at().unwrap().as_second(), 1_795_428_000);
        let death = letter.death().unwrap();
        assert_eq!(
            (death.exchange(), death.routing_key()),
            (Some("shop"), Some("order.new"))
        );
    }

    #[test]
    fn a_letter_that_says_nothing_is_one_all_the_same() {
        let letter = letter(&[("x-death", "rubbish".into())]);
        assert_eq!(
            (
                letter.reason(),
                letter.error(),
                letter.attempts(),
                letter.at()
            ),
            (None, None, None, None)
        );
    }
}

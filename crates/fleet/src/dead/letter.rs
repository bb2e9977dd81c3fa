//! What a dead letter says about itself.

use std::collections::BTreeMap;

use jiff::Timestamp;

use tidegate::delivery::{Delivery, HeaderValue, header};

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
}

/// One entry of that header: a queue's own dead-lettering.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death<'a>(&'a BTreeMap<String, HeaderValue>);

impl<'a> Death<'a> {
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
        Self {
            queue: queue.into(),
            delivery,
        }
    }

    fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.delivery.properties.headers.get(name)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.header(name)?.as_str()
    }

    /// Why the letter itself cannot be decoded, if so: somebody moved an undecodable message here.
    pub(super) fn undecodable(&self) -> Option<&str> {
        self.text(header::UNDECODABLE)
    }

    /// How RabbitMQ dead-lettered it: from the queue whose dead letter it is, else the latest entry.
    pub(super) fn death(&self) -> Option<Death<'_>> {
        let HeaderValue::List(deaths) = self.header(DEATHS)? else {
            return None;
        };
        let deaths = deaths.iter().filter_map(|death| match death {
            HeaderValue::Table(death) => Some(Death(death)),
            _ => None,
        });
        let mut first = None;
        for death in deaths {
            if death.text("queue") == Some(&self.queue) {
                return Some(death);
            }
            first = first.or(Some(death));
        }
        first
    }

    /// The message's identifier, if it has one.
    pub fn id(&self) -> Option<&str> {
        self.delivery.properties.message_id.as_deref()
    }

    /// Why its last run failed: a reason of Tidegate's (`handler`, `timeout`, …) or of RabbitMQ's (`rejected`, `maxlen`, …).
    pub fn reason(&self) -> Option<&str> {
        if self.undecodable().is_some() {
            return Some("undecodable");
        }
        let own = self.text(header::REASON);
        own.or_else(|| self.death()?.text("reason"))
    }

    /// What went wrong, in words.
    pub fn error(&self) -> Option<&str> {
        self.undecodable().or_else(|| self.text(header::ERROR))
    }

    /// How many times it has been run.
    pub fn attempts(&self) -> Option<u64> {
        let attempts = self.header(header::ATTEMPTS)?.as_i64()?;
        u64::try_from(attempts).ok()
    }

    /// The worker that gave it up.
    pub fn worker(&self) -> Option<&str> {
        self.text(header::WORKER)
    }

    /// The OpenCTI connector that it came from: its id and its name, as far as it says.
    pub fn connector(&self) -> (Option<&str>, Option<&str>) {
        (self.text(CONNECTOR), self.text(CONNECTOR_NAME))
    }

    /// When it died, as far as it says.
    pub fn at(&self) -> Option<Timestamp> {
        let own = self
            .text(header::AT)
            .and_then(|text| text.parse::<Timestamp>().ok());
        own.or_else(|| self.death()?.at())
    }

    /// The id of the copy. A copy that was published again, because its first confirm was lost, has the same id.
    pub fn copy(&self) -> Option<&str> {
        self.text(header::COPY)
    }

    /// How often it has been returned to a quorum queue, by the broker's count.
    pub fn returns(&self) -> Option<u64> {
        u64::try_from(self.header("x-delivery-count")?.as_i64()?).ok()
    }
}

#[cfg(test)]
pub(super) mod testing {
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
    use super::testing::{death, letter};
    use super::*;

    #[test]
    fn a_letter_of_a_worker_says_why_it_died() {
        let letter = letter(&[
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
        assert_eq!(letter.copy(), Some("01K"));
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

//! Messages that the queue took back and delivers again, on the channel that still has their first delivery.
//!
//! That happens when a cluster node is cut off from a quorum queue's leader and comes back: the queue has taken the node
//! for dead and its deliveries back, the node's channel lives. Settlements of the first delivery change nothing any more.

use super::{Book, InHand, Known, Then};
use crate::settlement::{ChannelTag, Settlement, Work};

impl Book {
    /// What is known of a message that was delivered before on this channel; `None` if it was not, or if nothing proves
    /// that it is the same message. The proof is the queue's own count of deliveries: of two equal messages, the
    /// second delivery of one has the higher count.
    pub(super) fn returned(&mut self, tag: u64, work: &Work) -> Option<Known> {
        let count = work.earlier_deliveries;
        if count == 0 || work.is_copy() || !work.identity.is_named() {
            return None;
        }
        let generation = self.present?;
        let known = if let Some(first) = self.in_hand_before(work) {
            let before = first.moves_to(ChannelTag { generation, tag }, work);
            // If it was another message after all, this gives it back.
            self.decide(before.tag, Settlement::HandBack, None, false);
            "running"
        } else if self.unproven.acknowledged(work.identity, count) {
            self.settle(tag, work, Settlement::Ack);
            "finished"
        } else {
            return None;
        };
        Some(Known::Adopted {
            known,
            then: Then::Nothing,
        })
    }

    fn in_hand_before(&mut self, work: &Work) -> Option<&mut InHand> {
        let generation = self.present?;
        let in_hand = self.running.values_mut().chain(self.copying.values_mut());
        in_hand
            .filter(|in_hand| in_hand.place.generation == generation)
            .find(|in_hand| in_hand.work.is_before(work))
    }

    /// A delivery that waits for a slot has been replaced by another of the same message.
    pub(crate) fn replaced(&mut self, tag: u64) {
        self.decide(tag, Settlement::HandBack, None, false);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::delivery::{Delivery, HeaderValue, Properties};
    use crate::handler::Outcome;
    use crate::retry::Received;
    use crate::settlement::{Call, Ended, Identity, RunEnd, Written};

    fn work(id: Option<&str>, count: i64) -> Work {
        let mut delivery = Delivery {
            queue: "q".into(),
            exchange: String::new(),
            routing_key: "q".into(),
            redelivered: count > 0,
            attempt: 1,
            properties: Properties {
                message_id: id.map(str::to_owned),
                ..Properties::default()
            },
            body: "body".into(),
        };
        if count > 0 {
            let headers = &mut delivery.properties.headers;
            headers.insert("x-acquired-count".to_owned(), HeaderValue::I64(count));
        }
        let received = Received {
            delivery: delivery.into(),
            copy: None,
            expires_at: None,
        };
        let identity = Identity::of(&received, None);
        Work::new(received, identity, Instant::now())
    }

    fn place(tag: u64) -> ChannelTag {
        ChannelTag { generation: 1, tag }
    }

    /// A book whose run 1 works on the first delivery of "m".
    fn running(window: u64) -> Book {
        let now = Instant::now();
        let mut book = Book::new(10);
        book.open(1, window, now);
        book.deliver(1).expect("the first");
        let Known::New(first) = book.arrive(1, work(Some("m"), 0), now) else {
            panic!("nothing is known of it");
        };
        book.begin_run(1, place(1), first, now);
        book
    }

    fn finish(book: &mut Book) -> u64 {
        let done = RunEnd::Decided(Outcome::Done);
        let ended = book.end_run(1, done, Instant::now());
        let Some(Ended::Follow(in_hand, Outcome::Done)) = ended else {
            panic!("it is on the present channel: {ended:?}");
        };
        book.settle(in_hand.place.tag, &in_hand.work, Settlement::Ack);
        in_hand.place.tag
    }

    fn calls(book: &mut Book) -> Vec<Call> {
        let mut calls = Vec::new();
        book.next_batch(&mut calls);
        calls
    }

    fn arrive(book: &mut Book, tag: u64, work: Work) -> Option<&'static str> {
        book.deliver(tag).expect("in order");
        match book.arrive(tag, work, Instant::now()) {
            Known::Adopted { known, .. } => Some(known),
            Known::New(_) | Known::Twin => None,
        }
    }

    #[test]
    fn a_run_whose_message_was_taken_back_settles_its_second_delivery() {
        let mut book = running(10);
        assert_eq!(arrive(&mut book, 2, work(Some("m"), 1)), Some("running"));
        let returned = Call::HandBack {
            tag: 1,
            multiple: false,
        };
        assert_eq!(calls(&mut book), [returned]);
        assert_eq!(finish(&mut book), 2);
    }

    #[test]
    fn equal_messages_do_not_take_turns_in_being_handed_back() {
        let mut book = running(10);
        assert_eq!(arrive(&mut book, 2, work(Some("m"), 1)), Some("running"));
        // The one that was handed back comes again: it is another message.
        assert_eq!(arrive(&mut book, 3, work(Some("m"), 1)), None);

        // The same after a lost channel: both were delivered before, and one of them runs.
        let now = Instant::now();
        let mut book = running(10);
        book.end_channel(Written::Unproven, now);
        book.open(2, 10, now);
        assert_eq!(arrive(&mut book, 1, work(Some("m"), 1)), Some("running"));
        assert_eq!(arrive(&mut book, 2, work(Some("m"), 1)), None);
        assert!(calls(&mut book).is_empty(), "nothing is handed back");
    }

    #[test]
    fn a_message_taken_back_before_its_acknowledgement_is_acknowledged_again() {
        for window in [1, 10] {
            let mut book = running(window);
            finish(&mut book);
            calls(&mut book);
            // With a window of one, this delivery proves that the broker knows of the acknowledgement.
            assert_eq!(arrive(&mut book, 2, work(Some("m"), 1)), Some("finished"));
            let acknowledged = Call::Ack {
                tag: 2,
                multiple: false,
            };
            assert_eq!(calls(&mut book), [acknowledged]);
        }
    }

    #[test]
    fn an_equal_message_is_another_unless_the_queue_counts_more_deliveries() {
        let mut book = running(10);
        assert_eq!(arrive(&mut book, 2, work(Some("m"), 0)), None);
        let mut book = running(10);
        assert_eq!(arrive(&mut book, 2, work(Some("n"), 1)), None);
        finish(&mut book);
        // Both were delivered elsewhere before, once each.
        assert_eq!(arrive(&mut book, 3, work(Some("m"), 1)), Some("finished"));
        assert_eq!(arrive(&mut book, 4, work(Some("m"), 1)), None);
    }

    #[test]
    fn a_message_without_an_id_is_never_taken_for_another() {
        let now = Instant::now();
        let mut book = Book::new(10);
        book.open(1, 10, now);
        assert_eq!(arrive(&mut book, 1, work(None, 0)), None);
        book.begin_run(1, place(1), work(None, 0), now);
        assert_eq!(arrive(&mut book, 2, work(None, 1)), None);
    }
}

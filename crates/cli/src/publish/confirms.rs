//! The messages that the broker has confirmed. Confirms may come in any order. Pure.

use std::collections::BTreeSet;

/// The account of one run's messages, numbered from 0 in the order they were sent.
///
/// Every message is in one state: under way (sent, no answer yet), confirmed, refused, or unknown (the
/// connection was lost before an answer: the broker may have it). Memory grows with the number of messages sent after
/// the first one that is not confirmed. The sender's window bounds that number, and so does its stop at the first
/// failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Confirms {
    sent: u64,
    /// Every message with a smaller number is confirmed.
    prefix: u64,
    /// Confirmed messages after the prefix.
    islands: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    unknown: BTreeSet<u64>,
}

/// The result of sending a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The broker took responsibility for the message.
    Confirmed,
    /// The message was returned, negatively confirmed, or could not be sent at all.
    Refused,
    /// Nothing is known: the broker may have it.
    Unknown,
}

impl Confirms {
    /// Numbers the next message and counts it as under way.
    pub(crate) fn send(&mut self) -> u64 {
        let number = self.sent;
        self.sent += 1;
        number
    }

    /// Records the answer for message `number`. The first answer stands: a later one, or one for a message
    /// that was never sent, changes nothing.
    pub(crate) fn enter(&mut self, number: u64, answer: Answer) {
        if self.is_answered(number) || number >= self.sent {
            return;
        }
        match answer {
            Answer::Confirmed => {
                self.islands.insert(number);
                while self.islands.remove(&self.prefix) {
                    self.prefix += 1;
                }
            }
            Answer::Refused => {
                self.refused.insert(number);
            }
            Answer::Unknown => {
                self.unknown.insert(number);
            }
        }
    }

    fn is_answered(&self, number: u64) -> bool {
        number < self.prefix
            || self.islands.contains(&number)
            || self.refused.contains(&number)
            || self.unknown.contains(&number)
    }

    /// Messages sent.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Messages confirmed, wherever they stand.
    pub(crate) fn confirmed(&self) -> u64 {
        self.prefix + count(&self.islands)
    }

    /// How many messages from the first one on are confirmed without a gap. A run that goes on from here loses nothing.
    pub(crate) fn prefix(&self) -> u64 {
        self.prefix
    }

    /// Messages confirmed after the prefix. A run that goes on from the prefix sends them a second time.
    pub(crate) fn beyond(&self) -> u64 {
        count(&self.islands)
    }

    /// Messages that the broker did not take.
    pub(crate) fn refused(&self) -> u64 {
        count(&self.refused)
    }

    /// Messages without an answer. A run that goes on from the prefix may send them a second time.
    pub(crate) fn unknown(&self) -> u64 {
        self.sent - self.confirmed() - self.refused()
    }

    /// Messages that may end up twice in the queue when the run goes on from its prefix.
    #[cfg(test)]
    fn possible_repeats(&self) -> u64 {
        self.beyond() + self.unknown()
    }

    /// Whether every message that was sent is confirmed.
    pub(crate) fn all_confirmed(&self) -> bool {
        self.prefix == self.sent
    }
}

fn count(set: &BTreeSet<u64>) -> u64 {
    u64::try_from(set.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sent(count: u64) -> Confirms {
        let mut confirms = Confirms::default();
        for expected in 0..count {
            assert_eq!(confirms.send(), expected);
        }
        confirms
    }

    #[test]
    fn confirms_that_come_out_of_order_lengthen_the_prefix_once_the_gap_closes() {
        let mut confirms = sent(4);
        confirms.enter(1, Answer::Confirmed);
        confirms.enter(2, Answer::Confirmed);
        assert_eq!((confirms.prefix(), confirms.beyond()), (0, 2));
        confirms.enter(0, Answer::Confirmed);
        assert_eq!((confirms.prefix(), confirms.beyond()), (3, 0));
        assert!(!confirms.all_confirmed());
        confirms.enter(3, Answer::Confirmed);
        assert!(confirms.all_confirmed());
    }

    #[test]
    fn a_refused_message_ends_the_prefix_and_is_no_possible_repeat() {
        let mut confirms = sent(4);
        confirms.enter(0, Answer::Confirmed);
        confirms.enter(1, Answer::Refused);
        confirms.enter(2, Answer::Confirmed);
        assert_eq!(confirms.prefix(), 1);
        assert_eq!(confirms.refused(), 1);
        assert_eq!(confirms.unknown(), 1, "message 3 has no answer");
        assert_eq!(confirms.possible_repeats(), 2, "messages 2 and 3");
    }

    #[test]
    fn the_first_answer_stands_and_an_answer_to_nothing_changes_nothing() {
        let mut confirms = sent(1);
        confirms.enter(0, Answer::Refused);
        let before = confirms.clone();
        confirms.enter(0, Answer::Confirmed);
        confirms.enter(7, Answer::Confirmed);
        assert_eq!(confirms, before);
    }

    fn answers() -> impl Strategy<Value = Vec<Option<Answer>>> {
        let answer = prop_oneof![
            6 => Just(Some(Answer::Confirmed)),
            1 => Just(Some(Answer::Refused)),
            1 => Just(Some(Answer::Unknown)),
            1 => Just(None),
        ];
        proptest::collection::vec(answer, 0..60)
    }

    proptest! {
        #[test]
        fn every_message_is_counted_once_whatever_the_order_of_answers(
            answers in answers(),
            order in any::<u64>(),
        ) {
            let mut confirms = sent(answers.len() as u64);
            let mut numbers: Vec<u64> = (0..answers.len() as u64).collect();
            numbers.sort_by_key(|number| number.wrapping_mul(order | 1).rotate_left(17));
            for number in numbers {
                if let Some(answer) = answers[usize::try_from(number).unwrap()] {
                    confirms.enter(number, answer);
                }
            }
            let of = |wanted: Answer| answers.iter().filter(|answer| **answer == Some(wanted)).count() as u64;
            let prefix = answers.iter().take_while(|answer| **answer == Some(Answer::Confirmed)).count() as u64;
            prop_assert_eq!(confirms.prefix(), prefix);
            prop_assert_eq!(confirms.confirmed(), of(Answer::Confirmed));
            prop_assert_eq!(confirms.beyond(), of(Answer::Confirmed) - prefix);
            prop_assert_eq!(confirms.refused(), of(Answer::Refused));
            prop_assert_eq!(confirms.confirmed() + confirms.refused() + confirms.unknown(), confirms.sent());
            prop_assert_eq!(confirms.all_confirmed(), prefix == confirms.sent());
        }

        #[test]
        fn going_on_from_the_prefix_loses_nothing_and_repeats_no_more_than_foretold(answers in answers()) {
            let mut confirms = sent(answers.len() as u64);
            for (number, answer) in answers.iter().enumerate() {
                if let Some(answer) = answer {
                    confirms.enter(number as u64, *answer);
                }
            }
            // The broker has what it confirmed and, at worst, everything unanswered; the second run sends
            // all from the prefix on.
            let refused = |number: usize| answers[number] == Some(Answer::Refused);
            let start = usize::try_from(confirms.prefix()).unwrap();
            let repeats = (start..answers.len()).filter(|number| !refused(*number)).count() as u64;
            prop_assert!(answers[..start].iter().all(|answer| *answer == Some(Answer::Confirmed)));
            prop_assert_eq!(repeats, confirms.possible_repeats());
        }
    }
}

//! A naive model of the worker and its broker, which does what the book does.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::model::{At, Message, Proof, Stage, pending};
use super::{Book, Ended, Known, RunEnd, Tally, Then, Written};
use crate::delivery::{Delivery, Properties};
use crate::handler::Outcome;
use crate::retry::Received;
use crate::settlement::{ChannelTag, Identity, Settlement, Work};

/// The book, and what is to be expected of it.
pub(super) struct World {
    pub(super) book: Book,
    pub(super) now: Instant,
    pub(super) messages: Vec<Message>,
    pub(super) generation: u64,
    pub(super) connected: bool,
    pub(super) tags: u64,
    pub(super) numbers: u64,
    pub(super) draining: bool,
    pub(super) expected: Tally,
    /// Settlements decided and not written, by tag: whether they settle an outcome.
    pub(super) decided: BTreeMap<u64, (usize, Settlement)>,
}

impl World {
    pub(super) fn new() -> Self {
        let messages = (0..12).map(|number| Message {
            named: number % 3 > 0,
            ..Message::default()
        });
        let now = Instant::now();
        let mut book = Book::new(100);
        book.open(1, 1_000, now);
        Self {
            book,
            now,
            messages: messages.collect(),
            generation: 1,
            connected: true,
            tags: 0,
            numbers: 0,
            draining: false,
            expected: Tally::default(),
            decided: BTreeMap::new(),
        }
    }

    pub(super) fn work(&self, number: usize) -> Work {
        let message = &self.messages[number];
        let delivery = Delivery {
            queue: "q".into(),
            exchange: String::new(),
            routing_key: "q".into(),
            redelivered: message.delivered,
            attempt: 1,
            properties: Properties {
                message_id: message.named.then(|| number.to_string()),
                ..Properties::default()
            },
            body: number.to_string().into(),
        };
        let received = Received {
            delivery: delivery.into(),
            copy: None,
            expires_at: None,
        };
        let identity = Identity::of(&received, None);
        Work::new(received, identity, self.now)
    }

    pub(super) fn pick(&self, index: usize, wanted: impl Fn(&Message) -> bool) -> Option<usize> {
        let all: Vec<usize> = (0..self.messages.len())
            .filter(|&number| wanted(&self.messages[number]))
            .collect();
        (!all.is_empty()).then(|| all[index % all.len()])
    }

    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn tag(&self, number: usize) -> Option<u64> {
        match self.messages[number].at {
            At::Tag(tag) => Some(tag),
            At::Ready | At::Gone => None,
        }
    }

    /// The model's side of a settlement of the present channel.
    pub(super) fn settled(&mut self, number: usize, settlement: Settlement) {
        let tag = self.tag(number).expect("it is on the present channel");
        self.decided.insert(tag, (number, settlement));
        let message = &mut self.messages[number];
        if settlement == Settlement::Ack {
            message.stage = Stage::Over;
            message.outcome = Some(Proof::Unwritten);
        } else {
            message.stage = Stage::None;
        }
    }

    pub(super) fn deliver(&mut self, index: usize) {
        if !self.connected {
            return;
        }
        let Some(number) = self.pick(index, |it| it.at == At::Ready) else {
            return;
        };
        self.tags += 1;
        let tag = self.tags;
        let work = self.work(number);
        self.messages[number].at = At::Tag(tag);
        self.messages[number].delivered = true;
        self.book.deliver(tag).expect("in order");
        match self.book.arrive(tag, work, self.now) {
            Known::New(_) => {
                // Forgotten, or never begun: nothing that was certainly unsettled may be run again.
                let message = &mut self.messages[number];
                let certain = matches!(message.outcome, Some(Proof::Unwritten));
                assert!(message.stage == Stage::None || !message.named && !certain);
                if let Some(Proof::Written { in_drain: true }) = message.outcome {
                    // The earlier outcome stays unconfirmed though the message begins anew.
                    self.expected.unconfirmed += 1;
                }
                message.outcome = None;
                message.stage = Stage::Waiting;
            }
            Known::Adopted { then, .. } => match then {
                Then::Follow(work, outcome) => self.follow(number, tag, work, &outcome),
                Then::Copy(work, _) => self.begin_copy(number, tag, work),
                Then::Nothing => {
                    if self.messages[number].stage == Stage::Over {
                        self.settled(number, Settlement::Ack);
                    }
                }
            },
            Known::Twin => panic!("there are no copies here"),
        }
    }

    pub(super) fn follow(&mut self, number: usize, tag: u64, work: Work, outcome: &Outcome) {
        self.messages[number].outcome = Some(Proof::Unwritten);
        if *outcome == Outcome::Done {
            self.book.settle(tag, &work, Settlement::Ack);
            self.settled(number, Settlement::Ack);
        } else {
            self.begin_copy(number, tag, work);
        }
    }

    pub(super) fn begin_copy(&mut self, number: usize, tag: u64, work: Work) {
        let copy = self.next_number();
        let place = ChannelTag {
            generation: self.generation,
            tag,
        };
        self.book.begin_copy(copy, place, work);
        self.messages[number].stage = Stage::Copying(copy);
        self.messages[number].outcome = Some(Proof::Unwritten);
    }

    pub(super) fn start(&mut self, index: usize) {
        if self.draining {
            return;
        }
        let Some(number) = self.pick(index, |it| it.stage == Stage::Waiting) else {
            return;
        };
        let place = ChannelTag {
            generation: self.generation,
            tag: self.tag(number).expect("what waits is on the channel"),
        };
        let run = self.next_number();
        let work = self.work(number);
        self.book.begin_run(run, place, work, self.now);
        self.messages[number].stage = Stage::Running(run);
    }

    pub(super) fn end_run(&mut self, index: usize, end: RunEnd) {
        let Some(number) = self.pick(index, |it| matches!(it.stage, Stage::Running(_))) else {
            return;
        };
        self.end(number, end);
    }

    pub(super) fn end(&mut self, number: usize, end: RunEnd) {
        let Stage::Running(run) = self.messages[number].stage else {
            panic!("it runs");
        };
        let present = self.tag(number).is_some();
        if self.draining {
            match &end {
                RunEnd::Cancelled => self.expected.interrupted += 1,
                RunEnd::Decided(Outcome::HandBack) => {
                    self.expected.handed_back += u64::from(present);
                }
                RunEnd::Decided(_) => self.expected.finished += 1,
                RunEnd::Failed(_) => {}
            }
        }
        let ended = self.book.end_run(run, end, self.now);
        match ended.expect("it ran") {
            Ended::Follow(in_hand, outcome) => {
                self.follow(number, in_hand.place.tag, in_hand.work, &outcome);
            }
            Ended::Remembered(..) => {
                assert!(!present);
                self.messages[number].stage = Stage::Over;
                self.messages[number].outcome = Some(Proof::Unwritten);
            }
            Ended::HandedBack(_) | Ended::Interrupted(_) if present => {
                self.settled(number, Settlement::HandBack);
            }
            Ended::HandedBack(_) | Ended::Interrupted(_) => {
                self.messages[number].stage = Stage::None;
            }
        }
    }

    pub(super) fn copy_ended(&mut self, index: usize, taken: bool) {
        let Some(number) = self.pick(index, |it| matches!(it.stage, Stage::Copying(_))) else {
            return;
        };
        let Stage::Copying(copy) = self.messages[number].stage else {
            panic!("it is copied");
        };
        let present = self.tag(number).is_some();
        if taken {
            self.book.copy_taken(copy, self.now);
            if present {
                self.settled(number, Settlement::Ack);
            } else {
                self.messages[number].stage = Stage::Over;
            }
        } else {
            let again = self.book.copy_failed(copy, &pending(), self.now);
            assert_eq!(again, present);
            if !present {
                self.messages[number].stage = Stage::Over;
            }
        }
    }

    pub(super) fn write(&mut self) {
        let mut calls = Vec::new();
        self.book.next_batch(&mut calls);
        for (_, (number, settlement)) in std::mem::take(&mut self.decided) {
            let message = &mut self.messages[number];
            if settlement == Settlement::Ack {
                message.outcome = Some(Proof::Written {
                    in_drain: self.draining,
                });
            } else {
                message.at = At::Ready;
            }
        }
    }

    /// The channel ends. `processed`: the broker has taken what was written.
    pub(super) fn lose(&mut self, processed: bool) {
        if !self.connected {
            return;
        }
        self.book.end_channel(Written::Unproven, self.now);
        self.decided.clear();
        self.connected = false;
        for message in &mut self.messages {
            if !matches!(message.at, At::Tag(_)) {
                continue;
            }
            let written = matches!(message.outcome, Some(Proof::Written { .. }));
            message.at = if written && processed {
                At::Gone
            } else {
                At::Ready
            };
            if message.stage == Stage::Waiting {
                message.stage = Stage::None;
            }
        }
    }

    pub(super) fn reconnect(&mut self) {
        if !self.connected {
            self.connected = true;
            self.generation += 1;
            self.tags = 0;
            self.book.open(self.generation, 1_000, self.now);
        }
    }

    pub(super) fn drain(&mut self) {
        if self.draining {
            return;
        }
        self.draining = true;
        self.book.begin_drain();
        self.hand_back_unstarted();
    }

    pub(super) fn hand_back_unstarted(&mut self) {
        let waiting = self.messages.iter().enumerate();
        let waiting: Vec<_> = waiting
            .filter(|(_, message)| message.stage == Stage::Waiting)
            .map(|(number, _)| number)
            .collect();
        for number in waiting {
            let tag = self.tag(number).expect("what waits is on the channel");
            self.book.hand_back(tag, &self.work(number));
            self.settled(number, Settlement::HandBack);
            self.expected.handed_back += 1;
        }
    }

    pub(super) fn deadline(&mut self) {
        for number in 0..self.messages.len() {
            if matches!(self.messages[number].stage, Stage::Running(_)) {
                self.end(number, RunEnd::Cancelled);
            }
        }
    }

    /// Ends the drain, and expects each count to be exact.
    pub(super) fn end_drain(mut self, closes: bool) {
        self.drain();
        self.hand_back_unstarted();
        self.deadline();
        let waits_for_copy = |message: &&Message| {
            matches!(message.stage, Stage::Copying(_)) && matches!(message.at, At::Tag(_))
        };
        let given_up = self.messages.iter().filter(waits_for_copy).count() as u64;
        assert_eq!(self.book.give_up_copies(), given_up);
        self.write();
        let written = Written::shown_by_answer(closes);
        self.book.end_channel(written, self.now);
        for message in &mut self.messages {
            let proven = closes && matches!(message.at, At::Tag(_));
            if proven && matches!(message.outcome, Some(Proof::Written { .. })) {
                message.outcome = Some(Proof::Proven);
            }
            match message.outcome {
                Some(Proof::Unwritten | Proof::Written { in_drain: true }) => {
                    self.expected.unconfirmed += 1;
                }
                Some(Proof::Proven | Proof::Written { in_drain: false }) | None => {}
            }
        }
        let tally = self.book.tally();
        let counts = |it: Tally| [it.finished, it.handed_back, it.interrupted, it.unconfirmed];
        assert_eq!(counts(tally), counts(self.expected));
        assert!(self.book.running().is_empty() && self.book.copying() == 0);
    }

    /// No message runs twice at a time, and none is both running and gone.
    pub(super) fn check(&self) {
        let running: BTreeSet<_> = self.book.running().keys().collect();
        let expected = self.messages.iter().filter_map(|it| match &it.stage {
            Stage::Running(run) => Some(run),
            _ => None,
        });
        assert_eq!(running, expected.collect());
    }
}

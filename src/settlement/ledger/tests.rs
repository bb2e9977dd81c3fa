//! The ledger against a broker that does everything one by one.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn ledger(deliveries: u64) -> Ledger {
    let mut ledger = Ledger::new();
    for tag in 1..=deliveries {
        ledger.deliver(tag).expect("in order");
    }
    ledger
}

fn batch(ledger: &mut Ledger) -> Vec<Call> {
    let mut calls = Vec::new();
    ledger.next_batch(&mut calls);
    calls
}

#[test]
fn a_settled_prefix_is_one_call_and_islands_are_one_each() {
    let mut ledger = ledger(6);
    for tag in [2, 1, 3, 5] {
        ledger.decide(tag, Settlement::Ack).expect("open");
    }
    let prefix = Call::Ack {
        tag: 3,
        multiple: true,
    };
    let island = Call::Ack {
        tag: 5,
        multiple: false,
    };
    assert_eq!(batch(&mut ledger), [prefix, island]);
    assert_eq!(batch(&mut ledger), []);
    ledger.decide(4, Settlement::Ack).expect("open");
    assert_eq!(
        batch(&mut ledger),
        [Call::Ack {
            tag: 4,
            multiple: false
        }]
    );
    assert_eq!(ledger.open(), 1);
}

#[test]
fn what_goes_back_goes_in_the_order_of_the_queue() {
    let mut ledger = ledger(4);
    for tag in [3, 1, 4, 2] {
        ledger.decide(tag, Settlement::HandBack).expect("open");
    }
    let one = |tag, multiple| Call::HandBack { tag, multiple };
    assert_eq!(batch(&mut ledger), [one(4, true)], "one call for all");
    let mut ledger = self::ledger(4);
    for tag in [4, 2, 3] {
        ledger.decide(tag, Settlement::HandBack).expect("open");
    }
    let expected = [2, 3, 4].map(|tag| one(tag, false));
    assert_eq!(batch(&mut ledger), expected, "the first is open");
}

#[test]
fn a_prefix_reaches_across_what_was_handed_back_before_it() {
    let mut ledger = ledger(3);
    ledger.decide(1, Settlement::Ack).expect("open");
    ledger.decide(2, Settlement::HandBack).expect("open");
    ledger.decide(3, Settlement::Ack).expect("open");
    let expected = [
        Call::HandBack {
            tag: 2,
            multiple: false,
        },
        Call::Ack {
            tag: 3,
            multiple: true,
        },
    ];
    assert_eq!(batch(&mut ledger), expected);
}

#[test]
fn nothing_is_settled_twice_or_out_of_order() {
    let mut ledger = ledger(2);
    let out_of_order = LedgerError::OutOfOrder {
        tag: 4,
        expected: 3,
    };
    assert_eq!(ledger.deliver(4), Err(out_of_order));
    ledger.decide(1, Settlement::Ack).expect("open");
    let not_open = |tag| Err(LedgerError::NotOpen { tag });
    assert_eq!(ledger.decide(1, Settlement::HandBack), not_open(1));
    batch(&mut ledger);
    assert_eq!(ledger.decide(1, Settlement::Ack), not_open(1));
    assert_eq!(ledger.decide(0, Settlement::Ack), not_open(0));
    assert_eq!(ledger.decide(7, Settlement::Ack), not_open(7));
}

/// The broker's side of a channel, done the naive way.
#[derive(Default)]
struct Broker {
    unsettled: BTreeSet<u64>,
    settled: BTreeMap<u64, Settlement>,
}

impl Broker {
    fn take(&mut self, call: Call) -> Result<(), String> {
        let tags: Vec<u64> = match call {
            Call::Ack {
                tag,
                multiple: true,
            }
            | Call::HandBack {
                tag,
                multiple: true,
            } => self.unsettled.range(..=tag).copied().collect(),
            Call::Ack { tag, .. } | Call::HandBack { tag, .. } | Call::Return { tag } => {
                vec![tag]
            }
        };
        let settlement = match call {
            Call::Ack { .. } => Settlement::Ack,
            Call::HandBack { .. } => Settlement::HandBack,
            Call::Return { .. } => Settlement::Return,
        };
        for tag in tags {
            if !self.unsettled.remove(&tag) {
                return Err(format!("unknown tag {tag}: the broker answers 406"));
            }
            self.settled.insert(tag, settlement);
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Deliver,
    Decide(prop::sample::Index, Settlement),
    Batch,
    NewChannel,
}

fn step() -> impl Strategy<Value = Step> {
    let settlement = prop_oneof![
        5 => Just(Settlement::Ack),
        1 => Just(Settlement::HandBack),
        1 => Just(Settlement::Return),
    ];
    prop_oneof![
        6 => Just(Step::Deliver),
        6 => (any::<prop::sample::Index>(), settlement).prop_map(|(i, s)| Step::Decide(i, s)),
        3 => Just(Step::Batch),
        1 => Just(Step::NewChannel),
    ]
}

proptest! {
    #[test]
    fn every_delivery_is_settled_exactly_as_decided(steps in prop::collection::vec(step(), 0..400)) {
        let mut ledger = Ledger::new();
        let mut broker = Broker::default();
        let mut open: Vec<u64> = Vec::new();
        let mut decided: BTreeMap<u64, Settlement> = BTreeMap::new();
        let mut next = 1;
        for step in steps {
            match step {
                Step::Deliver => {
                    ledger.deliver(next).expect("in order");
                    broker.unsettled.insert(next);
                    open.push(next);
                    next += 1;
                }
                Step::Decide(index, settlement) if !open.is_empty() => {
                    let tag = open.swap_remove(index.index(open.len()));
                    ledger.decide(tag, settlement).expect("open");
                    decided.insert(tag, settlement);
                }
                Step::Decide(..) => {}
                Step::Batch => {
                    for call in batch(&mut ledger) {
                        broker.take(call).map_err(TestCaseError::fail)?;
                    }
                    prop_assert_eq!(&broker.settled, &decided);
                }
                Step::NewChannel => {
                    ledger = Ledger::new();
                    broker = Broker::default();
                    open.clear();
                    decided.clear();
                    next = 1;
                }
            }
            prop_assert_eq!(ledger.open(), open.len());
        }
        for call in batch(&mut ledger) {
            broker.take(call).map_err(TestCaseError::fail)?;
        }
        prop_assert_eq!(&broker.settled, &decided);
        prop_assert_eq!(broker.unsettled.len(), open.len());
    }
}

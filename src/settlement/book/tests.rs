//! Random lives of deliveries, against a naive model of the worker and its broker.

use proptest::prelude::*;

use super::RunEnd;
use super::world::World;
use crate::handler::Outcome;

#[derive(Debug, Clone)]
enum Step {
    Deliver(usize),
    Start(usize),
    Done(usize),
    Dead(usize),
    TimeOut(usize),
    HandBack(usize),
    CopyTaken(usize),
    CopyFailed(usize),
    Write,
    Lose { processed: bool },
    Reconnect,
    Drain,
    Deadline,
}

fn step() -> impl Strategy<Value = Step> {
    let index = any::<usize>;
    prop_oneof![
        8 => index().prop_map(Step::Deliver),
        6 => index().prop_map(Step::Start),
        4 => index().prop_map(Step::Done),
        2 => index().prop_map(Step::Dead),
        1 => index().prop_map(Step::TimeOut),
        1 => index().prop_map(Step::HandBack),
        2 => index().prop_map(Step::CopyTaken),
        1 => index().prop_map(Step::CopyFailed),
        4 => Just(Step::Write),
        1 => any::<bool>().prop_map(|processed| Step::Lose { processed }),
        2 => Just(Step::Reconnect),
        1 => Just(Step::Drain),
        1 => Just(Step::Deadline),
    ]
}

impl World {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Deliver(index) => self.deliver(*index),
            Step::Start(index) => self.start(*index),
            Step::Done(index) => self.end_run(*index, RunEnd::Decided(Outcome::Done)),
            Step::Dead(index) => self.end_run(*index, RunEnd::Decided(Outcome::dead("no"))),
            Step::TimeOut(index) => self.end_run(*index, RunEnd::Failed(Outcome::retry("slow"))),
            Step::HandBack(index) => self.end_run(*index, RunEnd::Decided(Outcome::HandBack)),
            Step::CopyTaken(index) => self.copy_ended(*index, true),
            Step::CopyFailed(index) => self.copy_ended(*index, false),
            Step::Write => self.write(),
            Step::Lose { processed } => self.lose(*processed),
            Step::Reconnect => self.reconnect(),
            Step::Drain => self.drain(),
            Step::Deadline => {
                if self.draining {
                    self.deadline();
                }
            }
        }
    }
}

#[test]
fn a_drain_cut_off_its_broker_counts_what_had_an_outcome_and_no_proof() {
    let mut world = World::new();
    for _ in 0..10 {
        world.deliver(0);
    }
    for _ in 0..2 {
        world.start(0);
    }
    world.drain();
    world.lose(false);
    world.end_run(0, RunEnd::Decided(Outcome::Done));
    world.end_run(0, RunEnd::Decided(Outcome::Done));
    let tally = world.book.tally();
    assert_eq!((tally.finished, tally.unconfirmed), (2, 2));
    assert_eq!(tally.handed_back, 8);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn every_count_of_a_drain_is_exact_whatever_happens_in_which_order(
        steps in prop::collection::vec(step(), 0..120),
        closes in any::<bool>(),
    ) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            world.check();
        }
        world.end_drain(closes);
    }
}

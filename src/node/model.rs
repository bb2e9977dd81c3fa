//! A node's task under everything that can happen, in every order.
//!
//! The task is the real one; broker and handlers are the model's, and the clock is paused. The model watches the
//! guarantees:
//! - Nothing is acknowledged that was neither done nor copied, with the copy confirmed.
//! - Each settlement settles something that is open on its own channel.
//! - Nothing runs twice, unless it was handed back, retried, or had no id when its acknowledgement was lost.
//! - Nothing is handed back while it runs, or after it was done.
//! - Nothing starts in a pause or a drain, and no more than there are slots.
//! - Once nothing is in its way, a node does all that there is.
//! - A drain ends in time, and its counts are exact. If all answer, it leaves nothing open.

mod broker;
mod event;
mod fake;
mod group;
mod handler;
mod records;
mod script;
mod stored;
mod world;

use std::io::Write as _;

use event::{EXHAUSTIVE, Event, Then};
use script::{Finale, Script};
use world::Setup;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("the variable is a number"))
}

/// What happened before the orders that are tried.
const BEGINNINGS: [&[Event]; 5] = [
    &[],
    &[Event::Deliver, Event::Deliver],
    &[Event::Deliver, Event::Retry],
    &[Event::Deliver, Event::LoseConsume],
    &[Event::Deliver, Event::Deliver, Event::Drain],
];

/// Plays `script` and every longer one, up to `depth` more events; how many.
fn every_order(script: &mut Script, depth: u64) -> u64 {
    let enabled = match script.play() {
        Ok(enabled) => enabled,
        Err(fault) => panic!("{fault}\n{script:?}"),
    };
    if depth == 0 {
        return 1;
    }
    let mut played = 1;
    for event in EXHAUSTIVE {
        if enabled.contains(&event) {
            script.steps.push((event, Then::Settles));
            played += every_order(script, depth - 1);
            script.steps.pop();
        }
    }
    played
}

#[test]
fn every_order_of_a_few_events_keeps_the_guarantees() {
    let depth = number("TIDEGATE_MODEL_DEPTH").unwrap_or(1);
    let mut played = 0;
    for beginning in BEGINNINGS {
        for finale in [Finale::Recovers, Finale::Drains, Finale::Silence] {
            let steps = beginning.iter().map(|event| (*event, Then::Settles));
            let mut script = Script {
                setup: Setup::PLAIN,
                steps: steps.collect(),
                finale,
            };
            played += every_order(&mut script, depth);
        }
    }
    // The number is for whoever runs it by hand.
    let _ = writeln!(std::io::stdout(), "{played} orders");
    assert!(played > 100, "only {played} orders were possible");
}

#[test]
fn lives_at_random_keep_the_guarantees() {
    let seeds = match number("TIDEGATE_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIDEGATE_FUZZ_ITERATIONS").unwrap_or(200),
    };
    for seed in seeds {
        let (script, result) = Script::random(seed);
        if let Err(fault) = result {
            let shortened = script.shortened();
            let again = shortened.play();
            panic!("{fault}\nTIDEGATE_MODEL_SEED={seed}\n{shortened:?}\n{again:?}");
        }
    }
}

/// The broker has closed the connection and counts what was prefetched, so deliveries come one by one: a drain that begins
/// then still gets all of them back.
#[test]
fn a_drain_soon_after_a_reconnect_settles_what_the_lost_channel_held() {
    let lost = [
        Event::Deliver,
        Event::Deliver,
        Event::ClosedByBroker,
        Event::Done,
        Event::Done,
        Event::ConnectConsume,
    ];
    for then in [&[][..], &[Event::Tick], &[Event::Tick, Event::Deliver]] {
        let steps = lost.iter().chain(then).copied();
        let script = Script {
            setup: Setup {
                slots: 2,
                prefetch: 2,
                ..Setup::PLAIN
            },
            steps: steps.map(|event| (event, Then::Settles)).collect(),
            finale: Finale::Drains,
        };
        script
            .play()
            .unwrap_or_else(|fault| panic!("{then:?}: {fault}"));
    }
}

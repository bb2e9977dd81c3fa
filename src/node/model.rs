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
//! - Neither a node nor its drain waits for what has happened already.

mod broker;
mod event;
mod fake;
mod group;
mod handler;
mod records;
mod script;
mod stored;
mod time_out;
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

/// Plays `events`, each of which settles before the next one.
fn play(setup: Setup, events: &[Event], finale: Finale) -> Result<(), String> {
    let steps = events.iter().map(|event| (*event, Then::Settles));
    let script = Script {
        setup,
        steps: steps.collect(),
        finale,
    };
    script.play().map(drop)
}

#[test]
fn what_was_decided_before_a_drain_does_not_count_for_it() {
    // The node awaits the end of its cancelled channel; meanwhile the handler decides.
    let events = [Event::Deliver, Event::BrokerCancels, Event::Done];
    for finale in [Finale::Drains, Finale::Silence] {
        assert_eq!(play(Setup::PLAIN, &events, finale), Ok(()));
    }
}

#[test]
fn what_a_closed_channel_refuses_counts_as_not_written() {
    // In a pause nothing is consumed, so that nothing tells that the channel was closed.
    let events = [
        Event::Deliver,
        Event::Pause,
        Event::Read,
        Event::ChannelError,
        Event::Done,
    ];
    assert_eq!(play(Setup::PLAIN, &events, Finale::Silence), Ok(()));
}

#[test]
fn an_abort_does_not_await_the_end_of_a_cancelled_channel() {
    let events = [
        Event::Deliver,
        Event::Done,
        Event::BrokerCancels,
        Event::Abort,
    ];
    assert_eq!(play(Setup::PLAIN, &events, Finale::Silence), Ok(()));
}

#[test]
fn an_abort_interrupts_before_its_time_is_over() {
    // One of two deliveries that the lost channel held comes again.
    let events = [
        Event::Deliver,
        Event::Deliver,
        Event::ClosedByBroker,
        Event::ConnectConsume,
        Event::Abort,
        Event::Read,
        Event::Deliver,
    ];
    let setup = Setup {
        slots: 2,
        ..Setup::PLAIN
    };
    assert_eq!(play(setup, &events, Finale::Silence), Ok(()));
}

#[test]
fn a_drain_knows_that_its_channel_was_closed_in_a_pause() {
    let events = [
        Event::Deliver,
        Event::Pause,
        Event::Read,
        Event::ChannelError,
        Event::Drain,
        Event::HandBack,
    ];
    assert_eq!(play(Setup::PLAIN, &events, Finale::Drains), Ok(()));
}

#[test]
fn a_write_that_ends_in_the_middle_of_a_drain_is_not_waited_for() {
    let setup = Setup {
        messages: 5,
        slots: 2,
        prefetch: 4,
        single_active_consumer: true,
        ..Setup::PLAIN
    };
    assert_eq!(play(setup, &[], Finale::Recovers), Ok(()));
}

#[test]
fn lives_at_random_keep_the_guarantees() {
    let seeds = match number("TIDEGATE_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIDEGATE_FUZZ_ITERATIONS").unwrap_or(2_000),
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

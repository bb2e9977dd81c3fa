//! Lives of a node: what happens, how they end, and what is to hold then.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::{Instant, sleep};

use super::event::{ALL, Event, Then, pick};
use super::world::{Drained, Setup, World};
use crate::lifecycle::limits::REDELIVERY_LIMIT;
use crate::node::NodeState;

/// How long a node may take until it has done everything, once nothing is in its way.
const RECOVERY: Duration = Duration::from_mins(2);
/// How long a broker and handlers wait that have nothing to do.
const IDLE: Duration = Duration::from_millis(100);
/// What an obliging broker does, and handlers that are done.
const OBLIGING: [Event; 7] = [
    Event::ConnectConsume,
    Event::ConnectPublish,
    Event::Read,
    Event::Confirm,
    Event::CopyReturns,
    Event::Deliver,
    Event::Done,
];

/// The end of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Finale {
    /// Nothing is in the way any more: everything is to be done. Then the node drains.
    Recovers,
    /// The node drains; the broker answers and handlers end.
    Drains,
    /// The node drains; the broker answers, and handlers do not end.
    Interrupts,
    /// The node drains, and nothing answers any more.
    Silence,
}

const FINALES: [Finale; 4] = [
    Finale::Recovers,
    Finale::Drains,
    Finale::Interrupts,
    Finale::Silence,
];

#[derive(Debug, Clone)]
pub(super) struct Script {
    pub setup: Setup,
    pub steps: Vec<(Event, Then)>,
    pub finale: Finale,
}

fn block_on<T>(life: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("it needs nothing of the system")
        .block_on(life)
}

impl Script {
    /// Plays the script; the events that were possible before its finale.
    pub(super) fn play(&self) -> Result<Vec<Event>, String> {
        block_on(async {
            let mut world = World::new(self.setup).await;
            for &(event, then) in &self.steps {
                step(&mut world, event, then).await?;
            }
            let enabled = ALL.iter().map(|(event, _)| *event);
            let enabled = if world.is_over() {
                Vec::new()
            } else {
                enabled.filter(|event| world.is_enabled(*event)).collect()
            };
            end(world, self.finale).await.map(|()| enabled)
        })
    }

    /// A life at random, and how it went.
    pub(super) fn random(seed: u64) -> (Self, Result<(), String>) {
        let mut random = StdRng::seed_from_u64(seed);
        let setup = Setup::random(&mut random);
        let steps = random.random_range(0..60);
        let turns = random.random_bool(0.5);
        let finale = FINALES[random.random_range(0..FINALES.len())];
        let mut script = Self {
            setup,
            steps: Vec::new(),
            finale,
        };
        let result = block_on(async {
            let mut world = World::new(setup).await;
            while script.steps.len() < steps && !world.is_over() {
                let enabled = ALL.iter().filter(|(event, _)| world.is_enabled(*event));
                let enabled: Vec<_> = enabled.copied().collect();
                let Some(event) = pick(&mut random, &enabled) else {
                    break;
                };
                let then = if turns && random.random_bool(0.5) {
                    Then::Turns(random.random_range(0..4))
                } else {
                    Then::Settles
                };
                script.steps.push((event, then));
                step(&mut world, event, then).await?;
            }
            end(world, finale).await
        });
        (script, result)
    }

    /// A shorter script that fails, too.
    pub(super) fn shortened(mut self) -> Self {
        let mut place = self.steps.len();
        while place > 0 {
            place -= 1;
            let mut shorter = self.clone();
            shorter.steps.remove(place);
            if shorter.play().is_err() {
                self = shorter;
            }
        }
        self
    }
}

impl Setup {
    fn random(random: &mut StdRng) -> Self {
        let slots = random.random_range(1..4);
        Self {
            messages: random.random_range(1..7),
            unnamed: random.random_bool(0.5),
            slots,
            prefetch: random.random_range(1..=2 * slots),
            shares_slots: random.random_bool(0.3),
            single_active_consumer: random.random_bool(0.2),
            delayed_retry: random.random_bool(0.2),
            kept_back: random.random_bool(0.1),
            max_attempts: random.random_range(1..4),
            aged: random.random_bool(0.8),
        }
    }
}

async fn step(world: &mut World, event: Event, then: Then) -> Result<(), String> {
    world.happen(event).await;
    world.settle(then).await;
    unbroken(world)
}

fn unbroken(world: &World) -> Result<(), String> {
    match world.broker.state().records.broken.first() {
        Some(rule) => Err(rule.clone()),
        None => Ok(()),
    }
}

/// The broker and the handlers do what they can, once. Returns whether there was anything to do.
async fn oblige(world: &mut World, handlers_end: bool) -> Result<bool, String> {
    let mut idle = true;
    for event in OBLIGING {
        let wanted = handlers_end || event != Event::Done;
        if wanted && world.is_enabled(event) {
            idle = false;
            step(world, event, Then::Settles).await?;
        }
    }
    if idle {
        sleep(IDLE).await;
    }
    unbroken(world)?;
    Ok(!idle)
}

async fn end(mut world: World, finale: Finale) -> Result<(), String> {
    let drains_already = world.deadline().is_some();
    if finale == Finale::Recovers && !drains_already {
        recover(&mut world).await?;
    }
    if !drains_already {
        world.happen(Event::Drain).await;
    }
    let obliging = !drains_already && matches!(finale, Finale::Recovers | Finale::Drains);
    if obliging {
        world.settle(Then::Settles).await;
    }
    if finale != Finale::Silence {
        let handlers_end = finale != Finale::Interrupts;
        let mut idle = Duration::ZERO;
        while !world.is_over() && world.deadline().is_some_and(|end| Instant::now() < end) {
            if !oblige(&mut world, handlers_end).await? && !world.is_over() {
                idle += IDLE;
            }
            // A queue that was cut off may still have to take its deliveries back.
            let limit = if world.cut {
                REDELIVERY_LIMIT
            } else {
                Duration::ZERO
            };
            if obliging && !world.troubled && idle > limit {
                return Err(format!("a drain waits {idle:?} although all is answered"));
            }
        }
        // At the deadline the broker still answers.
        for _ in 0..60 {
            if !world.is_over() {
                oblige(&mut world, false).await?;
            }
        }
    }
    let drained = world.drained().await?;
    // What was started meanwhile is dropped, and says so.
    sleep(Duration::from_millis(1)).await;
    unbroken(&world)?;
    counted(&world, &drained)?;
    if obliging {
        clean(&world, &drained)?;
    }
    if obliging && finale == Finale::Recovers {
        let report = &drained.report;
        if report.handed_back + report.finished + report.interrupted > 0 {
            return Err(format!("an idle node's drain has counts: {report:?}"));
        }
    }
    Ok(())
}

/// Nothing is in the way any more: the node is to do all that there is.
async fn recover(world: &mut World) -> Result<(), String> {
    world.happen(Event::Resume).await;
    world.settle(Then::Settles).await;
    let limit = Instant::now() + RECOVERY;
    while !is_done(world) {
        let any = oblige(world, true).await?;
        let waits = !any && !world.troubled && !world.cut && !is_done(world);
        if waits || Instant::now() > limit {
            let state = world.broker.state();
            return Err(format!("it does not recover: {state:#?}"));
        }
    }
    Ok(())
}

fn is_done(world: &World) -> bool {
    let consuming = matches!(*world.state.borrow(), NodeState::Consuming(_));
    let mut state = world.broker.state();
    let idle = state.channel().is_some_and(|it| it.unacked.is_empty());
    let waiting = state.ready.len() + state.delayed.len() + state.unconfirmed.len();
    consuming && idle && waiting == 0 && state.records.runs.is_empty()
}

/// The report's counts are those of the model.
fn counted(world: &World, drained: &Drained) -> Result<(), String> {
    let state = world.broker.state();
    let (report, counts) = (&drained.report, &state.records.counts);
    let unconfirmed = state.records.unconfirmed();
    let wrong = |what: &str| {
        Err(format!(
            "{what} is wrong: {report:?}; the model has {counts:?}, unconfirmed {unconfirmed}"
        ))
    };
    if report.interrupted != counts.interrupted {
        return wrong("interrupted");
    }
    let finished = counts.finished..=counts.finished + counts.maybe_finished;
    if report.finished < counts.finished || world.exact && !finished.contains(&report.finished) {
        return wrong("finished");
    }
    let handed_back = counts.handed_back..=counts.handed_back + counts.maybe_handed_back;
    if world.exact && !handed_back.contains(&report.handed_back) {
        return wrong("handed_back");
    }
    // A return that is lost is forgotten: its message runs again.
    let forgets = world.setup.delayed_retry && world.cut;
    let proven_by_delivery = counts.delivered > 0 && report.unconfirmed <= unconfirmed;
    if world.exact && !forgets && report.unconfirmed != unconfirmed && !proven_by_delivery {
        return wrong("unconfirmed");
    }
    Ok(())
}

/// A drain in which all answer leaves nothing open, even of what a channel held that was cut before it.
fn clean(world: &World, drained: &Drained) -> Result<(), String> {
    let state = world.broker.state();
    let handed_over = world.setup.single_active_consumer && world.cut;
    if world.troubled || world.cut_in_drain || handed_over {
        return Ok(());
    }
    let report = &drained.report;
    if report.unconfirmed + report.interrupted > 0 || state.records.owed() > 0 {
        let owed = state.records.owed();
        return Err(format!("a clean drain leaves {owed} open: {report:?}"));
    }
    Ok(())
}

//! A node's task, a broker and handlers that do what the test says.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::broker::{Broker, Channel};
use super::event::{Event, Then};
use super::fake::FakeLink;
use super::handler::handler;
use super::records::{Ask, Records};
use super::stored::{QUEUE, Stored, delivery};
use crate::config::{NodeSettings, RetrySettings, Slots};
use crate::delivery::Properties;
use crate::handler::Outcome;
use crate::lifecycle::CLOSING_LIMIT;
use crate::metrics::Metrics;
use crate::node::command::Command;
use crate::node::task::{Task, Told};
use crate::node::{NodeDrain, NodeParts, NodeState, SlotPool};

/// The grace of a drain.
const GRACE: Duration = Duration::from_secs(10);
/// A drain may end this late: timers have a grain of a millisecond, and each of its last steps has one.
const GRAIN: Duration = Duration::from_millis(150);
/// After one event the task has its turn this often at most; a task that waits for what is there already has it for ever.
const POLLS: u64 = 200;
/// All worlds of a process share their metrics: nothing is read from them.
static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// What a node is like, and what its queue has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
pub(super) struct Setup {
    pub messages: u8,
    /// Whether every second message has no id.
    pub unnamed: bool,
    pub slots: u8,
    pub prefetch: u8,
    pub shares_slots: bool,
    pub single_active_consumer: bool,
    pub delayed_retry: bool,
    pub kept_back: bool,
    pub max_attempts: u8,
    /// Whether the queues for copies are old enough to be trusted.
    pub aged: bool,
}

impl Setup {
    pub(super) const PLAIN: Self = Self {
        messages: 3,
        unnamed: false,
        slots: 1,
        prefetch: 2,
        shares_slots: false,
        single_active_consumer: false,
        delayed_retry: false,
        kept_back: false,
        max_attempts: 2,
        aged: true,
    };

    fn settings(self) -> NodeSettings {
        let mut settings = NodeSettings::new(QUEUE);
        let slots = usize::from(self.slots);
        settings.slots = if self.shares_slots {
            Slots::Pool("shared".to_owned())
        } else {
            Slots::Own(slots)
        };
        settings.prefetch = self.prefetch.into();
        settings.single_active_consumer = self.single_active_consumer;
        settings.delayed_retry = self.delayed_retry;
        settings.timeout = Duration::from_hours(24);
        let second = Duration::from_secs(1);
        settings.retry = RetrySettings::new(self.max_attempts.into(), second, second);
        settings
    }
}

/// The end of a drain.
#[derive(Debug)]
pub(super) struct Drained {
    pub report: NodeDrain,
    pub at: Instant,
}

#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct World {
    pub setup: Setup,
    pub broker: Broker,
    commands: watch::Sender<Command>,
    renewals: watch::Sender<Arc<NodeSettings>>,
    pub state: watch::Receiver<NodeState>,
    task: JoinHandle<Drained>,
    /// How often the task has had its turn.
    polls: Arc<AtomicU64>,
    /// Whether each event has settled before the next one.
    pub exact: bool,
    /// Whether anything was cut, refused or taken by others that a clean drain needs.
    pub troubled: bool,
    pub cut_in_drain: bool,
    /// Whether a channel was cut at all.
    pub cut: bool,
}

impl World {
    /// A node that consumes a queue with messages.
    pub(super) async fn new(setup: Setup) -> Self {
        let settings = setup.settings();
        let (commands, receiver) = watch::channel(Command::Run);
        let (state_sender, state) = watch::channel(NodeState::Opening);
        let (sender, events) = mpsc::unbounded_channel();
        // Its records need the signal of a task, which needs the broker: the first of them is put in place below.
        let unused = crate::lifecycle::DrainTrigger::new().signal();
        let broker = Broker::new(setup.records(unused));
        let parts: NodeParts<FakeLink> = NodeParts {
            settings,
            handler: handler(broker.clone()),
            slots: SlotPool::new(setup.slots.into()),
            worker: "w".to_owned(),
            publish: broker.publish.subscribe(),
            metrics: METRICS.node(&QUEUE.into(), setup.slots.into()),
            work: Handle::current(),
        };
        let session = broker.consume.subscribe();
        let (renewals, renewed) = watch::channel(Arc::new(parts.settings.clone()));
        let told = Told {
            commands: receiver,
            settings: renewed,
        };
        let task = Task::new(parts, session, told, state_sender, sender, events);
        broker.state().records = setup.records(task.drain_signal.clone());
        broker.state().single_active_consumer = setup.single_active_consumer;
        broker.state().delayed_retry = setup.delayed_retry;
        broker.state().kept_back = setup.kept_back;
        for number in 0..setup.messages {
            broker.state().ready.push_back(message(number, setup));
        }
        let polls = Arc::new(AtomicU64::new(0));
        let run = Box::pin(counted(task.run(), Arc::clone(&polls)));
        let task = tokio::spawn(async move {
            let report = run.await;
            let at = Instant::now();
            Drained { report, at }
        });
        let mut world = Self {
            setup,
            broker,
            commands,
            renewals,
            state,
            task,
            polls,
            exact: true,
            troubled: !setup.aged,
            cut_in_drain: false,
            cut: false,
        };
        world.broker.connect_publish();
        world.broker.connect_consume();
        world.settle(Then::Settles).await;
        world.happen(Event::Read).await;
        world.settle(Then::Settles).await;
        if setup.aged {
            sleep(Duration::from_secs(6)).await;
        }
        world
    }

    /// Lets the node do what follows.
    pub(super) async fn settle(&mut self, then: Then) {
        let before = self.polls.load(Ordering::Relaxed);
        self.wait(then).await;
        if self.polls.load(Ordering::Relaxed) - before > POLLS {
            let mut state = self.broker.state();
            state.records.broke("the node is busy and does nothing");
        }
    }

    async fn wait(&mut self, then: Then) {
        match then {
            Then::Settles => sleep(Duration::from_millis(1)).await,
            Then::Turns(turns) => {
                self.exact = false;
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
            }
        }
        // What was started before a command may begin after it, if nothing settles in between.
        let runs = matches!(*self.commands.borrow(), Command::Run);
        self.broker.state().records.may_start = runs || !self.exact;
    }

    pub(super) fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    fn command(&self) -> Command {
        *self.commands.borrow()
    }

    /// When a drain that is under way has to be over.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.command() {
            Command::Drain { deadline } => Some(deadline),
            Command::Abort { at } => Some(at),
            Command::Run | Command::Pause => None,
        }
    }

    fn send(&self, command: Command) {
        let may_start = command == Command::Run || !self.exact;
        let drains = matches!(command, Command::Drain { .. } | Command::Abort { .. });
        let paused = drains && self.command() == Command::Pause;
        let mut state = self.broker.state();
        state.records.may_start = may_start;
        state.records.commanded |= drains;
        state.records.paused |= paused;
        drop(state);
        self.commands.send_replace(command);
    }

    /// Whether `event` can happen now.
    pub(super) fn is_enabled(&self, event: Event) -> bool {
        let command = self.command();
        let stays = matches!(command, Command::Run | Command::Pause);
        let mut state = self.broker.state();
        let open = state.channel().is_some();
        match event {
            Event::Deliver => state.can_deliver(),
            Event::Done | Event::Retry | Event::Dead | Event::HandBack | Event::Panic => {
                state.records.oldest(true).is_some()
            }
            Event::Hold => state.records.oldest(false).is_some(),
            Event::Write => state.any_methods(|it| it.written < it.methods.len()),
            Event::Read => state.any_methods(|it| !it.methods.is_empty()),
            Event::Confirm | Event::Refuse => !state.unconfirmed.is_empty(),
            Event::CopyReturns => !state.delayed.is_empty(),
            Event::Elsewhere => !state.ready.is_empty(),
            Event::BrokerCancels => state.channel().is_some_and(|it| it.consumer.is_some()),
            Event::TimesOut => {
                // Without ids nothing tells a message that comes again on the same channel.
                let tells = state.channel().is_some_and(Channel::tells_of_time_out);
                tells && command == Command::Run && !self.setup.unnamed
            }
            Event::ChannelError => open,
            Event::LoseConsume | Event::ClosedByBroker => state.consume_link.is_some(),
            Event::LosePublish => state.publish_link.is_some(),
            Event::LosePublishTaken => {
                state.publish_link.is_some() && !state.unconfirmed.is_empty()
            }
            Event::ConnectConsume => state.consume_link.is_none(),
            Event::ConnectPublish => state.publish_link.is_none(),
            Event::Pause => command == Command::Run,
            Event::Resume => command == Command::Pause,
            Event::Drain => stays,
            Event::Deadline => matches!(command, Command::Drain { .. }),
            Event::Abort => !matches!(command, Command::Abort { .. }),
            Event::Renew | Event::Tick => true,
        }
    }

    /// Has `event` happen, if it can.
    pub(super) async fn happen(&mut self, event: Event) {
        if !self.is_enabled(event) || self.is_over() {
            return;
        }
        self.note(event);
        match event {
            Event::Deliver => self.broker.state().deliver(),
            Event::Done => self.ask(Ask::Finish(Outcome::Done)),
            Event::Retry => self.ask(Ask::Finish(Outcome::retry("no"))),
            Event::Dead => self.ask(Ask::Finish(Outcome::dead("no"))),
            Event::HandBack => self.ask(Ask::Finish(Outcome::HandBack)),
            Event::Panic => self.ask(Ask::Panic),
            Event::Hold => self.ask(Ask::Hold(Duration::from_secs(2))),
            Event::Write => self.broker.state().write(),
            Event::Read => self.broker.state().read(),
            Event::Confirm => self.broker.state().confirm(true),
            Event::Refuse => self.broker.state().confirm(false),
            Event::CopyReturns => self.broker.state().return_copy(),
            Event::Elsewhere => drop(self.broker.state().ready.pop_front()),
            Event::BrokerCancels => self.broker.state().cancel_consumer(),
            Event::TimesOut => self.broker.state().time_out(),
            Event::ChannelError => self.broker.state().fail_channel(),
            Event::LoseConsume => self.broker.lose_consume(false),
            Event::ClosedByBroker => self.broker.lose_consume(true),
            Event::LosePublish => self.broker.lose_publish(false),
            Event::LosePublishTaken => self.broker.lose_publish(true),
            Event::ConnectConsume => self.broker.connect_consume(),
            Event::ConnectPublish => self.broker.connect_publish(),
            Event::Pause => self.send(Command::Pause),
            Event::Resume => self.send(Command::Run),
            Event::Drain => self.send(Command::Drain {
                deadline: Instant::now() + GRACE,
            }),
            Event::Deadline => {
                let deadline = self.deadline().expect("it drains");
                sleep_until(deadline + GRAIN).await;
            }
            Event::Abort => self.send(Command::Abort { at: Instant::now() }),
            Event::Renew => {
                let settings = Arc::clone(&self.renewals.borrow());
                self.renewals.send_replace(settings);
            }
            Event::Tick => sleep(Duration::from_millis(1_100)).await,
        }
    }

    /// Notes what makes a clean drain impossible, and exact counts unknown.
    fn note(&mut self, event: Event) {
        let draining = self.deadline().is_some();
        match event {
            Event::Refuse
            | Event::Elsewhere
            | Event::LosePublish
            | Event::LosePublishTaken
            | Event::Deadline
            | Event::Abort
            | Event::Hold => self.troubled = true,
            Event::LoseConsume
            | Event::ClosedByBroker
            | Event::ChannelError
            | Event::BrokerCancels
            | Event::TimesOut => {
                self.cut = true;
                self.cut_in_drain |= draining;
            }
            _ => {}
        }
    }

    fn ask(&self, ask: Ask) {
        let mut state = self.broker.state();
        let finishes = !matches!(ask, Ask::Hold(_));
        let run = state.records.oldest(finishes).expect("it is enabled");
        // A handler that has just been dropped does nothing any more.
        let _ = run.ask.send(ask);
        run.asked |= finishes;
    }

    /// The end of the drain, which has to come in time.
    pub(super) async fn drained(&mut self) -> Result<Drained, String> {
        let deadline = self.deadline().expect("it drains");
        let end = self.command().end().expect("it drains").max(deadline);
        let limit = end.max(Instant::now()) + CLOSING_LIMIT;
        let before = self.polls.load(Ordering::Relaxed);
        let ended = tokio::time::timeout_at(limit, &mut self.task).await;
        if self.polls.load(Ordering::Relaxed) - before > 10 * POLLS {
            return Err("the drain is busy and does nothing".to_owned());
        }
        let drained = ended
            .map_err(|_elapsed| "the drain does not end".to_owned())?
            .map_err(|error| format!("the node's task fails: {error}"))?;
        if drained.at > end + GRAIN {
            let late = drained.at.duration_since(end);
            return Err(format!("the drain ends {late:?} late"));
        }
        Ok(drained)
    }
}

/// Counts how often `task` has its turn.
async fn counted<T>(task: impl Future<Output = T>, polls: Arc<AtomicU64>) -> T {
    let mut task = pin!(task);
    std::future::poll_fn(|context| {
        polls.fetch_add(1, Ordering::Relaxed);
        task.as_mut().poll(context)
    })
    .await
}

impl Setup {
    fn records(self, drain: crate::lifecycle::DrainSignal) -> Records {
        let slots = self.slots.into();
        Records::new(drain, self.delayed_retry, self.max_attempts.into(), slots)
    }
}

fn message(number: u8, setup: Setup) -> Stored {
    let named = !setup.unnamed || number.is_multiple_of(2);
    let id = format!("m{number}");
    let properties = Properties {
        message_id: named.then(|| id.clone()),
        ..Properties::default()
    };
    let delivery = delivery(properties, id.clone().into());
    Stored { id, delivery }
}

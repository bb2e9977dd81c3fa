//! The drain of one node: steps 2 to 6 of the worker's.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::warn;

use super::NodeState;
use super::ages::PROVEN_AGE;
use super::command::{interruption, unless_interrupted};
use super::port::{BrokerChannel as _, BrokerLink};
use super::task::{Mode, Task};
use crate::config::QueueType;
use crate::lifecycle::limits::{
    CANCELLED_RUN_LIMIT, CHANNEL_CLOSE_LIMIT, COPY_LIMIT, FLUSH_LIMIT, HOLD_ANSWER_LIMIT,
};
use crate::settlement::{RunEnd, Written};

const _: () = assert!(
    COPY_LIMIT.as_millis() > PROVEN_AGE.as_millis(),
    "a copy into a new queue must not be given up while it waits for the queue's age alone"
);
/// Interrupted messages that a report names.
pub(super) const NAMED: usize = 100;

/// The result of a node's drain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeDrain {
    /// Runs whose handlers decided during the drain.
    pub finished: u64,
    /// Handed back: not started, or handed back by their handlers.
    pub handed_back: u64,
    /// Cut off at the deadline, and handed back.
    pub interrupted: u64,
    /// Outcomes whose settlement was not written, or was written during the drain without proof that it arrived.
    pub unconfirmed: u64,
    /// Message ids of the first interrupted messages; `<queue>#<delivery tag>` for those without one.
    pub interrupted_ids: Vec<String>,
    /// The duration of each step.
    pub steps: StepTimes,
}

/// The duration of each step of a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StepTimes {
    /// From the begin to the last delivery before cancel-ok.
    pub cancel: Duration,
    /// Handing back what had not started.
    pub hand_back: Duration,
    /// Letting finish what ran.
    pub finish: Duration,
    /// Interrupting what still ran.
    pub interrupt: Duration,
    /// Writing the last settlements and closing the channel.
    pub settle: Duration,
}

impl StepTimes {
    /// The longer of both, step by step: nodes drain side by side.
    #[must_use]
    pub(crate) fn max(self, other: Self) -> Self {
        Self {
            cancel: self.cancel.max(other.cancel),
            hand_back: self.hand_back.max(other.hand_back),
            finish: self.finish.max(other.finish),
            interrupt: self.interrupt.max(other.interrupt),
            settle: self.settle.max(other.settle),
        }
    }
}

impl NodeDrain {
    /// Adds another node's drain to this one.
    #[must_use]
    pub(crate) fn and(mut self, other: Self) -> Self {
        self.finished += other.finished;
        self.handed_back += other.handed_back;
        self.interrupted += other.interrupted;
        self.unconfirmed += other.unconfirmed;
        self.interrupted_ids.extend(other.interrupted_ids);
        self.interrupted_ids.truncate(NAMED);
        self.steps = self.steps.max(other.steps);
        self
    }
}

impl<L: BrokerLink> Task<L> {
    /// Stops in order, steps 2 to 6 of the worker's drain:
    ///
    /// 2. cancel the consumer, so that nothing new comes;
    /// 3. hand back what has not started;
    /// 4. let what runs finish, and settle it;
    /// 5. at the deadline interrupt the rest, and hand it back;
    /// 6. write the last settlements and close the channel; its close-ok proves that they arrived.
    ///
    /// A queue with a single active consumer is not cancelled: a successor would start while the last
    /// delivery still runs here. It goes over to the successor when the channel closes.
    pub(super) async fn drain(mut self) -> NodeDrain {
        self.mode = Mode::Draining;
        // In a pause nothing has told that the channel was closed.
        self.look_at_channel();
        // Slots have gone on before the drain alone, so these ends do not count.
        self.take_ended();
        self.keep_order();
        self.book.begin_drain();
        self.drain_trigger.begin(self.commands.borrow().deadline());
        self.line.close();
        self.finish_opening().await;
        self.stop_intake();
        self.state.send_replace(NodeState::Draining);
        let mut clock = Clock::start();
        let mut steps = StepTimes::default();

        if !self.single_active_consumer {
            self.redelivered_after_opening().await;
            let on_hold = self.runs_on_hold();
            self.gathering = !on_hold.is_empty();
            // A cancel that failed is logged; what came before it is settled all the same.
            let _ = self.cancel_consumer().await;
            steps.cancel = clock.lap();
            self.holds_answered(&on_hold).await;
            self.hand_back_unstarted();
            self.written_unless_interrupted().await;
            steps.hand_back = clock.lap();
        }
        self.finish_running().await;
        self.settle_owed().await;
        self.finish_copies().await;
        steps.finish = clock.lap();
        self.interrupt().await;
        self.give_up_copies();
        steps.interrupt = clock.lap();
        self.close().await;
        steps.settle = clock.lap();

        let tally = self.book.tally();
        NodeDrain {
            finished: tally.finished,
            handed_back: tally.handed_back,
            interrupted: tally.interrupted,
            unconfirmed: tally.unconfirmed,
            interrupted_ids: self.interrupted_ids,
            steps,
        }
    }

    fn runs_on_hold(&self) -> Vec<u64> {
        let on_hold = self.runs.iter().filter(|(_, run)| run.on_hold);
        on_hold.map(|(number, _)| *number).collect()
    }

    /// Gives handlers whose delivery was on hold a moment to hand it back: then everything goes back to the queue in its
    /// order.
    async fn holds_answered(&mut self, runs: &[u64]) {
        let limit = self.commands.borrow().within(HOLD_ANSWER_LIMIT);
        let answered = async {
            while runs.iter().any(|run| self.runs.contains_key(run)) {
                self.turn().await;
            }
        };
        // Those that take longer are settled when they are done.
        let _ = timeout(limit, answered).await;
    }

    async fn finish_running(&mut self) {
        let mut interruption = std::pin::pin!(interruption(self.commands.clone()));
        while !self.runs.is_empty() {
            tokio::select! {
                biased;
                () = &mut interruption => return,
                () = self.turn() => {}
            }
            self.take_back().await;
        }
    }

    /// Retries and dead letters are not done before the broker has their copies. A broker that does not take them
    /// (an alarm, a full queue) does not hold up the drain: the deliveries are handed back then.
    async fn finish_copies(&mut self) {
        if self.book.is_copying() && self.runs.is_empty() {
            let limit = self.commands.borrow().within(COPY_LIMIT);
            let mut interruption = std::pin::pin!(interruption(self.commands.clone()));
            let mut limit = std::pin::pin!(tokio::time::sleep(limit));
            while self.book.is_copying() {
                tokio::select! {
                    biased;
                    () = &mut interruption => break,
                    () = &mut limit => break,
                    () = self.turn() => {}
                }
            }
        }
    }

    async fn interrupt(&mut self) {
        if self.runs.is_empty() {
            return;
        }
        for run in self.runs.values() {
            run.abort.abort();
        }
        let limit = self.commands.borrow().within(CANCELLED_RUN_LIMIT);
        let ended = async {
            while !self.runs.is_empty() {
                self.turn().await;
            }
        };
        if timeout(limit, ended).await.is_err() {
            warn!(
                queue = %self.queue,
                running = self.runs.len(),
                "handlers did not end when they were cancelled; their deliveries are handed back"
            );
        }
        let now = Instant::now();
        for (number, run) in std::mem::take(&mut self.runs) {
            self.run_is_over(number, &run, now);
            self.end_run(number, &run, RunEnd::Cancelled, now);
        }
    }

    /// Waits until everything decided is written, within bounds.
    pub(super) async fn written(&mut self) {
        let limit = self.commands.borrow().within(FLUSH_LIMIT);
        let written = async {
            self.flush();
            while self.channel.is_some() && (!self.writes.is_empty() || self.book.decided() > 0) {
                self.turn().await;
            }
        };
        if timeout(limit, written).await.is_err() {
            warn!(queue = %self.queue, "the last settlements could not be written in time");
        }
    }

    /// Waits until everything decided is written, but little longer than until what runs is to be interrupted.
    pub(super) async fn written_unless_interrupted(&mut self) {
        let commands = self.commands.clone();
        unless_interrupted(commands, FLUSH_LIMIT, self.written()).await;
    }

    /// Writes the last settlements and closes the channel.
    pub(super) async fn close(&mut self) {
        self.written().await;
        let Some(mut channel) = self.channel.take() else {
            return;
        };
        let limit = self.commands.borrow().within(CHANNEL_CLOSE_LIMIT);
        // Of a queue of unknown type we expect the worse.
        let classic = self.queue_type() == Some(QueueType::Classic);
        let quorum = !classic && !self.single_active_consumer;
        let passed_on = if quorum && channel.may_be_kept_back() {
            channel.pass_on(limit).await
        } else {
            Ok(())
        };
        let limit = self.commands.borrow().within(CHANNEL_CLOSE_LIMIT);
        // If the queue has not answered before, close-ok proves nothing.
        let closed = channel.close(limit).await.and(passed_on);
        let unstarted = self.line.empty().len() + self.in_place.empty().len();
        self.metrics.handed_back.inc_by(unstarted as u64);
        self.book.handed_back_by_close(unstarted as u64);
        if let Err(error) = &closed {
            warn!(
                queue = %self.queue,
                %error,
                "the channel did not close cleanly: the last settlements may not have arrived"
            );
        }
        self.channel_ended(Written::shown_by_answer(closed.is_ok()));
    }
}

struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        let lap = now.duration_since(self.0);
        self.0 = now;
        lap
    }
}

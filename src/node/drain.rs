//! The drain of one node: steps 2 to 6 of the worker's.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::warn;

use super::command::interruption;
use super::run::Run;
use super::task::{NodeState, Task};
use crate::config::QueueType;
use crate::settlement::{Remembered, Settlement};

/// How long cancelled handlers may take to let go before their deliveries are handed back regardless.
const LET_GO_LIMIT: Duration = Duration::from_millis(200);
/// How long what is handed back waits for handlers whose delivery was on hold when the drain began.
const HOLD_ANSWER_LIMIT: Duration = Duration::from_millis(200);
/// How long copies for retries and dead letters may take once nothing runs any more.
const COPY_LIMIT: Duration = Duration::from_secs(2);
/// How long the last settlements may take to be written.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);
/// How long the broker may take to answer the channel's close.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// How many interrupted messages are named.
const NAMED: usize = 100;

/// What a drain did to a node's deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct NodeDrain {
    /// Running at its beginning, and finished by their handlers.
    pub finished: u64,
    /// Not started, and handed back.
    pub handed_back: u64,
    /// Cut off at the deadline, and handed back.
    pub interrupted: u64,
    /// Finished, but their settlement is not known to have arrived, or the broker did not take their copy in time
    /// and they were handed back.
    pub unconfirmed: u64,
    /// Message ids of the first interrupted messages; `<queue>#<delivery tag>` where one has none.
    pub interrupted_ids: Vec<String>,
    /// How long each step took.
    pub steps: StepTimes,
    /// Settled on the present channel since the drain began, without proof that it arrived.
    pub(crate) unproven: u64,
}

/// How long the steps of a drain took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StepTimes {
    /// From the cancel to the last delivery before its cancel-ok.
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
    /// The channel is lost: what was settled on it since the drain began may not have arrived.
    /// How much that is.
    pub(super) fn channel_lost(&mut self) -> u64 {
        let unproven = std::mem::take(&mut self.unproven);
        self.unconfirmed += unproven;
        unproven
    }

    /// An outcome that could not be settled can be now.
    pub(super) fn adopted(&mut self) {
        self.unconfirmed = self.unconfirmed.saturating_sub(1);
    }

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

impl Task {
    /// Stops in order. The order is the product:
    ///
    /// 2. cancel the consumer, so that nothing new comes;
    /// 3. hand back what has not started;
    /// 4. let finish what runs, and settle it;
    /// 5. at the deadline interrupt the rest, and hand it back;
    /// 6. write the last settlements and close the channel: its close-ok proves that they arrived.
    ///
    /// A queue with a single active consumer is not cancelled: a successor would start while the last
    /// delivery still runs here. It goes over to the successor when the channel closes.
    pub(super) async fn drain(mut self) -> NodeDrain {
        self.drain = Some(NodeDrain::default());
        self.line.close();
        self.finish_opening().await;
        self.stop_intake();
        self.state.send_replace(NodeState::Draining);
        let mut clock = Clock::start();
        let mut steps = StepTimes::default();

        if !self.single_active_consumer {
            let on_hold = self.runs_on_hold();
            self.gathering = !on_hold.is_empty();
            // A cancel that failed is logged; what came before it is settled all the same.
            let _ = self.cancel_consumer().await;
            steps.cancel = clock.lap();
            self.holds_answered(&on_hold).await;
            self.hand_back_unstarted();
            self.written().await;
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

        let mut drain = self.drain.take().unwrap_or_default();
        drain.steps = steps;
        drain
    }

    fn runs_on_hold(&self) -> Vec<u64> {
        let on_hold = self.running.iter().filter(|(_, run)| run.on_hold);
        on_hold.map(|(number, _)| *number).collect()
    }

    /// Gives handlers whose delivery was on hold a moment to hand it back: then everything goes back to the queue in its
    /// order.
    async fn holds_answered(&mut self, runs: &[u64]) {
        let limit = self.commands.borrow().within(HOLD_ANSWER_LIMIT);
        let answered = async {
            while runs.iter().any(|run| self.running.contains_key(run)) {
                self.turn().await;
            }
        };
        // Those that take longer are settled when they are done.
        let _ = timeout(limit, answered).await;
    }

    async fn finish_running(&mut self) {
        let mut interruption = std::pin::pin!(interruption(self.commands.clone()));
        while !self.running.is_empty() {
            tokio::select! {
                biased;
                () = &mut interruption => return,
                () = self.turn() => {}
            }
            self.take_back().await;
        }
    }

    /// Retries and dead letters are not done before the broker has their copies. One that does not take them
    /// (an alarm, a full queue) may not hold up the drain: the deliveries are handed back then.
    async fn finish_copies(&mut self) {
        if self.is_copying() && self.running.is_empty() {
            let limit = self.commands.borrow().within(COPY_LIMIT);
            let mut interruption = std::pin::pin!(interruption(self.commands.clone()));
            let mut limit = std::pin::pin!(tokio::time::sleep(limit));
            while self.is_copying() {
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
        if self.running.is_empty() {
            return;
        }
        for run in self.running.values() {
            run.abort.abort();
        }
        let limit = self.commands.borrow().within(LET_GO_LIMIT);
        let let_go = async {
            while !self.running.is_empty() {
                self.turn().await;
            }
        };
        if timeout(limit, let_go).await.is_err() {
            warn!(
                queue = %self.queue,
                running = self.running.len(),
                "handlers ignore that they are cancelled; their deliveries are handed back all the same"
            );
        }
        for (number, run) in std::mem::take(&mut self.running) {
            self.run_is_over(number, &run);
            self.interrupted(number, &run);
        }
    }

    /// Hands back a delivery whose run was cut off.
    pub(super) fn interrupted(&mut self, number: u64, run: &Run) {
        self.metrics.interrupted.inc();
        let message_id = run.work.message_id().map(str::to_owned);
        let id = message_id.unwrap_or_else(|| format!("{}#{}", self.queue, run.place.tag));
        warn!(queue = %self.queue, message_id = id, ran = ?run.started.elapsed(), "interrupted");
        if let Some(drain) = &mut self.drain {
            drain.interrupted += 1;
            if drain.interrupted_ids.len() < NAMED {
                drain.interrupted_ids.push(id);
            }
        }
        if self.is_present(run.place) {
            self.settle(run.place.tag, &run.work, Settlement::HandBack);
        } else {
            let running = Remembered::Running(number);
            self.adoption.forget(run.work.identity, &running);
        }
    }

    /// Waits until everything decided is written, within bounds.
    async fn written(&mut self) {
        let limit = self.commands.borrow().within(FLUSH_LIMIT);
        let written = async {
            self.flush();
            while self.channel.is_some() && (!self.writes.is_empty() || self.ledger.has_decided()) {
                self.turn().await;
            }
        };
        if timeout(limit, written).await.is_err() {
            warn!(queue = %self.queue, "the last settlements could not be written in time");
        }
    }

    /// Writes the last settlements and closes the channel.
    pub(super) async fn close(&mut self) {
        self.written().await;
        let Some(mut channel) = self.channel.take() else {
            return;
        };
        let limit = self.commands.borrow().within(CLOSE_LIMIT);
        let quorum = self.queue_type == Some(QueueType::Quorum) && !self.single_active_consumer;
        let passed_on = if quorum && channel.may_be_kept_back() {
            channel.pass_on(limit).await
        } else {
            Ok(())
        };
        let limit = self.commands.borrow().within(CLOSE_LIMIT);
        // Its close-ok proves nothing where the queue has not answered before.
        let closed = channel.close(limit).await.and(passed_on);
        let unstarted = self.line.empty().len() as u64;
        self.metrics.handed_back.inc_by(unstarted);
        if let Err(error) = &closed {
            warn!(
                queue = %self.queue,
                %error,
                "the channel did not close in order: the last settlements may not have arrived"
            );
        }
        let Some(drain) = &mut self.drain else { return };
        drain.handed_back += unstarted;
        match closed {
            Ok(()) => drain.unproven = 0,
            Err(_) => {
                self.metrics.unconfirmed.inc_by(drain.channel_lost());
            }
        }
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

//! The slot of a run, which the run can give back for a while.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

use super::line::Line;
use super::run::RunEvent;
use super::slots::{Slot, SlotPool};
use crate::handler::{Hold, HoldEnd, HoldFuture};
use crate::lifecycle::DrainSignal;

/// The slot of one run at a time, for the runs that follow each other in it.
#[derive(Debug)]
pub(crate) struct Lease {
    slots: SlotPool,
    drain: DrainSignal,
    events: mpsc::UnboundedSender<RunEvent>,
    /// Work that competes for a free slot; it has to wait while a run wants its slot back.
    line: Arc<Line>,
    /// Whether a run on hold keeps its slot, so that no other delivery overtakes it.
    exclusive: bool,
    state: Mutex<State>,
    /// Wakes the run's time-out when a hold ends.
    resumed: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// The run; 0 once it is over.
    run: u64,
    slot: Option<Slot>,
    /// When the run began.
    began: Option<Instant>,
    /// The time that it has been on hold, without the present hold.
    held: Duration,
    holding_since: Option<Instant>,
    /// When a hold ends at the latest.
    hold_until: Option<Instant>,
}

impl Lease {
    /// A lease on a slot out of `slots`.
    pub(crate) fn new(
        slots: SlotPool,
        drain: DrainSignal,
        events: mpsc::UnboundedSender<RunEvent>,
        line: Arc<Line>,
        exclusive: bool,
    ) -> Self {
        Self {
            slots,
            drain,
            events,
            line,
            exclusive,
            state: Mutex::default(),
            resumed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Run `run` begins at `began`, with `slot` or with the slot that is here already. Its holds end at `hold_until`.
    pub(crate) fn begin(&self, run: u64, slot: Option<Slot>, began: Instant, hold_until: Instant) {
        let mut state = self.state();
        let slot = slot.or_else(|| state.slot.take());
        *state = State {
            run,
            slot,
            began: Some(began),
            hold_until: Some(hold_until),
            ..State::default()
        };
    }

    /// The run is over: its slot is free.
    pub(crate) fn end(&self) {
        let slot = std::mem::take(&mut *self.state());
        drop(slot);
    }

    /// Whether the run has a slot, which another can go on in.
    pub(crate) fn has_slot(&self) -> bool {
        self.state().slot.is_some()
    }

    /// Resolves when the run has run for `limit`, not counting the time on hold.
    pub(crate) async fn ran_for(&self, limit: Duration) {
        loop {
            let now = Instant::now();
            let left = {
                let state = self.state();
                let holding = state.holding_since.is_some();
                let began = state.began.unwrap_or(now);
                let ran = now.saturating_duration_since(began);
                (!holding).then(|| limit.saturating_sub(ran.saturating_sub(state.held)))
            };
            match left {
                // It is told when the hold ends.
                None => self.resumed.notified().await,
                Some(Duration::ZERO) => return,
                Some(left) => sleep_until(now + left).await,
            }
        }
    }

    /// Begins a hold of run `run`; `None` if another run is here by now, or the run is on hold already.
    fn begin_hold(&self, run: u64) -> Option<Holding<'_>> {
        let mut state = self.state();
        if state.run != run || state.holding_since.is_some() {
            return None;
        }
        state.holding_since = Some(Instant::now());
        let slot = if self.exclusive {
            None
        } else {
            state.slot.take()
        };
        // Without a receiver the node has ended, and the broker has the delivery back.
        let _ = self.events.send(RunEvent::Held(run));
        drop(state);
        drop(slot);
        Some(Holding { lease: self, run })
    }

    async fn wait(&self, run: u64, delay: Duration) -> HoldEnd {
        let now = Instant::now();
        if self.drain.deadline().is_some() {
            return HoldEnd::Draining;
        }
        let Some(holding) = self.begin_hold(run) else {
            // A context that outlived its run has no slot to give back.
            return self
                .drained_or(sleep_until(now + delay))
                .await
                .map_or(HoldEnd::Draining, |()| HoldEnd::Elapsed);
        };
        let limit = self.state().hold_until;
        let end = now + delay;
        let (end, reason) = match limit {
            Some(limit) if limit < end => (limit, HoldEnd::LimitReached),
            _ => (end, HoldEnd::Elapsed),
        };
        if self.drained_or(sleep_until(end)).await.is_none() {
            return HoldEnd::Draining;
        }
        if !self.exclusive {
            let _first = self.line.come_back();
            let Some(slot) = self.drained_or(self.slots.acquire()).await else {
                return HoldEnd::Draining;
            };
            holding.take(slot);
        }
        reason
    }

    /// The value of `future`; `None` if a drain begins before.
    async fn drained_or<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            _deadline = self.drain.begun() => None,
            value = future => Some(value),
        }
    }
}

impl Hold for Lease {
    fn begin_anew(&self, run: u64) {
        let mut state = self.state();
        if state.run == run {
            state.began = Some(Instant::now());
            state.held = Duration::ZERO;
        }
    }

    fn hold(&self, run: u64, delay: Duration) -> HoldFuture<'_> {
        Box::pin(self.wait(run, delay))
    }
}

/// A hold under way; it ends when this is dropped.
#[must_use]
struct Holding<'a> {
    lease: &'a Lease,
    run: u64,
}

impl Holding<'_> {
    fn take(&self, slot: Slot) {
        let mut state = self.lease.state();
        if state.run == self.run {
            state.slot = Some(slot);
        }
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        let mut state = self.lease.state();
        if state.run == self.run
            && let Some(since) = state.holding_since.take()
        {
            state.held += since.elapsed();
            let _ = self.lease.events.send(RunEvent::Resumed(self.run));
        }
        drop(state);
        self.lease.resumed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::super::command::Command;
    use super::*;
    use crate::lifecycle::DrainTrigger;

    const SECOND: Duration = Duration::from_secs(1);

    struct Scene {
        lease: Arc<Lease>,
        pool: SlotPool,
        trigger: DrainTrigger,
        events: mpsc::UnboundedReceiver<RunEvent>,
    }

    /// Run 1 in the only slot of a pool; it may be on hold for ten seconds in all.
    fn scene(exclusive: bool) -> Scene {
        let pool = SlotPool::new(1);
        let trigger = DrainTrigger::new();
        let (sender, events) = mpsc::unbounded_channel();
        let (_commands, commands) = watch::channel(Command::Run);
        let line = Arc::new(Line::new(commands));
        let lease = Lease::new(pool.clone(), trigger.signal(), sender, line, exclusive);
        let now = Instant::now();
        lease.begin(1, pool.try_acquire(), now, now + SECOND * 10);
        Scene {
            lease: Arc::new(lease),
            pool,
            trigger,
            events,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_gives_its_slot_to_others_and_waits_for_one_again() {
        let mut scene = scene(false);
        let lease = Arc::clone(&scene.lease);
        let hold = tokio::spawn(async move { lease.hold(1, SECOND).await });
        let other = scene.pool.acquire().await;
        assert!(matches!(scene.events.recv().await, Some(RunEvent::Held(1))));
        tokio::time::sleep(SECOND * 3).await;
        assert!(!hold.is_finished(), "its slot is taken");
        drop(other);
        assert_eq!(hold.await.unwrap(), HoldEnd::Elapsed);
        assert!(scene.pool.try_acquire().is_none());
        let resumed = scene.events.recv().await;
        assert!(matches!(resumed, Some(RunEvent::Resumed(1))));
        scene.lease.end();
        assert!(scene.pool.try_acquire().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_on_hold_is_no_running_time() {
        let scene = scene(false);
        let begun = Instant::now();
        let lease = Arc::clone(&scene.lease);
        let timeout = tokio::spawn(async move {
            lease.ran_for(SECOND * 2).await;
            Instant::now()
        });
        tokio::time::sleep(SECOND).await;
        scene.lease.hold(1, SECOND * 5).await;
        assert_eq!(timeout.await.unwrap() - begun, SECOND * 7);
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_before_a_run_begins_anew_is_no_running_time() {
        let scene = scene(false);
        let begun = Instant::now();
        let lease = Arc::clone(&scene.lease);
        let timeout = tokio::spawn(async move {
            lease.ran_for(SECOND * 2).await;
            Instant::now()
        });
        tokio::time::sleep(SECOND).await;
        scene.lease.begin_anew(1);
        scene.lease.begin_anew(2);
        assert_eq!(timeout.await.unwrap() - begun, SECOND * 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_a_hold_without_a_slot() {
        let scene = scene(false);
        let lease = Arc::clone(&scene.lease);
        let hold = tokio::spawn(async move { lease.hold(1, SECOND * 5).await });
        let _other = scene.pool.acquire().await;
        let before = Instant::now();
        scene.trigger.begin(before + SECOND);
        assert_eq!(hold.await.unwrap(), HoldEnd::Draining);
        assert_eq!(Instant::now(), before);
        assert_eq!(scene.lease.hold(1, SECOND).await, HoldEnd::Draining);
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_ends_at_its_limit() {
        let scene = scene(false);
        let begun = Instant::now();
        assert_eq!(scene.lease.hold(1, SECOND * 8).await, HoldEnd::Elapsed);
        assert_eq!(scene.lease.hold(1, SECOND * 8).await, HoldEnd::LimitReached);
        assert_eq!(begun.elapsed(), SECOND * 10);
        assert!(scene.lease.has_slot());
    }

    #[tokio::test(start_paused = true)]
    async fn where_order_counts_a_hold_keeps_its_slot() {
        let scene = scene(true);
        let lease = Arc::clone(&scene.lease);
        let hold = tokio::spawn(async move { lease.hold(1, SECOND).await });
        tokio::time::sleep(SECOND / 2).await;
        assert!(scene.pool.try_acquire().is_none());
        assert_eq!(hold.await.unwrap(), HoldEnd::Elapsed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_context_that_outlived_its_run_takes_no_slot() {
        let scene = scene(false);
        let now = Instant::now();
        scene.lease.begin(2, None, now, now + SECOND * 10);
        assert_eq!(scene.lease.hold(1, SECOND).await, HoldEnd::Elapsed);
        assert!(scene.lease.has_slot(), "run 2 keeps its slot");
    }
}

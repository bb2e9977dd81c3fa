//! What happened to each message, and the rules that hold whatever happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::group::{Decided, Group, Key};
use super::stored::Stored;
use crate::delivery::{Delivery, HeaderValue, Message, header};
use crate::handler::Outcome;
use crate::lifecycle::DrainSignal;
use crate::retry::receive;
use crate::settlement::Call;

/// What the test has a handler do.
#[derive(Debug)]
pub(super) enum Ask {
    Finish(Outcome),
    Hold(std::time::Duration),
    Panic,
}

/// The end of a run, as its handler sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Decided(Outcome),
    Panicked,
    Dropped,
}

/// A run under way.
#[derive(Debug)]
pub(super) struct ModelRun {
    key: Key,
    pub ask: mpsc::UnboundedSender<Ask>,
    pub held: bool,
    /// Whether it was asked to finish.
    pub asked: bool,
}

/// The counts that the drain report is to have.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub finished: u64,
    /// Runs that were decided after the drain was commanded, and before the node began it.
    pub maybe_finished: u64,
    pub handed_back: u64,
    /// Deliveries of which it is not known here whether they were handed back before their channel was lost.
    pub maybe_handed_back: u64,
    pub interrupted: u64,
    pub delivered: u64,
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Records {
    groups: BTreeMap<Key, Group>,
    pub runs: BTreeMap<u64, ModelRun>,
    last_run: u64,
    drain: DrainSignal,
    delayed_retry: bool,
    max_attempts: u32,
    slots: usize,
    pub may_start: bool,
    /// Whether a drain was commanded.
    pub commanded: bool,
    /// Whether that was in a pause.
    pub paused: bool,
    pub counts: Counts,
    pub broken: Vec<String>,
}

impl Records {
    pub(super) fn new(
        drain: DrainSignal,
        delayed_retry: bool,
        max_attempts: u32,
        slots: usize,
    ) -> Self {
        Self {
            groups: BTreeMap::new(),
            runs: BTreeMap::new(),
            last_run: 0,
            drain,
            delayed_retry,
            max_attempts,
            slots,
            may_start: true,
            commanded: false,
            paused: false,
            counts: Counts::default(),
            broken: Vec::new(),
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        self.drain.deadline().is_some()
    }

    pub(super) fn broke(&mut self, rule: impl Into<String>) {
        self.broken.push(rule.into());
    }

    fn key(&self, delivery: &Delivery) -> Key {
        let arrived = Arc::new(delivery.clone());
        let received = receive(arrived, self.delayed_retry, Timestamp::UNIX_EPOCH);
        let body = String::from_utf8_lossy(&delivery.body).into_owned();
        (body, received.delivery.attempt)
    }

    fn group(&mut self, key: Key) -> &mut Group {
        self.groups.entry(key).or_default()
    }

    /// The group of a message.
    pub(super) fn group_of(&mut self, stored: &Stored) -> &mut Group {
        let key = self.key(&stored.delivery);
        self.group(key)
    }

    pub(super) fn delivered(&mut self, stored: &Stored) {
        let key = self.key(&stored.delivery);
        self.counts.delivered += u64::from(self.is_draining());
        self.group(key).delivered.insert(stored.id.clone());
    }

    /// The node takes a delivery in.
    pub(super) fn taken_in(&mut self, stored: &Stored) {
        self.group_of(stored).take_in(&stored.id);
    }

    /// The client has queued `call` on `channel`, which settles `settled` there.
    pub(super) fn settled(&mut self, channel: u64, call: Call, settled: &[(u64, Stored)]) {
        if settled.is_empty() {
            self.broke(format!(
                "{call:?} settles nothing that is open on its channel"
            ));
        }
        for (_, stored) in settled {
            match call {
                Call::Ack { .. } => self.acknowledged(channel, stored),
                Call::HandBack { .. } => self.handed_back(channel, stored),
                Call::Return { .. } => self.returned(channel, stored),
            }
        }
    }

    fn acknowledged(&mut self, channel: u64, stored: &Stored) {
        let draining = self.is_draining();
        let key = self.key(&stored.delivery);
        let group = self.group(key.clone());
        group.acknowledged.insert(stored.id.clone());
        if let Some(outcome) = group.unsettled(channel) {
            outcome.settled = Some((channel, draining));
        }
        if group.acknowledged.len() > group.permitted {
            self.broke(format!(
                "{key:?} is acknowledged, and was neither done nor copied"
            ));
        }
    }

    fn returned(&mut self, channel: u64, stored: &Stored) {
        let draining = self.is_draining();
        let key = self.key(&stored.delivery);
        match self.group(key.clone()).unsettled(channel) {
            Some(outcome) if !outcome.done => outcome.settled = Some((channel, draining)),
            _ => self.broke(format!("{key:?} is returned, and did not fail")),
        }
    }

    fn handed_back(&mut self, channel: u64, stored: &Stored) {
        let (draining, paused) = (self.is_draining(), self.paused);
        let key = self.key(&stored.delivery);
        let group = self.group(key.clone());
        let alone = group.delivered.len() == 1;
        let running = group.running > 0;
        if group.cut_off > 0 {
            group.cut_off -= 1;
        } else if let Some(outcome) = group.unsettled(channel)
            && alone
        {
            if outcome.done {
                self.broke(format!("{key:?} is handed back, and was done"));
            } else if !draining {
                self.broke(format!("the copy of {key:?} is given up without a drain"));
            }
        } else if group.given_back > 0 {
            group.given_back -= 1;
            // Its handler handed it back before the drain, or another delivery of it goes back untouched.
            self.counts.maybe_handed_back += u64::from(draining);
        } else if paused {
            // The pause may have handed it back, and the drain have written that.
            self.counts.maybe_handed_back += 1;
        } else {
            self.counts.handed_back += u64::from(draining);
        }
        if running && alone {
            self.broke(format!("{key:?} is handed back while it runs"));
        }
    }

    /// The broker has removed a message.
    pub(super) fn removed(&mut self, stored: &Stored) {
        let key = self.key(&stored.delivery);
        if !self.group(key.clone()).acknowledged.contains(&stored.id) {
            self.broke(format!("{key:?} is removed without an acknowledgement"));
        }
    }

    /// A message is ready again because `channel` was lost, maybe with its settlement.
    pub(super) fn requeued(&mut self, channel: u64, stored: &Stored, was_settled: bool) {
        let key = self.key(&stored.delivery);
        let named = stored.delivery.properties.message_id.is_some() || key.1 > 1;
        let group = self.group(key);
        let acknowledged = group.acknowledged.remove(&stored.id);
        if !was_settled || acknowledged && named {
            return;
        }
        // Whoever has no id may be run again once its acknowledgement was written and lost. A return is never remembered.
        group.undone += usize::from(acknowledged);
        group.permitted -= usize::from(acknowledged);
        group.forget(channel);
    }

    pub(super) fn channel_lost(&mut self, unsettled: usize) {
        if self.is_draining() {
            self.counts.maybe_handed_back += unsettled as u64;
        }
    }

    /// The broker has answered the close of `channel`; `heard`: in time.
    pub(super) fn channel_closed(&mut self, channel: u64, heard: bool) {
        for group in self.groups.values_mut() {
            for outcome in &mut group.outcomes {
                outcome.proven |= heard && outcome.is_settled_on(channel);
            }
        }
    }

    /// The client closes a channel on which it has left these unsettled, and whether it has taken them.
    pub(super) fn closes<'s>(
        &mut self,
        channel: u64,
        left: impl Iterator<Item = (bool, &'s Stored)>,
    ) {
        if !self.is_draining() {
            return;
        }
        let paused = self.paused;
        for (taken, stored) in left {
            let key = self.key(&stored.delivery);
            let group = self.group(key);
            let idle = group.running == 0 && group.unsettled(channel).is_none();
            let decided = group.cut_off > 0 || group.given_back > 0;
            if taken && idle && !decided && !paused {
                self.counts.handed_back += 1;
            } else {
                self.counts.maybe_handed_back += 1;
            }
        }
    }

    /// The broker has confirmed a copy.
    pub(super) fn confirmed(&mut self, copy: &Message) {
        let headers = &copy.properties.headers;
        let runs = headers.get(header::ATTEMPTS).and_then(HeaderValue::as_i64);
        let runs = runs.and_then(|it| u32::try_from(it).ok());
        let body = String::from_utf8_lossy(&copy.body).into_owned();
        let key = (body, runs.expect("a copy tells the runs"));
        self.group(key).permitted += 1;
    }

    /// A run begins; its number.
    pub(super) fn run_begins(
        &mut self,
        delivery: &Delivery,
        ask: mpsc::UnboundedSender<Ask>,
    ) -> u64 {
        let body = String::from_utf8_lossy(&delivery.body).into_owned();
        let key = (body, delivery.attempt);
        if !self.may_start {
            self.broke(format!("{key:?} starts although nothing may"));
        }
        let group = self.group(key.clone());
        group.started += 1;
        group.running += 1;
        if group.started > group.delivered.len() + group.undone {
            self.broke(format!("{key:?} runs twice"));
        }
        self.last_run += 1;
        let run = ModelRun {
            key,
            ask,
            held: false,
            asked: false,
        };
        self.runs.insert(self.last_run, run);
        self.check_slots();
        self.last_run
    }

    /// The oldest run that was not asked to finish; on hold only if `held` allows it.
    pub(super) fn oldest(&mut self, held: bool) -> Option<&mut ModelRun> {
        let mut runs = self.runs.values_mut();
        runs.find(|run| !run.asked && (held || !run.held))
    }

    pub(super) fn set_held(&mut self, run: u64, held: bool) {
        if let Some(run) = self.runs.get_mut(&run) {
            run.held = held;
        }
        self.check_slots();
    }

    fn check_slots(&mut self) {
        let running = self.runs.values().filter(|run| !run.held).count();
        if running > self.slots {
            self.broke(format!("{running} run in {} slots", self.slots));
        }
    }

    pub(super) fn run_ends(&mut self, run: u64, end: &End) {
        let draining = self.is_draining();
        let run = self.runs.remove(&run).expect("it runs");
        let decided = matches!(end, End::Decided(outcome) if *outcome != Outcome::HandBack);
        let commanded = self.commanded && !draining;
        self.counts.finished += u64::from(draining && decided);
        self.counts.maybe_finished += u64::from(commanded && decided);
        let returned = self.delayed_retry && run.key.1 < self.max_attempts;
        let group = self.group(run.key);
        group.running -= 1;
        let done = *end == End::Decided(Outcome::Done);
        group.permitted += usize::from(done);
        match end {
            End::Decided(Outcome::HandBack) => {
                group.undone += 1;
                group.given_back += usize::from(!draining);
            }
            End::Dropped => {
                group.undone += 1;
                group.cut_off += 1;
                self.counts.interrupted += 1;
                if !draining {
                    self.broke("a run is cut off without a drain");
                }
            }
            End::Decided(_) | End::Panicked => {
                let retried = !matches!(end, End::Decided(Outcome::Done | Outcome::Dead { .. }));
                group.undone += usize::from(returned && retried);
                group.outcomes.push(Decided::new(done));
            }
        }
    }

    /// Outcomes that were not settled, or were settled during the drain without proof.
    pub(super) fn unconfirmed(&self) -> u64 {
        let outcomes = self.groups.values().flat_map(|group| &group.outcomes);
        let unconfirmed =
            outcomes.filter(|it| !it.proven && it.settled.is_none_or(|(_, in_drain)| in_drain));
        unconfirmed.count() as u64
    }

    /// Messages that may be acknowledged, and are not. An acknowledgement that was written before the drain may have arrived.
    pub(super) fn owed(&self) -> usize {
        let groups = self.groups.values();
        groups.map(Group::owed).sum()
    }
}

//! Messages that look alike to a handler, and what became of their runs.

use std::collections::BTreeSet;

/// What tells groups of messages apart: their body, and the number of the run.
pub(super) type Key = (String, u32);

/// An outcome, and what became of it.
#[derive(Debug)]
pub(super) struct Decided {
    pub done: bool,
    /// The channel of its settlement, and whether that was written during the drain.
    pub settled: Option<(u64, bool)>,
    pub proven: bool,
    /// Whether its settlement was lost, and the node does not remember it: the message may run again.
    pub forgotten: bool,
}

impl Decided {
    /// The outcome of a run that has just ended.
    pub(super) fn new(done: bool) -> Self {
        Self {
            done,
            settled: None,
            proven: false,
            forgotten: false,
        }
    }

    pub(super) fn is_settled_on(&self, channel: u64) -> bool {
        self.settled
            .is_some_and(|(settled_on, _)| settled_on == channel)
    }
}

#[derive(Debug, Default)]
pub(super) struct Group {
    /// The ids of its messages that were delivered here.
    pub delivered: BTreeSet<String>,
    /// The ids of those that the node has taken in.
    pub taken_in: BTreeSet<String>,
    /// The ids of those that were acknowledged.
    pub acknowledged: BTreeSet<String>,
    /// How many of them may be: handlers said done, or the broker confirmed a copy.
    pub permitted: usize,
    pub started: usize,
    /// Runs that do not count as runs, and further runs that are allowed.
    pub undone: usize,
    pub running: usize,
    /// Runs that were cut off, and whose deliveries were not handed back yet.
    pub cut_off: usize,
    /// Runs whose handlers handed back before a drain, and whose deliveries may not have been handed back yet.
    pub given_back: usize,
    pub outcomes: Vec<Decided>,
}

impl Group {
    /// The first outcome that is not settled, or whose settlement may be lost.
    pub(super) fn unsettled(&mut self, channel: u64) -> Option<&mut Decided> {
        let open = |it: &&mut Decided| !it.proven && !it.forgotten && !it.is_settled_on(channel);
        self.outcomes.iter_mut().find(open)
    }

    /// The node takes the message `id` in. If it does so again, the settlement on an earlier channel did not arrive.
    pub(super) fn take_in(&mut self, id: &str) {
        if self.taken_in.insert(id.to_owned()) {
            return;
        }
        let unproven = |it: &&mut Decided| !it.proven && !it.forgotten && it.settled.is_some();
        if let Some(outcome) = self.outcomes.iter_mut().find(unproven) {
            outcome.settled = None;
        }
    }

    /// A settlement on `channel` came too late: that the channel closes does not prove it.
    pub(super) fn too_late(&mut self, channel: u64) {
        const NONE: u64 = 0;
        let here = |it: &&mut Decided| !it.forgotten && it.is_settled_on(channel);
        if let Some(outcome) = self.outcomes.iter_mut().find(here)
            && let Some((settled_on, _)) = &mut outcome.settled
        {
            *settled_on = NONE;
        }
    }

    /// How many of its messages may be acknowledged, and are not.
    pub(super) fn owed(&self) -> usize {
        let written =
            |it: &&Decided| !it.proven && !it.forgotten && matches!(it.settled, Some((_, false)));
        let written = self.outcomes.iter().filter(written).count();
        let settled = written.max(self.acknowledged.len());
        self.permitted.saturating_sub(settled)
    }

    /// A settlement on `channel` was lost, and the node does not remember it.
    pub(super) fn forget(&mut self, channel: u64) {
        let here = |it: &&mut Decided| !it.forgotten && it.is_settled_on(channel);
        if let Some(outcome) = self.outcomes.iter_mut().find(here) {
            outcome.forgotten = true;
        }
    }
}

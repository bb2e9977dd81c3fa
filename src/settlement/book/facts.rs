//! What the [book](super::Book) says about deliveries.

use std::sync::Arc;

use crate::handler::Outcome;
use crate::retry::Pending;
use crate::settlement::{ChannelTag, Work};

/// A delivery that runs or is being copied.
#[derive(Debug, Clone)]
pub(crate) struct InHand {
    /// The delivery that it settles: the one that began it, or one that was adopted since.
    pub place: ChannelTag,
    /// The delivery that it works on.
    pub work: Work,
}

impl InHand {
    /// From now on it settles `later`, which arrived at `place`. Returns the place that it had.
    ///
    /// The queue's count of that delivery is what the next one is held against: of equal messages the one that was handed
    /// back would otherwise come again as a later delivery, and the other be handed back, for as long as the run lasts.
    pub(super) fn moves_to(&mut self, place: ChannelTag, later: &Work) -> ChannelTag {
        self.work.earlier_deliveries = later.earlier_deliveries;
        std::mem::replace(&mut self.place, place)
    }
}

/// The kind of a delivery.
#[derive(Debug)]
pub(crate) enum Known {
    /// A message to run.
    New(Work),
    /// A message whose channel was lost; `known` is the word for what was known of it.
    Adopted { known: &'static str, then: Then },
    /// The second of two copies with one id.
    Twin,
}

/// The consequence of an adoption.
#[derive(Debug)]
pub(crate) enum Then {
    /// Nothing: its run or its copy goes on, or it is acknowledged.
    Nothing,
    /// The consequence of this outcome.
    Follow(Work, Outcome),
    /// This copy is to be published.
    Copy(Work, Arc<Pending>),
}

/// The end of a run.
#[derive(Debug)]
pub(crate) enum RunEnd {
    /// Its handler decided.
    Decided(Outcome),
    /// Its handler panicked, or took longer than the time-out; this outcome follows.
    Failed(Outcome),
    /// It was cancelled before it decided.
    Cancelled,
}

/// The end of a run.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The outcome of a delivery of the present channel is to be followed.
    Follow(InHand, Outcome),
    /// The outcome waits for the broker to deliver the message again.
    Remembered(InHand, Outcome),
    /// The message goes back; nothing was decided.
    HandedBack(InHand),
    /// It was cut off; the message goes back.
    Interrupted(InHand),
}

/// What is known, when a channel ends, of the settlements that were written on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// All have arrived.
    Arrived,
    /// Those that no delivery proves may not have arrived.
    Unproven,
    /// The queue may have taken deliveries back before the last ones reached it: after a consumer time-out it passes over
    /// them, though its channel took them.
    MayBeTooLate,
}

impl Written {
    /// Whether the channel's own answer shows that all have arrived.
    pub(crate) const fn shown_by_answer(shown: bool) -> Self {
        if shown { Self::Arrived } else { Self::Unproven }
    }
}

/// The remains of a lost channel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LostChannel {
    /// How many outcomes were not written, or were written during a drain and have no proof.
    pub unconfirmed: u64,
    /// The copies under way for its deliveries.
    pub copies: Vec<u64>,
}

/// The counts of a drain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Runs whose handlers decided.
    pub finished: u64,
    /// Deliveries handed back because they had not started, or because their handler said so.
    pub handed_back: u64,
    /// Runs that were cut off.
    pub interrupted: u64,
    /// Outcomes whose settlement was not written, or was written during the drain without proof that it arrived.
    pub unconfirmed: u64,
    /// Unconfirmed outcomes that had been forgotten when the drain began.
    pub(super) forgotten_before: u64,
}

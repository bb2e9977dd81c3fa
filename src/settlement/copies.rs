//! The copies that have come. A copy whose confirm was lost is published again, and then there may be two.

use std::collections::{HashMap, HashSet, VecDeque};

use super::Identity;

/// Finished copies that are remembered.
const FINISHED_LIMIT: usize = 10_000;

/// What a copy that comes is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// The first of its identity.
    First,
    /// Its twin is being worked on. It is settled with it.
    TwinOfOpen,
    /// Its twin is done with. It is to be acknowledged.
    TwinOfFinished,
}

/// The copies that one node has seen. Open ones are those of the present channel.
///
/// They are told apart by their [`Identity`], which covers the copy's id, its queue and its whole content.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    /// With the tags of their twins.
    open: HashMap<Identity, Vec<u64>>,
    finished: HashSet<Identity>,
    order: VecDeque<Identity>,
}

impl Copies {
    /// A copy has come on the present channel.
    pub(crate) fn arrive(&mut self, copy: Identity, tag: u64) -> Arrival {
        if self.finished.contains(&copy) {
            return Arrival::TwinOfFinished;
        }
        if let Some(twins) = self.open.get_mut(&copy) {
            twins.push(tag);
            return Arrival::TwinOfOpen;
        }
        self.open.insert(copy, Vec::new());
        Arrival::First
    }

    /// A copy has come whose work was begun on a channel that was lost since, and goes on.
    pub(crate) fn adopt(&mut self, copy: Identity) {
        self.open.entry(copy).or_default();
    }

    /// The copy is done with; the tags of its twins, to be acknowledged.
    pub(crate) fn finish(&mut self, copy: Identity) -> Vec<u64> {
        if self.finished.insert(copy) {
            self.order.push_back(copy);
            if self.order.len() > FINISHED_LIMIT
                && let Some(oldest) = self.order.pop_front()
            {
                self.finished.remove(&oldest);
            }
        }
        self.open.remove(&copy).unwrap_or_default()
    }

    /// The copy goes back to the broker; the tags of its twins, to be handed back with it.
    pub(crate) fn hand_back(&mut self, copy: Identity) -> Vec<u64> {
        self.open.remove(&copy).unwrap_or_default()
    }

    /// The channel is lost: what was open on it is the broker's again.
    pub(crate) fn lose(&mut self) {
        self.open.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::identity;
    use super::*;

    #[test]
    fn a_twin_shares_the_fate_of_the_first() {
        let mut copies = Copies::default();
        let (a, b) = (identity("a"), identity("b"));
        assert_eq!(copies.arrive(a, 1), Arrival::First);
        assert_eq!(copies.arrive(a, 2), Arrival::TwinOfOpen);
        assert_eq!(copies.arrive(b, 3), Arrival::First);
        assert_eq!(copies.finish(a), [2]);
        assert_eq!(copies.arrive(a, 4), Arrival::TwinOfFinished);
        assert_eq!(copies.arrive(b, 5), Arrival::TwinOfOpen);
        assert_eq!(copies.hand_back(b), [5]);
        assert_eq!(copies.arrive(b, 6), Arrival::First);
    }

    #[test]
    fn a_lost_channel_takes_the_open_ones_with_it() {
        let mut copies = Copies::default();
        let a = identity("a");
        copies.arrive(a, 1);
        copies.arrive(a, 2);
        copies.lose();
        assert_eq!(copies.arrive(a, 1), Arrival::First);
        assert!(copies.finish(a).is_empty());
    }

    #[test]
    fn the_finished_are_bounded() {
        let mut copies = Copies::default();
        for number in 0..=FINISHED_LIMIT {
            copies.finish(identity(&number.to_string()));
        }
        assert_eq!(copies.finished.len(), FINISHED_LIMIT);
        assert_eq!(copies.arrive(identity("0"), 1), Arrival::First);
        assert_eq!(copies.arrive(identity("1"), 2), Arrival::TwinOfFinished);
    }
}

//! Which nodes a beat names: all of them in a full one, else those that have changed since the last full one.
//! Pure.

use super::wire::BeatNode;

/// Of so many beats one is full.
const FULL_EVERY: u32 = 10;

/// What receivers know from the last full beat.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    full: Option<Vec<BeatNode>>,
    /// Beats since then.
    since: u32,
}

/// The nodes of one beat.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Whether every node is there.
    pub full: bool,
    /// The nodes.
    pub nodes: Vec<BeatNode>,
}

impl Delta {
    /// What the next beat names of `nodes`, which are all there are.
    pub fn encode(&self, nodes: Vec<BeatNode>) -> Encoded {
        let known = self
            .full
            .as_ref()
            .filter(|full| self.since + 1 < FULL_EVERY && full.len() == nodes.len());
        let Some(known) = known else {
            return Encoded { full: true, nodes };
        };
        let nodes = nodes.into_iter().zip(known);
        let changed = nodes.filter(|(node, known)| node != *known);
        Encoded {
            full: false,
            nodes: changed.map(|(node, _)| node).collect(),
        }
    }

    /// The broker has taken the beat.
    pub fn sent(&mut self, encoded: Encoded) {
        if encoded.full {
            self.full = Some(encoded.nodes);
            self.since = 0;
        } else {
            self.since += 1;
        }
    }

    /// The next beat is full: receivers may have missed the last, or ask for it.
    pub fn renew(&mut self) {
        self.full = None;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn node(queue: usize, done: u64) -> BeatNode {
        BeatNode {
            queue: format!("q{queue}"),
            in_flight: 0,
            oldest_ms: 0,
            done,
            retried: 0,
            dead: 0,
            handed_back: 0,
            interrupted: 0,
        }
    }

    #[test]
    fn of_ten_beats_one_is_full_and_the_others_name_what_has_changed() {
        let mut delta = Delta::default();
        let mut full = Vec::new();
        for done in 0..21 {
            let encoded = delta.encode(vec![node(0, done), node(1, 5)]);
            if !encoded.full {
                assert_eq!(encoded.nodes, [node(0, done)]);
            }
            full.push(encoded.full);
            delta.sent(encoded);
        }
        let places: Vec<_> = (0..21).filter(|&place| full[place]).collect();
        assert_eq!(places, [0, 10, 20]);
    }

    #[test]
    fn a_full_beat_that_was_not_sent_stays_owed() {
        let mut delta = Delta::default();
        assert!(delta.encode(vec![node(0, 1)]).full);
        let again = delta.encode(vec![node(0, 1)]);
        assert!(again.full);
        delta.sent(again);
        assert!(!delta.encode(vec![node(0, 1)]).full);
        delta.renew();
        assert!(delta.encode(vec![node(0, 1)]).full);
    }

    proptest! {
        /// Who has heard the last full beat and takes later ones over it knows every node.
        #[test]
        fn a_receiver_puts_every_node_together(
            changes in prop::collection::vec(
                prop_oneof![
                    8 => (0..4_usize, 1..3_u64).prop_map(Some),
                    1 => Just(None),
                ],
                1..60,
            )
        ) {
            let mut delta = Delta::default();
            let mut done = [0; 4];
            let mut known = BTreeMap::new();
            for change in changes {
                match change {
                    Some((queue, more)) => done[queue] += more,
                    None => delta.renew(),
                }
                let nodes: Vec<_> = (0..4).map(|queue| node(queue, done[queue])).collect();
                let encoded = delta.encode(nodes.clone());
                delta.sent(encoded.clone());
                if encoded.full {
                    known.clear();
                }
                let mut view: BTreeMap<String, BeatNode> = known.clone();
                for node in encoded.nodes {
                    view.insert(node.queue.clone(), node);
                }
                if encoded.full {
                    known.clone_from(&view);
                }
                prop_assert_eq!(view.into_values().collect::<Vec<_>>(), nodes);
            }
        }
    }
}

//! The nodes of a beat: all of them in a full beat, otherwise those that changed since the last full beat.
//! Pure.

use std::time::Duration;

use tokio::time::Instant;

use super::wire::BeatNode;

/// One beat in so many lists every node.
const FULL_EVERY: u32 = 10;
/// A full beat is followed by another one after this time. Between beats that are minutes apart, leaving nodes out
/// would save nothing, and a receiver that missed the last full beat would wait for an hour.
const FULL_AFTER: Duration = Duration::from_mins(1);

/// The receivers' knowledge from the last full beat.
#[derive(Debug, Clone, Default)]
pub struct Delta {
    full: Option<FullBeat>,
}

#[derive(Debug, Clone)]
struct FullBeat {
    nodes: Vec<BeatNode>,
    at: Instant,
    /// Beats since then.
    since: u32,
}

/// The nodes of one beat.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Whether every node is listed.
    pub full: bool,
    /// The nodes.
    pub nodes: Vec<BeatNode>,
    at: Instant,
}

impl Delta {
    /// What a beat at `now` lists of `nodes`, which are all nodes of the worker.
    pub fn encode(&self, nodes: Vec<BeatNode>, now: Instant) -> Encoded {
        let known = self.full.as_ref().filter(|full| {
            let recent = now.saturating_duration_since(full.at) < FULL_AFTER;
            recent && full.since + 1 < FULL_EVERY && full.has_the_nodes_of(&nodes)
        });
        let Some(known) = known else {
            return Encoded {
                full: true,
                nodes,
                at: now,
            };
        };
        let nodes = nodes.into_iter().zip(&known.nodes);
        let changed = nodes.filter(|(node, known)| node != *known);
        Encoded {
            full: false,
            nodes: changed.map(|(node, _)| node).collect(),
            at: now,
        }
    }

    /// The broker has taken the beat.
    pub fn sent(&mut self, encoded: Encoded) {
        if encoded.full {
            self.full = Some(FullBeat {
                nodes: encoded.nodes,
                at: encoded.at,
                since: 0,
            });
        } else if let Some(full) = &mut self.full {
            full.since += 1;
        }
    }

    /// The next beat is full, because receivers may have missed the last full one or ask for another.
    pub fn renew(&mut self) {
        self.full = None;
    }
}

impl FullBeat {
    fn has_the_nodes_of(&self, nodes: &[BeatNode]) -> bool {
        let queues = self.nodes.iter().map(|node| &node.queue);
        queues.eq(nodes.iter().map(|node| &node.queue))
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
            held: 0,
            oldest_ms: 0,
            done,
            retried: 0,
            dead: 0,
            handed_back: 0,
            interrupted: 0,
        }
    }

    #[test]
    fn one_beat_in_ten_is_full_and_the_others_list_what_has_changed() {
        let now = Instant::now();
        let mut delta = Delta::default();
        let mut full = Vec::new();
        for done in 0..21 {
            let encoded = delta.encode(vec![node(0, done), node(1, 5)], now);
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
    fn a_full_beat_that_was_not_sent_is_sent_next() {
        let now = Instant::now();
        let mut delta = Delta::default();
        assert!(delta.encode(vec![node(0, 1)], now).full);
        let again = delta.encode(vec![node(0, 1)], now);
        assert!(again.full);
        delta.sent(again);
        assert!(!delta.encode(vec![node(0, 1)], now).full);
        delta.renew();
        assert!(delta.encode(vec![node(0, 1)], now).full);
    }

    #[test]
    fn beats_that_are_minutes_apart_are_full() {
        let now = Instant::now();
        let mut delta = Delta::default();
        delta.sent(delta.encode(vec![node(0, 1)], now));
        assert!(!delta.encode(vec![node(0, 1)], now + FULL_AFTER / 2).full);
        assert!(delta.encode(vec![node(0, 1)], now + FULL_AFTER).full);
    }

    #[test]
    fn a_beat_with_other_nodes_is_full() {
        let now = Instant::now();
        let mut delta = Delta::default();
        delta.sent(delta.encode(vec![node(0, 1), node(1, 1)], now));
        assert!(delta.encode(vec![node(0, 1), node(2, 1)], now).full);
        assert!(delta.encode(vec![node(0, 1)], now).full);
    }

    proptest! {
        /// A receiver of the last full beat that puts later beats over it knows every node.
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
            let now = Instant::now();
            let mut delta = Delta::default();
            let mut done = [0; 4];
            let mut known = BTreeMap::new();
            for change in changes {
                match change {
                    Some((queue, more)) => done[queue] += more,
                    None => delta.renew(),
                }
                let nodes: Vec<_> = (0..4).map(|queue| node(queue, done[queue])).collect();
                let encoded = delta.encode(nodes.clone(), now);
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

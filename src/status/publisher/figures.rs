//! What beats say in numbers: what each node does and has done, and the load.

use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::NodeMetrics;
use crate::status::wire::{BeatNode, millis};

/// How often the load is looked at.
const SAMPLE: Duration = Duration::from_secs(1);

/// The figures of one worker's nodes.
#[derive(Debug)]
pub(super) struct Figures {
    nodes: Vec<(String, NodeMetrics)>,
    slots: f64,
    /// When the load was looked at last, and how long slots had been taken until then.
    looked: (Instant, Duration),
}

impl Figures {
    pub(super) fn new(nodes: Vec<(String, NodeMetrics)>, slots: usize) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "slots are far fewer than 2^52")]
        let slots = slots.max(1) as f64;
        Self {
            nodes,
            slots,
            looked: (Instant::now(), Duration::ZERO),
        }
    }

    /// How many nodes there are.
    pub(super) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// The share of slots that were taken on average since it was asked last; nothing where that is not long
    /// ago. One moment's load would swing from one short delivery to the next.
    pub(super) fn recent_load(&mut self, now: Instant) -> Option<f64> {
        let (at, before) = self.looked;
        let passed = now.saturating_duration_since(at);
        if passed < SAMPLE {
            return None;
        }
        let times = self.nodes.iter().map(|(_, node)| node.runs.slot_time(now));
        let taken = times.sum::<Duration>();
        self.looked = (now, taken);
        let running = taken.saturating_sub(before).as_secs_f64() / passed.as_secs_f64();
        Some((running / self.slots).min(1.0))
    }

    /// When to look at the load again.
    pub(super) fn next_look(&self) -> Instant {
        self.looked.0 + SAMPLE
    }

    /// The share of slots that are taken now, to three digits.
    pub(super) fn load(&self) -> f64 {
        let running = self.nodes.iter().map(|(_, node)| node.in_flight.get());
        #[expect(clippy::cast_precision_loss, reason = "slots are far fewer than 2^52")]
        let running = running.sum::<i64>().max(0) as f64;
        ((running / self.slots).min(1.0) * 1000.0).round() / 1000.0
    }

    /// Every node, as a beat names it.
    pub(super) fn nodes(&self, now: Instant) -> Vec<BeatNode> {
        let nodes = self.nodes.iter().map(|(queue, node)| BeatNode {
            queue: queue.clone(),
            in_flight: u64::try_from(node.in_flight.get()).unwrap_or(0),
            oldest_ms: millis(node.runs.oldest(now)),
            done: node.done.get(),
            retried: node.retried.get(),
            dead: node.dead.get(),
            handed_back: node.handed_back.get(),
            interrupted: node.interrupted.get(),
        });
        nodes.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn the_load_is_what_ran_on_average_and_what_runs_now() {
        let metrics = Metrics::new();
        let node = metrics.node(&"orders".into(), 4);
        let other = metrics.node(&"more".into(), 4);
        let nodes = vec![
            ("orders".to_owned(), node.clone()),
            ("more".to_owned(), other.clone()),
        ];
        // Both share one pool of four slots.
        let mut figures = Figures::new(nodes, 4);
        let begin = Instant::now();
        node.run_began(1);
        other.run_began(1);
        assert_eq!(
            figures.recent_load(begin),
            None,
            "it was looked at just now"
        );
        assert!((figures.load() - 0.5).abs() < 1e-9);
        tokio::time::advance(Duration::from_secs(1)).await;
        node.run_ended(1);
        node.done.inc();
        tokio::time::advance(Duration::from_secs(1)).await;
        let now = begin + Duration::from_secs(2);
        let load = figures.recent_load(now).expect("two seconds have passed");
        assert!((load - 0.375).abs() < 1e-9, "{load}");
        assert_eq!(figures.next_look(), now + SAMPLE);
        let nodes = figures.nodes(now);
        assert_eq!(
            (nodes[0].done, nodes[0].in_flight, nodes[0].oldest_ms),
            (1, 0, 0)
        );
        assert_eq!(
            (nodes[1].done, nodes[1].in_flight, nodes[1].oldest_ms),
            (0, 1, 2000)
        );
    }
}

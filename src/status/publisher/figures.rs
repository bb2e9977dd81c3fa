//! The figures of beats: what each node does and has done, and the load.

use std::time::Duration;

use tokio::time::Instant;

use super::{NodeInfo, Snapshot};
use crate::status::wire::{BeatNode, millis};

/// How often the load is observed. It is an average over that time, so that nothing in between is missed.
const SAMPLE: Duration = Duration::from_secs(5);

/// The load of one worker over time.
#[derive(Debug)]
pub(super) struct Figures {
    /// When the load was observed last, and how long slots had been taken until then.
    observed: (Instant, Duration),
}

impl Figures {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            observed: (now, Duration::ZERO),
        }
    }

    /// The share of slots that were taken on average since the load was observed last; nothing before the next
    /// sample is due. The load of a moment would swing from one short delivery to the next.
    pub(super) fn recent_load(&mut self, worker: &Snapshot, now: Instant) -> Option<f64> {
        let (at, before) = self.observed;
        let passed = now.saturating_duration_since(at);
        if passed < SAMPLE {
            return None;
        }
        let nodes = worker.nodes.iter();
        let taken = nodes.map(|node| node.figures.runs.slot_time(now)).sum();
        self.observed = (now, taken);
        // A node that has gone takes its time with it.
        let running = taken.saturating_sub(before).as_secs_f64() / passed.as_secs_f64();
        Some((running / slots(worker)).min(1.0))
    }

    /// When to observe the load again.
    pub(super) fn next_sample(&self) -> Instant {
        self.observed.0 + SAMPLE
    }
}

/// The share of slots that are taken now, to three digits.
pub(super) fn load(worker: &Snapshot) -> f64 {
    let running = worker.nodes.iter().map(|node| node.figures.in_flight.get());
    #[expect(clippy::cast_precision_loss, reason = "slots are far fewer than 2^52")]
    let running = running.sum::<i64>().max(0) as f64;
    ((running / slots(worker)).min(1.0) * 1000.0).round() / 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "slots are far fewer than 2^52")]
fn slots(worker: &Snapshot) -> f64 {
    worker.slots.max(1) as f64
}

/// A node as a beat lists it.
pub(super) fn beat_node(node: &NodeInfo, now: Instant) -> BeatNode {
    let figures = &node.figures;
    BeatNode {
        queue: node.queue.clone(),
        in_flight: u64::try_from(figures.in_flight.get()).unwrap_or(0),
        held: u64::try_from(figures.held.get()).unwrap_or(0),
        oldest_ms: millis(figures.runs.oldest(now)),
        done: figures.done.get(),
        retried: figures.retried.get(),
        dead: figures.dead.get(),
        handed_back: figures.handed_back.get(),
        interrupted: figures.interrupted.get(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lifecycle::Phase;
    use crate::metrics::Metrics;

    #[tokio::test(start_paused = true)]
    async fn the_load_is_what_ran_on_average_and_what_runs_now() {
        let metrics = Metrics::new();
        let node = |queue: &str| NodeInfo {
            queue: queue.to_owned(),
            kind: None,
            handler: "log",
            slots: 4,
            prefetch: 8,
            retry_ms: Vec::new(),
            phase: Phase::Running,
            refusal: None,
            figures: metrics.node(&queue.into(), 4),
        };
        let worker = Snapshot {
            phase: Phase::Running,
            reason: None,
            deadline: None,
            // Both share one pool of four slots.
            slots: 4,
            nodes: vec![node("orders"), node("more")],
        };
        let (orders, more) = (&worker.nodes[0].figures, &worker.nodes[1].figures);
        let begin = Instant::now();
        let mut figures = Figures::new(begin);
        orders.run_began(1, Instant::now());
        more.run_began(1, Instant::now());
        let load_now = figures.recent_load(&worker, begin);
        assert_eq!(load_now, None, "it was observed just now");
        assert!((load(&worker) - 0.5).abs() < 1e-9);
        tokio::time::advance(SAMPLE).await;
        orders.run_ended(1, Instant::now());
        orders.done.inc();
        orders.held.inc();
        tokio::time::advance(SAMPLE).await;
        let now = begin + SAMPLE * 2;
        let load = figures.recent_load(&worker, now).expect("it is due");
        assert!((load - 0.375).abs() < 1e-9, "{load}");
        assert_eq!(figures.next_sample(), now + SAMPLE);
        let orders = beat_node(&worker.nodes[0], now);
        assert_eq!((orders.done, orders.in_flight, orders.oldest_ms), (1, 0, 0));
        assert_eq!(orders.held, 1, "what is on hold takes no slot");
        let more = beat_node(&worker.nodes[1], now);
        assert_eq!((more.done, more.in_flight, more.oldest_ms), (0, 1, 10_000));
    }
}

//! The worker's metrics, in Prometheus' terms: base units, `tidegate_` prefix.

mod exposition;
mod more;
mod runs;
mod settling;

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tokio::time::Instant;

pub use exposition::exposition;
pub(crate) use more::MoreMetrics;
pub(crate) use runs::Runs;
pub(crate) use settling::Settling;

use crate::handler::Shortages;

/// Upper bounds of handler durations, in seconds.
const HANDLER_BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0,
];
/// Upper bounds of the number of settlements in one flush.
const FLUSH_BUCKETS: [f64; 11] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];
/// Upper bounds of drain durations, in seconds.
const DRAIN_BUCKETS: [f64; 12] = [
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    queue: Arc<str>,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PurposeLabels {
    connection: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DrainLabels {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StepLabels {
    step: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// Log lines that could not be written. A process has one log, so there is one counter.
static LOG_LINES_LOST: LazyLock<Counter> = LazyLock::new(Counter::default);

/// The counter of log lines that could not be written: for the program that writes the log.
pub fn log_lines_lost() -> &'static Counter {
    &LOG_LINES_LOST
}

/// The outcomes that deliveries are counted by.
const OUTCOMES: [&str; 5] = ["done", "retry", "dead", "handed_back", "interrupted"];

/// All metrics of one worker. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    deliveries: Family<OutcomeLabels, Counter>,
    handler: Family<QueueLabels, Histogram>,
    in_flight: Family<QueueLabels, Gauge>,
    held: Family<QueueLabels, Gauge>,
    slots: Family<QueueLabels, Gauge>,
    flush: Family<QueueLabels, Histogram>,
    settling: settling::Families,
    unconfirmed: Family<QueueLabels, Counter>,
    not_begun: Family<QueueLabels, Counter>,
    starved: Family<QueueLabels, Gauge>,
    reconnects: Family<PurposeLabels, Counter>,
    status: Family<KindLabels, Counter>,
    status_failures: Family<KindLabels, Counter>,
    beats_saved: Counter<f64, std::sync::atomic::AtomicU64>,
    drains: Family<DrainLabels, Histogram>,
    drain_steps: Family<StepLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

impl Metrics {
    /// Registers every metric.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("tidegate");
        let handler = Family::<QueueLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(HANDLER_BUCKETS)
        });
        let flush = Family::<QueueLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(FLUSH_BUCKETS)
        });
        let drains = Family::<DrainLabels, Histogram>::new_with_constructor(|| {
            Histogram::new(DRAIN_BUCKETS)
        });
        let inner = Inner {
            deliveries: Family::default(),
            handler,
            in_flight: Family::default(),
            held: Family::default(),
            slots: Family::default(),
            flush,
            settling: settling::Families::default(),
            unconfirmed: Family::default(),
            not_begun: Family::default(),
            starved: Family::default(),
            reconnects: Family::default(),
            status: Family::default(),
            status_failures: Family::default(),
            beats_saved: Counter::default(),
            drains,
            drain_steps: Family::default(),
            registry: Registry::default(),
        };
        inner.register_nodes(&mut registry);
        inner.register_worker(&mut registry);
        Self(Arc::new(Inner { registry, ..inner }))
    }

    /// The metrics of one node.
    pub fn node(&self, queue: &Arc<str>, slots: usize) -> NodeMetrics {
        let labels = QueueLabels {
            queue: Arc::clone(queue),
        };
        let outcome = |outcome| {
            let labels = OutcomeLabels {
                queue: Arc::clone(queue),
                outcome,
            };
            self.0.deliveries.get_or_create(&labels).clone()
        };
        self.set_slots(queue, slots);
        NodeMetrics {
            done: outcome("done"),
            retried: outcome("retry"),
            dead: outcome("dead"),
            handed_back: outcome("handed_back"),
            interrupted: outcome("interrupted"),
            handler: self.0.handler.get_or_create(&labels).clone(),
            in_flight: self.0.in_flight.get_or_create(&labels).clone(),
            held: self.0.held.get_or_create(&labels).clone(),
            flush: self.0.flush.get_or_create(&labels).clone(),
            settling: self.0.settling.node(queue),
            unconfirmed: self.0.unconfirmed.get_or_create(&labels).clone(),
            shortages: Shortages::new(
                self.0.not_begun.get_or_create(&labels).clone(),
                self.0.starved.get_or_create(&labels).clone(),
            ),
            runs: Runs::default(),
        }
    }

    /// Says how many slots a node has.
    pub fn set_slots(&self, queue: &Arc<str>, slots: usize) {
        let queue = Arc::clone(queue);
        let gauge = self.0.slots.get_or_create(&QueueLabels { queue }).clone();
        gauge.set(i64::try_from(slots).unwrap_or(i64::MAX));
    }

    /// Drops the figures of a node that is gone.
    pub fn forget_node(&self, queue: &str) {
        let queue: Arc<str> = queue.into();
        for outcome in OUTCOMES {
            let labels = OutcomeLabels {
                queue: Arc::clone(&queue),
                outcome,
            };
            self.0.deliveries.remove(&labels);
        }
        self.0.settling.forget_node(&queue);
        let labels = QueueLabels { queue };
        self.0.slots.remove(&labels);
        self.0.handler.remove(&labels);
        self.0.in_flight.remove(&labels);
        self.0.held.remove(&labels);
        self.0.flush.remove(&labels);
        self.0.unconfirmed.remove(&labels);
        self.0.not_begun.remove(&labels);
        self.0.starved.remove(&labels);
    }

    /// Counts a connection made again.
    pub fn reconnected(&self, connection: &'static str) {
        let labels = PurposeLabels { connection };
        self.0.reconnects.get_or_create(&labels).inc();
    }

    /// Counts a status message: confirmed, or not sent.
    pub fn status_message(&self, kind: &'static str, sent: bool) {
        let family = if sent {
            &self.0.status
        } else {
            &self.0.status_failures
        };
        family.get_or_create(&KindLabels { kind }).inc();
    }

    /// Counts pings that a status message has saved.
    pub fn pings_saved(&self, pings: f64) {
        self.0.beats_saved.inc_by(pings);
    }

    /// Measures a drain: how it ended, how long it took, and how long each step took, in milliseconds.
    pub fn drained(
        &self,
        outcome: &'static str,
        duration_ms: u64,
        steps: impl IntoIterator<Item = (&'static str, u64)>,
    ) {
        let drains = self.0.drains.get_or_create(&DrainLabels { outcome });
        drains.observe(Duration::from_millis(duration_ms).as_secs_f64());
        for (step, millis) in steps {
            let gauge = self.0.drain_steps.get_or_create(&StepLabels { step });
            gauge.set(Duration::from_millis(millis).as_secs_f64());
        }
    }

    /// Everything in the OpenMetrics text format (`application/openmetrics-text`, version 1.0.0).
    pub fn encode(&self) -> String {
        let mut text = String::new();
        text::encode(&mut text, &self.0.registry).expect("writing to a string does not fail");
        text
    }
}

impl Inner {
    /// The figures of each node.
    fn register_nodes(&self, registry: &mut Registry) {
        registry.register(
            "deliveries",
            "Deliveries by how they ended: done, retry, dead, handed_back, interrupted",
            self.deliveries.clone(),
        );
        registry.register_with_unit(
            "handler",
            "How long handlers ran",
            Unit::Seconds,
            self.handler.clone(),
        );
        registry.register(
            "in_flight",
            "Deliveries running now",
            self.in_flight.clone(),
        );
        registry.register(
            "held",
            "Deliveries on hold: started, and waiting in their place without a slot",
            self.held.clone(),
        );
        registry.register(
            "slots",
            "Deliveries that may run at once",
            self.slots.clone(),
        );
        registry.register(
            "settlement_flush_size",
            "Broker calls written in one settlement flush",
            self.flush.clone(),
        );
        registry.register(
            "unconfirmed_settlements",
            "Outcomes whose settlement is not known to have reached the broker",
            self.unconfirmed.clone(),
        );
        registry.register(
            "runs_not_begun",
            "Attempts to begin a run that failed because the worker lacked something: descriptors, memory, processes, a network",
            self.not_begun.clone(),
        );
        registry.register(
            "runs_starved",
            "Deliveries that hold a slot and wait for something that the worker lacks",
            self.starved.clone(),
        );
        self.settling.register(registry);
    }

    /// The figures of the worker as a whole.
    fn register_worker(&self, registry: &mut Registry) {
        registry.register(
            "reconnects",
            "Connections made again after a loss",
            self.reconnects.clone(),
        );
        registry.register(
            "status_messages",
            "Status messages confirmed by the broker",
            self.status.clone(),
        );
        registry.register(
            "status_failures",
            "Status messages that could not be sent",
            self.status_failures.clone(),
        );
        registry.register(
            "beats_saved",
            "Pings, one per queue and 30 s, that status messages stood for, less these messages",
            self.beats_saved.clone(),
        );
        registry.register_with_unit(
            "drain",
            "How long drains took, by outcome",
            Unit::Seconds,
            self.drains.clone(),
        );
        registry.register_with_unit(
            "drain_step",
            "How long each step of the last drain took",
            Unit::Seconds,
            self.drain_steps.clone(),
        );
        registry.register(
            "log_lines_lost",
            "Log lines that could not be written",
            log_lines_lost().clone(),
        );
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The metrics of one node; also the counters that status messages carry.
#[derive(Debug, Clone)]
pub struct NodeMetrics {
    /// Deliveries whose handler said done.
    pub done: Counter,
    /// Deliveries whose handler said retry, or failed.
    pub retried: Counter,
    /// Deliveries that went to the dead letters, or are on their way.
    pub dead: Counter,
    /// Deliveries handed back without having been started.
    pub handed_back: Counter,
    /// Deliveries cut off by the deadline of a drain.
    pub interrupted: Counter,
    /// How long handlers ran, in seconds.
    pub handler: Histogram,
    /// Deliveries running now.
    pub in_flight: Gauge,
    /// Deliveries on hold now: started, and waiting without a slot.
    pub held: Gauge,
    /// Broker calls in one flush.
    pub flush: Histogram,
    /// Copies and adoptions.
    pub settling: Settling,
    /// Outcomes whose settlement is not known to have arrived.
    pub unconfirmed: Counter,
    /// The shortage that kept runs from beginning.
    pub(crate) shortages: Shortages,
    /// What runs now.
    pub runs: Runs,
}

impl NodeMetrics {
    /// Notes that run `run` begins at `at`; numbers of runs grow with time.
    pub fn run_began(&self, run: u64, at: Instant) {
        self.in_flight.inc();
        self.runs.began(run, at);
    }

    /// Notes that run `run` is over at `at`, however it ended.
    pub fn run_ended(&self, run: u64, at: Instant) {
        self.in_flight.dec();
        self.runs.ended(run, at);
    }
}

#[cfg(test)]
mod tests;

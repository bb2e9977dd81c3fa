//! The fleet program's metrics, in Prometheus' terms.

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::api::{Broker, Counts, Overview, WorkerState};
use super::state::Message;
use tidegate::internal::metrics::log_lines_lost;
use tidegate::internal::status::wire::Kind;

/// Upper bounds of the number of messages in a batch.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 500.0, 2_000.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

type Float = Gauge<f64, std::sync::atomic::AtomicU64>;

/// All metrics of one fleet program. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct FleetMetrics(Arc<Inner>);

/// Each metric has the name of its field; the batches are registered as `batch_size`.
#[derive(Debug, Default)]
struct Inner {
    registry: Registry,
    workers: Family<StateLabels, Gauge>,
    nodes: Gauge,
    slots: Gauge,
    in_flight: Gauge,
    done_per_second: Float,
    message_share: Float,
    week_drains: Family<OutcomeLabels, Gauge>,
    week_interrupted_deliveries: Gauge,
    week_lost: Gauge,
    connected: Gauge,
    caught_up: Gauge,
    events: Gauge,
    dropped: Gauge,
    messages: Family<KindLabels, Counter>,
    malformed_messages: Counter,
    questions: Family<OutcomeLabels, Counter>,
    commands: Family<OutcomeLabels, Counter>,
    event_clients: Gauge,
    slow_clients: Counter,
    forwards: Family<OutcomeLabels, Counter>,
    batches: Option<Histogram>,
}

impl FleetMetrics {
    /// Registers every metric.
    pub(crate) fn new() -> Self {
        let batches = Histogram::new(BATCH_BUCKETS);
        let mut inner = Inner {
            batches: Some(batches.clone()),
            ..Inner::default()
        };
        let mut registry = Registry::with_prefix("tidegate_fleet");
        macro_rules! register {
            ($($name:ident: $help:literal,)*) => {
                $(registry.register(stringify!($name), $help, inner.$name.clone());)*
            };
        }
        register! {
            workers: "Workers by state",
            nodes: "Nodes of live workers",
            slots: "Slots of live workers",
            in_flight: "Deliveries running on live workers",
            done_per_second: "Deliveries done per second",
            message_share: "Status messages as a share of one ping for each node every 30 s",
            week_drains: "Drains of the last seven days by outcome",
            week_interrupted_deliveries: "Deliveries interrupted by drains of the last seven days",
            week_lost: "Workers lost in the last seven days",
            connected: "Whether the fleet is heard and can be asked",
            caught_up: "Whether the log has been read to its end",
            events: "Whether the broker's events are followed",
            dropped: "Workers forgotten before their time, for want of room",
            messages: "Status messages received, by kind",
            malformed_messages: "Messages on the status exchange that are nobody's",
            questions: "Workers asked whether they are there, by what became of the question",
            commands: "Commands by outcome",
            event_clients: "Clients of server-sent events",
            slow_clients: "Snapshots sent to clients of server-sent events that did not keep up",
            forwards: "Requests to the platform by outcome",
        }
        registry.register("batch_size", "Status messages in one batch", batches);
        let lost = "Log lines that could not be written";
        registry.register("log_lines_lost", lost, log_lines_lost().clone());
        inner.registry = registry;
        Self(Arc::new(inner))
    }

    pub(super) fn received(&self, messages: &[Message]) {
        for message in messages {
            let kind = match message {
                Message::State(_) => Kind::State,
                Message::Beat(_) => Kind::Beat,
                Message::Drain(_) => Kind::Drain,
            };
            let kind = kind.as_str();
            self.0.messages.get_or_create(&KindLabels { kind }).inc();
        }
        if let Some(batches) = &self.0.batches
            && let Ok(size) = u32::try_from(messages.len())
        {
            batches.observe(size.into());
        }
    }

    pub(super) fn malformed(&self) {
        self.0.malformed_messages.inc();
    }

    pub(super) fn asked(&self, outcome: &'static str) {
        count(&self.0.questions, outcome);
    }

    pub(super) fn commanded(&self, outcome: &'static str) {
        count(&self.0.commands, outcome);
    }

    pub(super) fn forwarded(&self, outcome: &'static str) {
        count(&self.0.forwards, outcome);
    }

    pub(super) fn client_came(&self) {
        self.0.event_clients.inc();
    }

    pub(super) fn client_went(&self) {
        self.0.event_clients.dec();
    }

    pub(super) fn client_was_slow(&self) {
        self.0.slow_clients.inc();
    }

    /// How many clients of events there are, and how often one was too slow.
    #[cfg(test)]
    pub(super) fn clients(&self) -> (i64, u64) {
        (self.0.event_clients.get(), self.0.slow_clients.get())
    }

    /// Everything in the text format of `OpenMetrics`, with the fleet as it is now.
    pub(super) fn encode(&self, overview: &Overview, broker: Broker, dropped: u64) -> String {
        let inner = &self.0;
        let mut counts: Counts = overview.workers;
        for state in WorkerState::ALL {
            let count = *counts.of(state);
            let state = state.as_str();
            set(&inner.workers.get_or_create(&StateLabels { state }), count);
        }
        set(&inner.nodes, overview.nodes);
        set(&inner.slots, overview.slots);
        set(&inner.in_flight, overview.in_flight);
        inner.done_per_second.set(overview.rate);
        let share = overview.messages.share.unwrap_or(0.0);
        inner.message_share.set(share);
        let week = &overview.week;
        for (outcome, count) in [
            ("clean", week.clean),
            ("interrupted", week.interrupted),
            ("aborted", week.aborted),
            ("unconfirmed", week.unconfirmed_drains),
            ("failed", week.failed),
        ] {
            set(
                &inner.week_drains.get_or_create(&OutcomeLabels { outcome }),
                count,
            );
        }
        set(
            &inner.week_interrupted_deliveries,
            week.interrupted_deliveries,
        );
        set(&inner.week_lost, week.lost);
        set(&inner.connected, broker.connected.into());
        set(&inner.caught_up, broker.caught_up.into());
        set(&inner.events, broker.events.into());
        set(&inner.dropped, dropped);
        let mut encoded = String::new();
        text::encode(&mut encoded, &inner.registry).expect("a string takes all");
        encoded
    }
}

impl Default for FleetMetrics {
    fn default() -> Self {
        Self::new()
    }
}

fn count(family: &Family<OutcomeLabels, Counter>, outcome: &'static str) {
    family.get_or_create(&OutcomeLabels { outcome }).inc();
}

fn set(gauge: &Gauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

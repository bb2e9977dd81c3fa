//! Deliveries that are not simply acknowledged: copies and adoptions.

use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ToLabels {
    queue: Arc<str>,
    to: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KnownLabels {
    queue: Arc<str>,
    known: &'static str,
}

/// What can be known of a message whose channel was lost: the words of `Remembered`.
const KNOWN: [&str; 5] = ["running", "copying", "decided", "unpublished", "finished"];

/// The families of all nodes.
#[derive(Debug, Default)]
pub(super) struct Families {
    copies: Family<ToLabels, Counter>,
    failures: Family<QueueLabels, Counter>,
    copying: Family<QueueLabels, Gauge>,
    twins: Family<QueueLabels, Counter>,
    consumer_timeouts: Family<QueueLabels, Counter>,
    adoptions: Family<KnownLabels, Counter>,
}

impl Families {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "copies",
            "Messages published to delay queues (retry) and to the dead letters (dead), confirmed by the broker",
            self.copies.clone(),
        );
        registry.register(
            "copy_failures",
            "Tries to publish such a message that the broker did not take",
            self.failures.clone(),
        );
        registry.register(
            "copying",
            "Deliveries that are kept until the broker has taken their copy",
            self.copying.clone(),
        );
        registry.register(
            "twins",
            "Copies that came twice, because a confirm was lost, and were run once",
            self.twins.clone(),
        );
        registry.register(
            "consumer_timeouts",
            "Consumers or channels that the broker ended, very likely because a delivery was unacknowledged for too long",
            self.consumer_timeouts.clone(),
        );
        registry.register(
            "adoptions",
            "Redeliveries of messages whose channel was lost that did not run again, by what was known of them",
            self.adoptions.clone(),
        );
    }

    /// Drops the figures of a node that is gone.
    pub(super) fn forget_node(&self, queue: &Arc<str>) {
        let queue = || Arc::clone(queue);
        for to in ["retry", "dead"] {
            self.copies.remove(&ToLabels { queue: queue(), to });
        }
        for known in KNOWN {
            let queue = queue();
            self.adoptions.remove(&KnownLabels { queue, known });
        }
        let labels = QueueLabels { queue: queue() };
        self.failures.remove(&labels);
        self.copying.remove(&labels);
        self.twins.remove(&labels);
        self.consumer_timeouts.remove(&labels);
    }

    pub(crate) fn node(&self, queue: &Arc<str>) -> Settling {
        let queue = || Arc::clone(queue);
        let labels = QueueLabels { queue: queue() };
        let copies = |to| {
            let labels = ToLabels { queue: queue(), to };
            self.copies.get_or_create(&labels).clone()
        };
        Settling {
            queue: queue(),
            retries: copies("retry"),
            dead: copies("dead"),
            failures: self.failures.get_or_create(&labels).clone(),
            copying: self.copying.get_or_create(&labels).clone(),
            twins: self.twins.get_or_create(&labels).clone(),
            consumer_timeouts: self.consumer_timeouts.get_or_create(&labels).clone(),
            adoptions: self.adoptions.clone(),
        }
    }
}

/// One node's figures of copies and adoptions.
#[derive(Debug, Clone)]
pub struct Settling {
    queue: Arc<str>,
    /// Copies that delay queues took.
    pub retries: Counter,
    /// Copies that the dead letters took.
    pub dead: Counter,
    /// Tries that failed.
    pub failures: Counter,
    /// Deliveries whose copy is under way.
    pub copying: Gauge,
    /// Copies that came twice.
    pub twins: Counter,
    /// Consumer time-outs.
    pub consumer_timeouts: Counter,
    adoptions: Family<KnownLabels, Counter>,
}

impl Settling {
    /// Counts an adoption by what was `known` of the message.
    pub fn adopted(&self, known: &'static str) {
        let labels = KnownLabels {
            queue: Arc::clone(&self.queue),
            known,
        };
        self.adoptions.get_or_create(&labels).inc();
    }
}

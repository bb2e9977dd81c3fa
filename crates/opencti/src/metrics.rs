//! What is counted: under the names of the platform's worker, and under our own. All are there from the start, at
//! zero.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::signs::{Cause, Sign};

/// Upper bounds of the time that a message takes, in seconds.
const SECONDS: [f64; 11] = [
    0.0, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0,
];

/// All causes, so that each of them is shown from the start.
const CAUSES: [Cause; 11] = [
    Cause::Unreachable,
    Cause::Unauthorized,
    Cause::Forbidden,
    Cause::Platform,
    Cause::Lock,
    Cause::MissingReference,
    Cause::DraftLocked,
    Cause::WorkNotAlive,
    Cause::Invalid,
    Cause::ChildDied,
    Cause::NoChild,
];

/// Reasons of dead letters that are no causes of failures.
const REASONS: [&str; 4] = ["too_large", "incompatible", "undecodable", "refused"];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabel {
    attempt: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabel {
    target: &'static str,
}

/// The counters. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    platform: Registry,
    own: Registry,
    objects: Counter,
    seconds: Histogram,
    units: Gauge<u64, AtomicU64>,
    running: Gauge<u64, AtomicU64>,
    success: Counter,
    timeout: Counter,
    timed_out: Counter,
    lock: Counter,
    missing_reference: Counter,
    missing_reference_retry: Family<AttemptLabel, Counter>,
    bad_gateway: Counter,
    technical: Counter,
    failures: Family<CauseLabel, Counter>,
    held: Family<CauseLabel, Gauge>,
    rejected: Family<CauseLabel, Counter>,
    letters: Family<TargetLabel, Counter>,
    reports: Counter,
    report_failures: Counter,
    breaker: Gauge,
    version_mismatch: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let mut inner = Inner {
            platform: Registry::with_prefix("opencti"),
            own: Registry::with_prefix("tidegate_opencti"),
            objects: Counter::default(),
            seconds: Histogram::new(SECONDS),
            units: Gauge::default(),
            running: Gauge::default(),
            success: Counter::default(),
            timeout: Counter::default(),
            timed_out: Counter::default(),
            lock: Counter::default(),
            missing_reference: Counter::default(),
            missing_reference_retry: Family::default(),
            bad_gateway: Counter::default(),
            technical: Counter::default(),
            failures: Family::default(),
            held: Family::default(),
            rejected: Family::default(),
            letters: Family::default(),
            reports: Counter::default(),
            report_failures: Counter::default(),
            breaker: Gauge::default(),
            version_mismatch: Gauge::default(),
        };
        for cause in CAUSES {
            let label = || CauseLabel {
                cause: cause.as_str(),
            };
            drop(inner.failures.get_or_create(&label()));
            drop(inner.held.get_or_create(&label()));
            drop(inner.rejected.get_or_create(&label()));
        }
        for cause in REASONS {
            drop(inner.rejected.get_or_create(&CauseLabel { cause }));
        }
        for attempt in 1..=4 {
            drop(
                inner
                    .missing_reference_retry
                    .get_or_create(&AttemptLabel { attempt }),
            );
        }
        for target in ["platform", "own"] {
            drop(inner.letters.get_or_create(&TargetLabel { target }));
        }
        inner.register_platform();
        inner.register_own();
        Self(Arc::new(inner))
    }

    /// How many imports and callbacks may run at once.
    pub fn set_units(&self, units: usize) {
        self.0.units.set(units as u64);
    }

    /// Counts one import or callback as running until the guard is dropped.
    pub fn running(&self) -> Running {
        self.0.running.inc();
        Running(self.clone())
    }

    /// A message was dealt with: so many objects, in so many seconds.
    pub fn message(&self, objects: usize, seconds: f64) {
        self.0.objects.inc_by(objects as u64);
        self.0.seconds.observe(seconds.floor());
    }

    /// An object was imported.
    pub fn imported(&self) {
        self.0.success.inc();
    }

    /// A run failed; `retry` is the number of the retry that follows, if one does.
    pub fn failed(&self, cause: Cause, sign: &Sign, retry: Option<u32>) {
        let inner = &self.0;
        inner.failures.get_or_create(&label(cause)).inc();
        match (cause, sign.status) {
            (Cause::Unreachable, Some(408 | 504)) => inner.timed_out.inc(),
            (Cause::Unreachable, Some(_)) => inner.bad_gateway.inc(),
            (Cause::Unreachable, None) => inner.timeout.inc(),
            (Cause::Lock, _) => inner.lock.inc(),
            (Cause::MissingReference, _) => {
                if let Some(attempt) = retry {
                    inner.missing_reference.inc();
                    let attempts = &inner.missing_reference_retry;
                    attempts.get_or_create(&AttemptLabel { attempt }).inc()
                } else {
                    inner.technical.inc()
                }
            }
            (Cause::WorkNotAlive, _) => 0,
            _ => inner.technical.inc(),
        };
    }

    /// Counts one delivery as held until the guard is dropped.
    pub fn held(&self, cause: Cause) -> HeldGuard {
        self.0.held.get_or_create(&label(cause)).inc();
        HeldGuard(self.clone(), cause)
    }

    /// An object or a message was given up for `reason`: its dead letter was published, to the platform's routing key or
    /// to our queue.
    pub fn letter(&self, reason: &'static str, to_platform: bool) {
        let label = CauseLabel { cause: reason };
        self.0.rejected.get_or_create(&label).inc();
        let target = if to_platform { "platform" } else { "own" };
        self.0.letters.get_or_create(&TargetLabel { target }).inc();
    }

    /// The platform took a report, or did not.
    pub fn report(&self, taken: bool) {
        if taken {
            self.0.reports.inc();
        } else {
            self.0.report_failures.inc();
        }
    }

    /// Whether the breaker is open.
    pub fn set_breaker(&self, open: bool) {
        self.0.breaker.set(i64::from(open));
    }

    /// Whether pycti has another version than the platform.
    pub fn set_version_mismatch(&self, mismatch: bool) {
        self.0.version_mismatch.set(i64::from(mismatch));
    }

    /// The metrics under the platform's names, in the text format of OpenMetrics.
    pub fn encode_platform(&self) -> String {
        encode(&self.0.platform)
    }

    /// Our own metrics, in the text format of OpenMetrics.
    pub fn encode_own(&self) -> String {
        encode(&self.0.own)
    }
}

impl Inner {
    fn register_platform(&mut self) {
        let registry = &mut self.platform;
        let counters = [
            ("bundles_global_counter", "Objects processed", &self.objects),
            ("bundles_success_counter", "Objects imported", &self.success),
            (
                "bundles_timeout_error_counter",
                "Connections that failed or took too long",
                &self.timeout,
            ),
            (
                "bundles_timed_out_error_counter",
                "Requests that a proxy gave up (408, 504)",
                &self.timed_out,
            ),
            (
                "bundles_lock_error_counter",
                "Locks held by others",
                &self.lock,
            ),
            (
                "bundles_missing_reference_error_counter",
                "References that were missing and looked for again",
                &self.missing_reference,
            ),
            (
                "bundles_bad_gateway_error_counter",
                "Answers of a proxy in the platform's place",
                &self.bad_gateway,
            ),
            (
                "bundles_technical_error_counter",
                "All other failures",
                &self.technical,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "bundles_missing_reference_retry_attempt_counter",
            "Retries after a missing reference, by their number",
            self.missing_reference_retry.clone(),
        );
        registry.register(
            "bundles_processing_time_gauge",
            "Whole seconds that messages took",
            self.seconds.clone(),
        );
        registry.register(
            "max_ingestion_units",
            "Imports and callbacks that may run at once",
            self.units.clone(),
        );
        registry.register(
            "running_ingestion_units",
            "Imports and callbacks that run now",
            self.running.clone(),
        );
    }

    fn register_own(&mut self) {
        let registry = &mut self.own;
        registry.register("failures", "Failed runs by cause", self.failures.clone());
        registry.register(
            "held",
            "Deliveries that wait in place, by cause",
            self.held.clone(),
        );
        registry.register(
            "rejected",
            "Objects and messages given up, by cause",
            self.rejected.clone(),
        );
        registry.register(
            "dead_letters",
            "Dead letters by target",
            self.letters.clone(),
        );
        registry.register(
            "reports",
            "Reports that the platform took",
            self.reports.clone(),
        );
        registry.register(
            "report_failures",
            "Reports that have to be tried again",
            self.report_failures.clone(),
        );
        registry.register(
            "breaker_open",
            "1 while nothing new is started",
            self.breaker.clone(),
        );
        registry.register(
            "version_mismatch",
            "1 if pycti has another version than the platform",
            self.version_mismatch.clone(),
        );
    }
}

fn label(cause: Cause) -> CauseLabel {
    CauseLabel {
        cause: cause.as_str(),
    }
}

fn encode(registry: &Registry) -> String {
    let mut text = String::new();
    text::encode(&mut text, registry).expect("a string takes all that is written");
    text
}

/// One import or callback that runs.
pub struct Running(Metrics);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.dec();
    }
}

/// One delivery that waits in place.
pub struct HeldGuard(Metrics, Cause);

impl Drop for HeldGuard {
    fn drop(&mut self) {
        self.0.0.held.get_or_create(&label(self.1)).dec();
    }
}

#[cfg(test)]
mod tests;

//! The counts of a simulation's messages.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use tidegate::internal::status::PING_INTERVAL;
use tidegate::internal::status::wire::Kind;

/// Celery's worker events: one heartbeat of each worker in so many seconds.
const CELERY_SECONDS: f64 = 2.0;

/// Messages of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Counted {
    /// How many.
    pub count: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Messages a second.
    pub per_second: f64,
}

/// Messages of a period.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Totals {
    /// States.
    pub state: Counted,
    /// Beats.
    pub beat: Counted,
    /// Drain reports.
    pub drain: Counted,
    /// Answers to commands.
    pub reply: Counted,
}

impl Totals {
    /// Enters a status message.
    pub(crate) fn count(&mut self, kind: Kind, bytes: usize) {
        let counted = match kind {
            Kind::State => &mut self.state,
            Kind::Beat => &mut self.beat,
            Kind::Drain => &mut self.drain,
        };
        counted.enter(bytes);
    }

    /// Enters an answer.
    pub(crate) fn answered(&mut self, bytes: usize) {
        self.reply.enter(bytes);
    }

    /// The messages since `before`, with rates over `time`.
    #[must_use]
    pub(crate) fn since(&self, before: &Self, time: Duration) -> Self {
        Self {
            state: self.state.since(before.state, time),
            beat: self.beat.since(before.beat, time),
            drain: self.drain.since(before.drain, time),
            reply: self.reply.since(before.reply, time),
        }
    }
}

impl Counted {
    fn enter(&mut self, bytes: usize) {
        self.count += 1;
        self.bytes += bytes as u64;
    }

    #[expect(clippy::cast_precision_loss, reason = "for a rate")]
    fn since(self, before: Self, time: Duration) -> Self {
        let count = self.count - before.count;
        let rate = count as f64 / time.as_secs_f64().max(0.001);
        Self {
            count,
            bytes: self.bytes - before.bytes,
            per_second: (rate * 100.0).round() / 100.0,
        }
    }
}

/// The account of a simulation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SimulationReport {
    /// Workers at a time.
    pub workers: usize,
    /// Nodes of each.
    pub nodes: usize,
    /// Mean load.
    pub load: f64,
    /// Control queues.
    pub control_queues: usize,
    /// The time until every worker ran.
    pub starting_ms: u64,
    /// The time for which all workers ran.
    pub duration_ms: u64,
    /// Messages while all workers ran.
    pub sent: Totals,
    /// All messages, with the start and the end.
    pub sent_in_all: Totals,
    /// Workers that crashed.
    pub crashes: u64,
    /// Workers that drained, but for the end.
    pub drains: u64,
    /// Messages that the broker did not confirm.
    pub unconfirmed: u64,
    /// The longest delay of a message: it tells whether this program kept up.
    pub late_ms: u64,
    /// Whether a signal ended it.
    pub stopped: bool,
    /// Messages a second that one ping for each node each 30 s would be.
    pub ping_per_second: f64,
    /// Messages a second that Celery's heartbeats would be: one for each worker each 2 s.
    pub celery_per_second: f64,
}

impl SimulationReport {
    /// Messages a second that pings would be.
    #[expect(clippy::cast_precision_loss, reason = "for a rate")]
    pub(crate) fn pings(workers: usize, nodes: usize) -> f64 {
        (workers * nodes) as f64 / PING_INTERVAL.as_secs_f64()
    }

    /// Messages a second that Celery's heartbeats would be.
    #[expect(clippy::cast_precision_loss, reason = "for a rate")]
    pub(crate) fn celery(workers: usize) -> f64 {
        workers as f64 / CELERY_SECONDS
    }
}

impl fmt::Display for SimulationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Duration::from_millis(self.duration_ms).as_secs_f64();
        writeln!(
            f,
            "{} workers with {} nodes each, load {}, for {seconds:.1} s; {} crashed, {} drained",
            self.workers, self.nodes, self.load, self.crashes, self.drains
        )?;
        for (name, counted) in [
            ("states", self.sent.state),
            ("beats", self.sent.beat),
            ("drain reports", self.sent.drain),
            ("answers", self.sent.reply),
        ] {
            let Counted {
                count,
                bytes,
                per_second,
            } = counted;
            let size = bytes / count.max(1);
            writeln!(
                f,
                "{name:<14} {count:>8}  {per_second:>8.2} a second  {size:>6} B each"
            )?;
        }
        let heartbeats = self.sent.state.per_second + self.sent.beat.per_second;
        writeln!(
            f,
            "states and beats are 1/{:.0} of a ping per node each 30 s ({:.0} a second), and 1/{:.1} of Celery's \
             heartbeats ({:.0} a second)",
            self.ping_per_second / heartbeats.max(0.001),
            self.ping_per_second,
            self.celery_per_second / heartbeats.max(0.001),
            self.celery_per_second,
        )?;
        write!(
            f,
            "{} not confirmed; at worst {} ms late",
            self.unconfirmed, self.late_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_the_time_between() {
        let mut totals = Totals::default();
        totals.count(Kind::State, 100);
        let before = totals;
        for _ in 0..30 {
            totals.count(Kind::Beat, 50);
        }
        totals.answered(10);
        let sent = totals.since(&before, Duration::from_secs(10));
        assert_eq!((sent.state.count, sent.beat.count), (0, 30));
        assert_eq!((sent.beat.bytes, sent.reply.count), (1500, 1));
        assert!((sent.beat.per_second - 3.0).abs() < 1e-9);
    }

    #[test]
    fn what_others_would_send_is_what_they_say() {
        assert!((SimulationReport::pings(5000, 10) - 1666.7).abs() < 0.1);
        assert!((SimulationReport::celery(5000) - 2500.0).abs() < 1e-9);
    }
}

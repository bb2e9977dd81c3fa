//! How often workers send figures.

use std::sync::Arc;
use std::time::Duration;

use super::Fleet;
use super::entry::Entry;
use crate::api::WorkerState;
use crate::clock::Moment;

impl Fleet {
    /// Beats per second that workers promise, by their leases.
    pub fn own_beats_per_second(&self) -> f64 {
        let intervals = self.entries.values().filter_map(Entry::beats_every);
        intervals.map(|interval| 1.0 / interval.as_secs_f64()).sum()
    }

    /// Workers that promise to beat at a shorter interval than this.
    pub fn faster_than(&self, interval: Duration) -> Vec<Arc<str>> {
        let faster = self.entries.iter().filter(|(_, entry)| {
            let own = entry.beats_every();
            own.is_some_and(|own| own < interval)
        });
        faster.map(|(id, _)| Arc::clone(id)).collect()
    }

    /// Workers that beat, and have told no figures since then.
    pub fn without_figures_since(&self, then: Moment) -> Vec<Arc<str>> {
        let without = self.entries.iter().filter(|(_, entry)| {
            let beats = entry.state().is_live() && entry.state() != WorkerState::Draining;
            beats && entry.figures_at().is_none_or(|at| at < then)
        });
        without.map(|(id, _)| Arc::clone(id)).collect()
    }
}

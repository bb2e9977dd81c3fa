//! The drains of the last seven days.

use std::time::Duration;

use super::super::api::Week;
use super::super::clock::Moment;
use super::Fleet;
use tidegate::internal::status::wire::DrainOutcome;

/// The newest reports, of which the ids of interrupted messages are kept.
pub(super) const DETAILED_REPORTS: usize = 1_000;
/// What is looked back on.
pub(super) const WEEK: Duration = Duration::from_hours(7 * 24);
/// How long the figures hold where no drain came or went.
const HOLDS: Duration = Duration::from_secs(60);

/// The figures, and when they were made.
#[derive(Debug, Default)]
pub(super) struct WeekCache(Option<(Moment, Week)>);

impl WeekCache {
    pub(super) fn changed(&mut self) {
        self.0 = None;
    }
}

impl Fleet {
    /// The drains of the week; lost workers are not counted here.
    pub(super) fn week(&mut self, now: Moment) -> Week {
        if let Some((made, week)) = self.week.0
            && now.since(made) < HOLDS
        {
            return week;
        }
        let from = now.before(WEEK);
        let mut week = Week::default();
        let mut durations = Vec::new();
        let of_week = self.drains.iter().rev().take_while(|(at, _)| *at >= from);
        for report in of_week.filter_map(|(_, id)| self.entries.get(id)?.report()) {
            week.drains += 1;
            match report.outcome {
                // Nothing was cut off, and no order of the drain was missed.
                DrainOutcome::Clean | DrainOutcome::Unconfirmed => week.clean += 1,
                DrainOutcome::Interrupted => week.interrupted += 1,
                DrainOutcome::Aborted | DrainOutcome::Failed => week.aborted += 1,
            }
            let cut_off = week.interrupted_deliveries;
            week.interrupted_deliveries = cut_off.saturating_add(report.interrupted);
            week.unconfirmed = week.unconfirmed.saturating_add(report.unconfirmed);
            durations.push(report.duration_ms);
        }
        durations.sort_unstable();
        week.duration_p50_ms = percentile(&durations, 50);
        week.duration_p99_ms = percentile(&durations, 99);
        self.week.0 = Some((now, week));
        week
    }
}

/// The value that `percent` of 100 do not exceed (nearest rank).
fn percentile(sorted: &[u64], percent: usize) -> Option<u64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        assert_eq!(percentile(&[], 50), None);
        assert_eq!(percentile(&[7], 50), Some(7));
        assert_eq!(percentile(&[7], 99), Some(7));
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&hundred, 99), Some(99));
    }
}

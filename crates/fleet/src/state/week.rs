//! The figures of the last seven days. Drains of workers that are still known are counted one by one; of those that
//! were forgotten for want of room, sums by the hour are kept, so that the figures stay whole.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::api::{self, Week};
use super::super::clock::Moment;
use super::Fleet;
use tidegate::internal::status::wire::DrainOutcome;

/// The ids of interrupted messages are kept for this many of the newest reports.
pub(super) const DETAILED_REPORTS: usize = 1_000;
/// The time that the figures cover.
pub(super) const WEEK: Duration = Duration::from_hours(7 * 24);
/// The figures are computed again after this time, even if no drain comes or goes.
const HOLDS: Duration = Duration::from_secs(60);
/// Milliseconds of an hour.
const HOUR_MS: i64 = 3_600_000;
/// Durations in the sums are rounded up to powers of this: a percentile made of them is at most a tenth too large.
const STEP: f64 = 1.1;

/// The figures, and when they were made.
#[derive(Debug, Default)]
pub(super) struct WeekCache(Option<(Moment, Week)>);

impl WeekCache {
    pub(super) fn changed(&mut self) {
        self.0 = None;
    }
}

/// What is left of drains and losses of workers that were forgotten, by the hour in which they ended.
#[derive(Debug, Default)]
pub(super) struct ForgottenEnds(BTreeMap<i64, Sums>);

#[derive(Debug, Default)]
struct Sums {
    week: Week,
    /// How many drains took at most so many steps of [`STEP`].
    durations: BTreeMap<i32, u64>,
}

impl ForgottenEnds {
    /// A worker whose drain is known is forgotten at `now`.
    pub(super) fn drained(&mut self, report: &api::Drain, now: Moment) {
        if let Some(sums) = self.sums(report.at, now) {
            sums.week.add(report);
            *sums.durations.entry(step(report.duration_ms)).or_default() += 1;
        }
    }

    /// A worker that was lost at `at` is forgotten at `now`.
    pub(super) fn lost(&mut self, at: Moment, now: Moment) {
        if let Some(sums) = self.sums(at, now) {
            sums.week.lost += 1;
        }
    }

    fn sums(&mut self, at: Moment, now: Moment) -> Option<&mut Sums> {
        let first = hour(now.before(WEEK));
        self.0 = self.0.split_off(&first);
        (hour(at) >= first).then(|| self.0.entry(hour(at)).or_default())
    }
}

fn hour(at: Moment) -> i64 {
    at.ms().div_euclid(HOUR_MS)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "the logarithm of a u64 is small"
)]
fn step(ms: u64) -> i32 {
    (ms.max(1) as f64).log(STEP).ceil() as i32
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a power of a positive number, rounded, is a u64"
)]
fn milliseconds(step: i32) -> u64 {
    STEP.powi(step).floor() as u64
}

impl Week {
    fn add(&mut self, report: &api::Drain) {
        self.drains += 1;
        *match report.outcome {
            DrainOutcome::Clean => &mut self.clean,
            DrainOutcome::Unconfirmed => &mut self.unconfirmed_drains,
            DrainOutcome::Interrupted => &mut self.interrupted,
            DrainOutcome::Aborted => &mut self.aborted,
            DrainOutcome::Failed => &mut self.failed,
        } += 1;
        self.interrupted_deliveries = self
            .interrupted_deliveries
            .saturating_add(report.interrupted);
        self.unconfirmed = self.unconfirmed.saturating_add(report.unconfirmed);
    }

    /// The figures of both; percentiles are not sums.
    fn and(self, other: &Self) -> Self {
        Self {
            drains: self.drains + other.drains,
            summed: self.summed + other.drains,
            clean: self.clean + other.clean,
            unconfirmed_drains: self.unconfirmed_drains + other.unconfirmed_drains,
            interrupted: self.interrupted + other.interrupted,
            aborted: self.aborted + other.aborted,
            failed: self.failed + other.failed,
            interrupted_deliveries: self
                .interrupted_deliveries
                .saturating_add(other.interrupted_deliveries),
            unconfirmed: self.unconfirmed.saturating_add(other.unconfirmed),
            lost: self.lost + other.lost,
            ..self
        }
    }
}

impl Fleet {
    /// The drains of the week, and the losses of workers that were forgotten; other losses are not counted here.
    pub(super) fn week(&mut self, now: Moment) -> Week {
        if let Some((made, week)) = self.week.0
            && now.since(made) < HOLDS
        {
            return week;
        }
        let from = now.before(WEEK);
        let mut week = Week::default();
        let mut durations = BTreeMap::new();
        let of_week = self.drains.iter().rev().take_while(|(at, _)| *at >= from);
        for report in of_week.filter_map(|(_, id)| self.entries.get(id)?.report()) {
            week.add(report);
            *durations.entry(report.duration_ms).or_default() += 1;
        }
        for (_, sums) in self.forgotten.0.range(hour(from)..) {
            week = week.and(&sums.week);
            for (step, count) in &sums.durations {
                *durations.entry(milliseconds(*step)).or_default() += count;
            }
        }
        week.duration_p50_ms = percentile(&durations, 50);
        week.duration_p99_ms = percentile(&durations, 99);
        self.week.0 = Some((now, week));
        week
    }
}

/// The value that `percent` of 100 do not exceed (nearest rank), of values with how often each occurs.
fn percentile(counted: &BTreeMap<u64, u64>, percent: u64) -> Option<u64> {
    let total: u64 = counted.values().sum();
    let rank = (total * percent).div_ceil(100).max(1);
    let mut before = 0;
    counted
        .iter()
        .find(|(_, count)| {
            before += **count;
            before >= rank
        })
        .map(|(value, _)| *value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(values: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u64> {
        let mut counted = BTreeMap::new();
        for value in values {
            *counted.entry(value).or_default() += 1;
        }
        counted
    }

    #[test]
    fn a_percentile_is_one_of_the_values() {
        assert_eq!(percentile(&counted([]), 50), None);
        assert_eq!(percentile(&counted([7]), 50), Some(7));
        assert_eq!(percentile(&counted([7]), 99), Some(7));
        let hundred = counted(1..=100);
        assert_eq!(percentile(&hundred, 50), Some(50));
        assert_eq!(percentile(&hundred, 99), Some(99));
        assert_eq!(percentile(&counted([3, 3, 9]), 50), Some(3));
    }

    #[test]
    fn a_duration_in_the_sums_is_at_most_a_tenth_too_large() {
        for ms in [0, 1, 2, 10, 120, 25_000, 86_400_000] {
            let kept = milliseconds(step(ms));
            let most = ms.max(1) + ms / 10 + 1;
            assert!((ms..=most).contains(&kept), "{ms} became {kept}");
        }
    }
}

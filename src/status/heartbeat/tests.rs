//! Tests of the heartbeat policy, on paused time and with random histories.

use proptest::prelude::*;

use super::*;

const BUSY: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn heartbeat() -> Heartbeat {
    Heartbeat::new(&HeartbeatSettings {
        busy: BUSY,
        idle: IDLE,
    })
}

fn beat(heartbeat: &mut Heartbeat, now: Instant, unit: f64) -> Promise {
    let promise = heartbeat.promise(now, unit);
    heartbeat.sent(promise);
    promise
}

/// Beats for `lasting` on the paused clock, looking at `load` every second as the publisher does, and says
/// when the beats came.
async fn beats(
    heartbeat: &mut Heartbeat,
    lasting: Duration,
    mut load: impl FnMut(Duration) -> f64,
) -> Vec<Duration> {
    let begin = Instant::now();
    let mut came = Vec::new();
    while begin.elapsed() < lasting {
        heartbeat.observe(load(begin.elapsed()));
        let now = Instant::now();
        if heartbeat.due(now).is_some_and(|due| due <= now) {
            beat(heartbeat, now, rand::random());
            came.push(begin.elapsed());
        }
        let next = heartbeat.due(now).expect("it has not ended");
        tokio::time::sleep_until(next.min(now + SECOND)).await;
    }
    came
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_beats_every_minute_and_a_busy_one_every_ten_seconds() {
    let hour = MINUTE * 60;
    let idle = beats(&mut heartbeat(), hour, |_| 0.0).await.len();
    assert!((57..=64).contains(&idle), "{idle}");
    let busy = beats(&mut heartbeat(), hour, |_| 1.0).await.len();
    assert!((345..=375).contains(&busy), "{busy}");
    let half = beats(&mut heartbeat(), hour, |_| 0.5).await.len();
    assert!((98..=109).contains(&half), "every 35 s: {half}");
}

#[tokio::test(start_paused = true)]
async fn a_sudden_change_is_told_early_but_not_again_and_again() {
    let mut heartbeat = heartbeat();
    let steady = beats(&mut heartbeat, MINUTE * 10, |_| 0.0).await;
    assert!(steady.len() <= 12, "{steady:?}");
    // Every 3 seconds everything changes.
    let storm = beats(&mut heartbeat, MINUTE * 10, |at| {
        f64::from(at.as_secs() / 3 % 2 == 0)
    });
    let storm = storm.await;
    for pair in storm.windows(2) {
        let apart = pair[1].checked_sub(pair[0]).unwrap();
        assert!(apart >= BUSY.mul_f64(0.9), "{apart:?}");
    }
    assert!(storm.len() >= 40, "each change is told soon: {storm:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_becomes_idle_says_so_early() {
    let mut heartbeat = heartbeat();
    heartbeat.observe(0.5);
    let begin = Instant::now();
    beat(&mut heartbeat, begin, 0.5);
    heartbeat.observe(0.0);
    assert_eq!(heartbeat.due(begin), Some(begin + BUSY));
    heartbeat.observe(0.5);
    assert_eq!(
        heartbeat.due(begin),
        Some(begin + Duration::from_secs(35)),
        "what has passed is no news"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cadence_slows_beats_down_until_it_lapses() {
    let mut heartbeat = heartbeat();
    heartbeat.observe(1.0);
    let begin = Instant::now();
    let before = beat(&mut heartbeat, begin, 0.5);
    heartbeat.limit(MINUTE * 2, MINUTE * 30, begin);
    assert_eq!(
        heartbeat.due(begin),
        Some(begin + BUSY),
        "what is promised comes"
    );
    assert_eq!(before.lease, BUSY * 3);
    let slow = beats(&mut heartbeat, MINUTE * 30, |at| {
        f64::from(at.as_secs() / 3 % 2 == 0)
    });
    let slow = slow.await;
    for pair in slow.windows(2) {
        let apart = pair[1].checked_sub(pair[0]).unwrap();
        assert!(apart >= MINUTE * 2, "{apart:?}");
    }
    assert!(slow.len() >= 12, "{slow:?}");
    let fast = beats(&mut heartbeat, MINUTE * 10, |_| 1.0).await;
    assert!(fast.len() >= 54, "it has lapsed: {fast:?}");
}

#[tokio::test(start_paused = true)]
async fn a_renewal_makes_one_beat_due_at_once() {
    let mut heartbeat = heartbeat();
    let begin = Instant::now();
    beat(&mut heartbeat, begin, 0.5);
    let later = begin + SECOND;
    heartbeat.renew();
    assert_eq!(heartbeat.due(later), Some(later));
    beat(&mut heartbeat, later, 0.5);
    assert_eq!(heartbeat.due(later), Some(later + IDLE));
}

#[derive(Debug, Clone)]
enum Step {
    Load(f64),
    Wait(u64),
    Limit(u64, u64),
    Renew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0.0..=1.0_f64).prop_map(Step::Load),
        3 => (0..20_000_u64).prop_map(Step::Wait),
        1 => (1..300_000_u64, 0..600_000_u64).prop_map(|(interval, lasting)| Step::Limit(interval, lasting)),
        1 => Just(Step::Renew),
    ]
}

proptest! {
    /// Whatever happens, the next beat comes well within the lease of the last, and not too soon after it.
    #[test]
    fn a_lease_never_runs_out_and_beats_never_crowd(
        steps in prop::collection::vec((step(), 0.0..1.0_f64), 1..200)
    ) {
        let mut heartbeat = heartbeat();
        let mut now = Instant::now();
        let mut kept: Option<Promise> = None;
        let mut floor = (Duration::ZERO, now);
        for (step, unit) in steps {
            match step {
                Step::Load(load) => heartbeat.observe(load),
                Step::Wait(millis) => now += Duration::from_millis(millis),
                Step::Limit(interval, lasting) => {
                    let interval = Duration::from_millis(interval);
                    let lasting = Duration::from_millis(lasting);
                    heartbeat.limit(interval, lasting, now);
                    floor = (interval, now + lasting);
                }
                Step::Renew => {
                    heartbeat.renew();
                    kept = None;
                }
            }
            let due = heartbeat.due(now).unwrap();
            let Some(last) = kept else {
                prop_assert_eq!(due, now);
                kept = Some(beat(&mut heartbeat, now, unit));
                continue;
            };
            prop_assert!(due <= last.at + last.lease.mul_f64(0.4), "two beats may be lost");
            prop_assert!(due >= last.at + BUSY.mul_f64(0.9 - 1e-9));
            if now < floor.1 && due < last.next {
                prop_assert!(due >= last.at + floor.0, "the cadence holds for what was not promised");
            }
            if due <= now {
                let promise = beat(&mut heartbeat, now, unit);
                prop_assert!(promise.lease >= BUSY * 3);
                prop_assert_eq!(promise.lease, heartbeat.interval(now) * 3);
                kept = Some(promise);
            }
        }
    }

    /// A load that wobbles by less than the hysteresis moves the interval once at most.
    #[test]
    fn a_wobble_does_not_move_the_interval(
        around in 0.0..=1.0_f64,
        wobbles in prop::collection::vec(-0.049..0.049_f64, 2..100)
    ) {
        let mut heartbeat = heartbeat();
        let now = Instant::now();
        let mut intervals = Vec::new();
        for wobble in wobbles {
            heartbeat.observe(around + wobble);
            intervals.push(heartbeat.interval(now));
        }
        intervals.dedup();
        prop_assert!(intervals.len() <= 2, "{intervals:?}");
    }

    /// The interval follows the load, between its bounds.
    #[test]
    fn more_load_never_means_fewer_beats(less in 0.0..=1.0_f64, more in 0.0..=1.0_f64) {
        let now = Instant::now();
        let (less, more) = (less.min(more), less.max(more));
        let interval = |load| {
            let mut heartbeat = heartbeat();
            heartbeat.observe(load);
            heartbeat.interval(now)
        };
        prop_assert!(interval(more) <= interval(less));
        prop_assert!(interval(more) >= BUSY && interval(less) <= IDLE);
    }

    /// Nothing makes a beat due once a drain has begun.
    #[test]
    fn the_end_is_for_good(steps in prop::collection::vec(step(), 0..50)) {
        let mut heartbeat = heartbeat();
        let mut now = Instant::now();
        heartbeat.end();
        for step in steps {
            match step {
                Step::Load(load) => heartbeat.observe(load),
                Step::Wait(millis) => now += Duration::from_millis(millis),
                Step::Limit(interval, lasting) => {
                    heartbeat.limit(Duration::from_millis(interval), Duration::from_millis(lasting), now);
                }
                Step::Renew => heartbeat.renew(),
            }
            prop_assert_eq!(heartbeat.due(now), None);
        }
    }
}

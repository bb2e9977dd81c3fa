//! Tests of the heartbeat policy, on paused time and with random histories.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const BUSY: Duration = Duration::from_mins(5);
const IDLE: Duration = Duration::from_mins(10);
/// What the messages are held against: one ping for each queue in this time.
const PING: Duration = Duration::from_secs(30);

fn heartbeat() -> Heartbeat {
    let settings = HeartbeatSettings::default();
    assert_eq!((settings.busy, settings.idle), (BUSY, IDLE));
    Heartbeat::new(&settings)
}

fn beat(heartbeat: &mut Heartbeat, now: Instant, unit: f64) -> Promise {
    let promise = heartbeat.promise(now, unit);
    heartbeat.sent(promise);
    promise
}

/// Beats for `lasting` on the paused clock. Observes `load` every second, as the publisher does, and returns
/// when the beats came.
async fn beats(
    heartbeat: &mut Heartbeat,
    lasting: Duration,
    mut load: impl FnMut(Duration) -> f64,
) -> Vec<Duration> {
    let begin = Instant::now();
    let mut came = Vec::new();
    while begin.elapsed() < lasting {
        let now = Instant::now();
        heartbeat.observe(load(begin.elapsed()), now);
        if heartbeat.due(now).is_some_and(|due| due <= now) {
            beat(heartbeat, now, rand::random());
            came.push(begin.elapsed());
        }
        let next = heartbeat.due(now).expect("it has not ended");
        tokio::time::sleep_until(next.min(now + SECOND)).await;
    }
    came
}

/// Beats in `lasting` as a share of one ping every 30 s for each of `nodes`.
fn share(beats: usize, nodes: u32, lasting: Duration) -> f64 {
    let beats = u32::try_from(beats).expect("few");
    f64::from(beats) / (f64::from(nodes) * lasting.as_secs_f64() / PING.as_secs_f64())
}

#[tokio::test(start_paused = true)]
async fn nobody_looking_costs_a_hundredth_of_the_pings_of_ten_nodes_and_a_tenth_of_those_of_one() {
    let lasting = MINUTE * 600;
    for busy in [0.0, 0.5, 0.9] {
        // A load that swings around its mean, from one second to the next and from one minute to the next.
        let load = |at: Duration| {
            let slow = (at.as_secs_f64() / 90.0).sin() * 0.05;
            busy * (1.0 + slow) + (rand::random::<f64>() - 0.5) * 0.2
        };
        let mut heartbeat = heartbeat();
        let first = beats(&mut heartbeat, MINUTE, load).await;
        assert_eq!(first.len(), 1, "the start is a beat of its own");
        let count = beats(&mut heartbeat, lasting, load).await.len();
        assert!(share(count, 10, lasting) <= 0.01, "{busy}: {count}");
        assert!(share(count, 1, lasting) <= 0.1, "{busy}: {count}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_worker_beats_every_ten_minutes_and_a_busy_one_every_five() {
    let day = MINUTE * 60 * 24;
    let idle = beats(&mut heartbeat(), day, |_| 0.0).await.len();
    assert!((138..=152).contains(&idle), "{idle}");
    let busy = beats(&mut heartbeat(), day, |_| 1.0).await.len();
    assert!((276..=304).contains(&busy), "{busy}");
    let half = beats(&mut heartbeat(), day, |_| 0.5).await.len();
    assert!((184..=203).contains(&half), "every 7.5 minutes: {half}");
}

#[tokio::test(start_paused = true)]
async fn a_sudden_change_brings_a_beat_forward_once_per_busy_interval() {
    let mut heartbeat = heartbeat();
    beats(&mut heartbeat, IDLE * 3, |_| 0.0).await;
    // Everything changes every two minutes.
    let storm = beats(&mut heartbeat, MINUTE * 240, |at| {
        f64::from(at.as_secs() / 120 % 2 == 0)
    });
    let storm = storm.await;
    for pair in storm.windows(2) {
        let apart = pair[1].checked_sub(pair[0]).expect("in order");
        assert!(apart >= BUSY.mul_f64(0.9), "{apart:?}");
    }
    assert!(storm.len() >= 30, "each change is told soon: {storm:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_becomes_idle_says_so_early() {
    let mut heartbeat = heartbeat();
    let begin = Instant::now();
    heartbeat.observe(0.6, begin);
    beat(&mut heartbeat, begin, 0.5);
    assert_eq!(heartbeat.due(begin), Some(begin + MINUTE * 7));
    heartbeat.observe(0.0, begin + MINUTE * 3);
    assert_eq!(heartbeat.due(begin), Some(begin + BUSY));
    heartbeat.observe(0.6, begin + MINUTE * 6);
    assert_eq!(
        heartbeat.due(begin),
        Some(begin + MINUTE * 7),
        "a change that is over is no news"
    );
}

#[tokio::test(start_paused = true)]
async fn a_requested_pace_is_kept_for_as_long_as_it_is_requested() {
    let mut heartbeat = heartbeat();
    beats(&mut heartbeat, MINUTE * 60, |_| 0.2).await;
    let now = Instant::now();
    assert!(heartbeat.request("fleet", SECOND * 2, MINUTE, now, 0.5));
    let fast = beats(&mut heartbeat, MINUTE, |_| 0.2).await;
    assert!((27..=33).contains(&fast.len()), "{fast:?}");
    assert!(fast[0] <= SECOND, "the first one comes soon: {fast:?}");
    let after = beats(&mut heartbeat, MINUTE * 60, |_| 0.2).await;
    assert!(
        (5..=9).contains(&after.len()),
        "it has ended by itself: {after:?}"
    );
    assert!(after[0] <= SECOND * 3, "a promise is kept: {after:?}");
    let now = Instant::now();
    let promise = heartbeat.promise(now, 0.5);
    assert!(promise.lease >= BUSY * 3, "{promise:?}");
}

#[tokio::test(start_paused = true)]
async fn a_requested_pace_may_be_slower_than_the_worker_s_own() {
    let mut heartbeat = Heartbeat::new(&HeartbeatSettings {
        busy: SECOND,
        idle: SECOND,
    });
    let begin = Instant::now();
    let before = beat(&mut heartbeat, begin, 0.5);
    heartbeat.request("fleet", MINUTE, MINUTE * 30, begin, 0.0);
    assert_eq!(
        heartbeat.due(begin),
        Some(begin + SECOND),
        "what was promised comes"
    );
    assert_eq!(before.lease, SECOND * 3);
    let slow = beats(&mut heartbeat, MINUTE * 30, |_| 1.0).await;
    assert!((26..=34).contains(&slow.len()), "{slow:?}");
}

#[tokio::test(start_paused = true)]
async fn of_two_requested_paces_the_faster_wins_and_each_ends_by_itself() {
    let mut heartbeat = heartbeat();
    let begin = Instant::now();
    beat(&mut heartbeat, begin, 0.5);
    assert!(heartbeat.request("one", SECOND * 2, MINUTE, begin, 0.0));
    assert!(heartbeat.request("two", SECOND * 10, MINUTE * 3, begin, 0.0));
    assert_eq!(heartbeat.interval(begin), SECOND * 2);
    assert_eq!(heartbeat.interval(begin + MINUTE), SECOND * 10);
    assert!(!heartbeat.request("two", SECOND * 10, Duration::ZERO, begin, 0.0));
    assert_eq!(heartbeat.interval(begin + MINUTE), IDLE);
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

/// Five thousand workers that one request makes faster do not all answer at once.
#[test]
fn one_request_to_a_large_fleet_is_answered_within_its_budget() {
    let begin = Instant::now();
    let pace = SECOND * 25;
    let mut fleet: Vec<Heartbeat> = Vec::new();
    for _ in 0..5_000 {
        let mut heartbeat = heartbeat();
        beat(&mut heartbeat, begin, rand::random());
        heartbeat.request("fleet", pace, MINUTE, begin + MINUTE, rand::random());
        fleet.push(heartbeat);
    }
    let now = begin + MINUTE;
    let mut seconds = [0_u32; 25];
    for heartbeat in &fleet {
        let due = heartbeat.due(now).expect("it has not ended");
        let second = due.saturating_duration_since(now).as_secs();
        seconds[usize::try_from(second).expect("small")] += 1;
    }
    assert!(
        seconds.iter().all(|beats| (120..=300).contains(beats)),
        "{seconds:?}"
    );
}

#[derive(Debug, Clone)]
enum Step {
    Load(f64),
    Wait(u64),
    Request(u8, u64, u64),
    Renew,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0.0..=1.0_f64).prop_map(Step::Load),
        3 => (0..200_000_u64).prop_map(Step::Wait),
        1 => (0..3_u8, 1..900_000_u64, 0..600_000_u64)
            .prop_map(|(by, interval, lasting)| Step::Request(by, interval, lasting)),
        1 => Just(Step::Renew),
    ]
}

proptest! {
    /// Whatever happens, the next beat comes well within the lease of the last one, and not too soon after it.
    #[test]
    fn a_lease_never_runs_out_and_beats_never_crowd(
        steps in prop::collection::vec((step(), 0.0..1.0_f64), 1..200)
    ) {
        let mut heartbeat = heartbeat();
        let mut now = Instant::now();
        let mut kept: Option<Promise> = None;
        for (step, unit) in steps {
            match step {
                Step::Load(load) => heartbeat.observe(load, now),
                Step::Wait(millis) => {
                    // Nobody waits beyond the moment that a beat is due.
                    let until = now + Duration::from_millis(millis);
                    now = heartbeat.due(now).map_or(until, |due| due.max(now).min(until));
                }
                Step::Request(by, interval, lasting) => {
                    let (interval, lasting) = (Duration::from_millis(interval), Duration::from_millis(lasting));
                    heartbeat.request(&by.to_string(), interval, lasting, now, unit);
                }
                Step::Renew => {
                    heartbeat.renew();
                    kept = None;
                }
            }
            let due = heartbeat.due(now).expect("it has not ended");
            let Some(last) = kept else {
                prop_assert_eq!(due, now);
                kept = Some(beat(&mut heartbeat, now, unit));
                continue;
            };
            prop_assert!(due <= last.at + last.lease.mul_f64(0.4), "two beats may be lost");
            prop_assert!(due >= last.at + FASTEST_PACE.mul_f64(0.9 - 1e-9));
            if due <= now {
                let promise = beat(&mut heartbeat, now, unit);
                prop_assert_eq!(promise.lease, heartbeat.interval(now) * 3);
                kept = Some(promise);
            }
        }
    }

    /// A load that wobbles by less than the hysteresis moves the interval once at most.
    #[test]
    fn a_wobble_does_not_move_the_interval(
        around in 0.0..=1.0_f64,
        wobbles in prop::collection::vec(-0.024..0.024_f64, 2..100)
    ) {
        let mut heartbeat = heartbeat();
        let now = Instant::now();
        let mut intervals = Vec::new();
        for (wobble, minute) in wobbles.into_iter().zip(0..) {
            heartbeat.observe(around + wobble, now + MINUTE * minute);
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
            heartbeat.observe(load, now);
            heartbeat.interval(now)
        };
        prop_assert!(interval(more) <= interval(less));
        prop_assert!(interval(more) >= BUSY && interval(less) <= IDLE);
    }

    /// Nothing makes a beat due once a drain has begun.
    #[test]
    fn the_end_is_final(steps in prop::collection::vec(step(), 0..50)) {
        let mut heartbeat = heartbeat();
        let mut now = Instant::now();
        heartbeat.end();
        for step in steps {
            match step {
                Step::Load(load) => heartbeat.observe(load, now),
                Step::Wait(millis) => now += Duration::from_millis(millis),
                Step::Request(by, interval, lasting) => {
                    let (interval, lasting) = (Duration::from_millis(interval), Duration::from_millis(lasting));
                    heartbeat.request(&by.to_string(), interval, lasting, now, 0.5);
                }
                Step::Renew => heartbeat.renew(),
            }
            prop_assert_eq!(heartbeat.due(now), None);
        }
    }
}

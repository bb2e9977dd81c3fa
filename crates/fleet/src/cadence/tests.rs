//! Tests of the requests for beats.

use super::*;

fn at(s: i64) -> Moment {
    Moment::from_ms(s * 1_000)
}

fn id(number: usize) -> Arc<str> {
    format!("w-{number:04}").into()
}

fn everything() -> Demand {
    Demand {
        all: true,
        ..Demand::default()
    }
}

fn screen(workers: usize) -> Demand {
    Demand {
        all: true,
        workers: (0..workers).map(id).collect(),
    }
}

fn cadence() -> Cadence {
    Cadence::new("fleet-1".to_owned(), 200)
}

/// The interval and the duration of each request, in seconds, and for how many single workers or whether for all.
fn plain(requests: &[PaceRequest]) -> Vec<(bool, f64, u64)> {
    let requests = requests
        .iter()
        .map(|pace_request| match &pace_request.command {
            Command::Cadence {
                interval_ms,
                for_ms,
                ..
            } => {
                let interval = f64::from(u32::try_from(*interval_ms).expect("small")) / 1_000.0;
                (pace_request.worker.is_none(), interval, for_ms / 1_000)
            }
            other => panic!("{other:?}"),
        });
    requests.collect()
}

#[test]
fn nobody_is_asked_while_nobody_looks() {
    let mut cadence = cadence();
    for second in 0..1_000 {
        let requests = cadence.due(&Demand::default(), 5_000, &[id(1)], at(second));
        assert!(requests.is_empty(), "{requests:?}");
    }
}

#[test]
fn a_look_at_a_fleet_of_200_is_asked_for_renewed_and_ended() {
    let mut cadence = cadence();
    let begun = cadence.due(&everything(), 200, &[], at(0));
    assert_eq!(plain(&begun), [(true, 1.25, 60)]);
    for second in 1..25 {
        assert!(cadence.due(&everything(), 200, &[], at(second)).is_empty());
    }
    let renewed = cadence.due(&everything(), 200, &[], at(25));
    assert_eq!(renewed, begun, "by the same requester");
    let ended = cadence.due(&Demand::default(), 200, &[], at(30));
    assert_eq!(plain(&ended), [(true, 1.25, 0)]);
    assert!(cadence.due(&Demand::default(), 200, &[], at(31)).is_empty());
}

#[test]
fn a_new_worker_is_asked_alone() {
    let mut cadence = cadence();
    cadence.due(&everything(), 50, &[], at(0));
    let requests = cadence.due(&everything(), 51, &[id(7)], at(10));
    assert_eq!(plain(&requests), [(false, 1.25, 60)]);
    assert_eq!(requests[0].worker, Some(id(7)));
}

#[test]
fn a_large_fleet_keeps_within_its_budget_and_what_is_on_the_screen_comes_first() {
    let mut cadence = cadence();
    let requests = cadence.due(&screen(50), 5_000, &[], at(0));
    let requests = plain(&requests);
    assert_eq!(requests.len(), 51);
    let (all, all_interval, _) = requests[0];
    assert!(
        all && (28.0..29.0).contains(&all_interval),
        "{all_interval}"
    );
    assert!(
        requests[1..]
            .iter()
            .all(|request| *request == (false, 2.0, 60))
    );
    let beats = 5_000.0 / all_interval + 50.0 / 2.0;
    assert!(beats <= 201.0, "{beats} beats a second");
    // Another part of the list is on the screen.
    let mut scrolled = screen(50);
    scrolled.workers.remove(&id(0));
    scrolled.workers.insert(id(999));
    let requests = cadence.due(&scrolled, 5_000, &[], at(1));
    let told: Vec<_> = requests
        .iter()
        .map(|pace_request| pace_request.worker.clone())
        .collect();
    assert_eq!(told, [Some(id(0)), Some(id(999))]);
    assert_eq!(self::plain(&requests), [(false, 2.0, 0), (false, 2.0, 60)]);
}

#[test]
fn even_the_smallest_budget_is_kept() {
    let mut cadence = Cadence::new("fleet-1".to_owned(), 1);
    let requests = cadence.due(&screen(4), 100, &[], at(0));
    let requests = plain(&requests);
    let beats: f64 = 100.0 / requests[0].1 + 4.0 / requests[1].1;
    assert!((beats - 1.0).abs() < 0.01, "{beats}");
}

#[test]
fn one_worker_in_detail_is_all_that_is_asked() {
    let mut cadence = cadence();
    let mut detail = screen(1);
    detail.all = false;
    let requests = cadence.due(&detail, 5_000, &[], at(0));
    assert_eq!(plain(&requests), [(false, 1.25, 60)]);
    let requests = cadence.due(&Demand::default(), 5_000, &[], at(9));
    assert_eq!(plain(&requests), [(false, 1.25, 0)]);
}

#[test]
fn a_fleet_that_grows_is_asked_for_another_pace_but_not_at_once() {
    let mut cadence = cadence();
    cadence.due(&everything(), 1_000, &[], at(0));
    assert!(cadence.due(&everything(), 2_000, &[], at(4)).is_empty());
    let requests = cadence.due(&everything(), 2_000, &[], at(5));
    assert_eq!(plain(&requests), [(true, 10.0, 60)]);
    assert!(cadence.due(&everything(), 2_200, &[], at(20)).is_empty());
}

#[test]
fn on_a_new_connection_everybody_is_asked_by_a_new_requester() {
    let mut cadence = cadence();
    let before = cadence.due(&everything(), 10, &[], at(0));
    cadence.forget();
    let after = cadence.due(&everything(), 10, &[], at(1));
    assert_eq!(plain(&before), plain(&after));
    assert_ne!(before, after, "their first beats must be full");
    assert_eq!(plain(&cadence.end()), [(true, 1.25, 0)]);
}

#[test]
fn workers_that_beat_faster_than_the_budget_allows_are_asked_to_slow_down() {
    let mut cadence = cadence();
    let fast = |interval: Duration| {
        assert_eq!(interval, Duration::from_secs(20));
        (0..150).map(id).collect::<Vec<_>>()
    };
    assert!(
        cadence.slow(5_000, 199.0, fast, at(0)).is_empty(),
        "within the budget"
    );
    let requests = cadence.slow(5_000, 500.0, fast, at(1));
    assert_eq!(requests.len(), REQUESTS_LIMIT);
    assert_eq!(plain(&requests)[0], (false, 25.0, 600));
    assert_eq!(
        cadence.slow(5_000, 500.0, fast, at(2)).len(),
        50,
        "the rest"
    );
    assert!(
        cadence.slow(5_000, 500.0, fast, at(3)).is_empty(),
        "they have time"
    );
    assert!(
        cadence.slow(199, 500.0, fast, at(100)).is_empty(),
        "a small fleet may"
    );
    cadence.due(&everything(), 5_000, &[], at(110));
    assert!(
        cadence.slow(5_000, 500.0, fast, at(120)).is_empty(),
        "leases are of a look"
    );
}

//! The fleet in a terminal.

use console::{measure_text_width, strip_ansi_codes};

use super::*;
use tidegate::lifecycle::Phase;
use tidegate_fleet::api::{Figures, Node, Overview};

fn worker(name: &str, state: WorkerState) -> Worker {
    let node = Node {
        queue: "orders".into(),
        title: None,
        note: None,
        kind: None,
        handler: "http".into(),
        slots: 8,
        prefetch: 16,
        phase: Phase::Running,
        in_flight: 3,
        held: 0,
        oldest_ms: 812,
        done: 1041,
        retried: 2,
        dead: 1,
        handed_back: 0,
        interrupted: 0,
        rate: Some(31.25),
        failing: None,
    };
    Worker {
        id: format!("{name}-01KB3XQ6ZP8Y2M4N5R7S9T0V1W").into(),
        name: name.into(),
        state,
        since: Moment::from_ms(0),
        reason: None,
        note: None,
        host: None,
        pid: None,
        version: None,
        started_at: None,
        last_heard: Moment::from_ms(50_000),
        lease: None,
        load: Some(0.375),
        figures: Some(Figures {
            at: Moment::from_ms(59_000),
            age_ms: 1_000,
        }),
        deadline_at: None,
        nodes: vec![node],
        nodes_left_out: 0,
        drain: None,
    }
}

fn picture(workers: Vec<Worker>) -> FleetSnapshot {
    let mut summary = Overview::default();
    for worker in &workers {
        *summary.workers.of(worker.state) += 1;
    }
    (
        summary.nodes,
        summary.slots,
        summary.in_flight,
        summary.rate,
    ) = (2, 16, 6, 62.5);
    FleetSnapshot {
        at: Moment::from_ms(60_000),
        log: true,
        connected: true,
        problem: None,
        summary,
        workers,
        left_out: 0,
    }
}

#[test]
fn a_narrow_terminal_shows_how_workers_are() {
    let workers = vec![
        worker("web-2", WorkerState::Lost),
        worker("web-1", WorkerState::Running),
    ];
    let lines = lines(&picture(workers), Some(80), false);
    assert_eq!(
        lines,
        [
            "1 live  1 running, 1 lost",
            "2 nodes, 6 of 16 slots taken, 62.5 done a second",
            "",
            "name   state    for  load  running  oldest    rate  as of  id",
            "web-2  lost     60s     -        -       -       -      -  web-2-01KB3XQ6ZP8Y2M…",
            "web-1  running  60s  38 %      3/8  812 ms  31.2/s    now  web-1-01KB3XQ6ZP8Y2M…",
        ]
    );
}

#[test]
fn deliveries_on_hold_stand_beside_those_that_run() {
    let mut holding = worker("web-1", WorkerState::Running);
    holding.nodes[0].held = 2;
    let lines = lines(&picture(vec![holding]), Some(80), false);
    assert!(lines[4].contains("  3/8, 2 held  "), "{}", lines[4]);
}

#[test]
fn a_wide_terminal_shows_what_they_have_done() {
    let mut draining = worker("web-1", WorkerState::Draining);
    draining.reason = Some("deploy\u{1b}[2J 42".into());
    let lines = lines(&picture(vec![draining]), Some(160), false);
    let [heading, row] = &lines[3..] else {
        panic!("{lines:?}");
    };
    assert_eq!(
        heading.split_whitespace().collect::<Vec<_>>().join(" "),
        "name state for load running oldest rate as of done retried dead heard reason id"
    );
    for part in [
        "  1041        2     1    10s  deploy\u{fffd}[2J 42  ",
        "web-1-01KB3XQ6ZP8Y2M4N5R7S9T0V1W",
    ] {
        assert!(row.contains(part), "{row}");
    }
}

#[test]
fn no_line_is_wider_than_the_terminal_and_colours_change_no_width() {
    let workers: Vec<Worker> = (0..30)
        .map(|n| {
            worker(
                &format!("a-rather-long-name-of-a-worker-{n}"),
                WorkerState::Paused,
            )
        })
        .collect();
    let picture = picture(workers);
    for width in [80, 100, 160] {
        let coloured = lines(&picture, Some(width), true);
        let plain = lines(&picture, Some(width), false);
        assert!(
            coloured
                .iter()
                .any(|line| line.contains("\u{1b}[33mpaused"))
        );
        for (coloured, plain) in coloured.iter().zip(&plain) {
            assert_eq!(strip_ansi_codes(coloured), *plain);
            assert!(measure_text_width(plain) <= width, "{plain}");
        }
    }
}

#[test]
fn what_is_missing_is_said() {
    let mut picture = picture(Vec::new());
    picture.log = false;
    picture.left_out = 7;
    let text = lines(&picture, Some(80), false).join("\n");
    for part in [
        "0 live  no worker is known",
        "there is no log",
        "7 that ended",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn if_workers_cannot_be_asked_nothing_is_claimed_about_them() {
    let alarm = "the broker is in an alarm";
    let blocked = |workers| FleetSnapshot {
        connected: false,
        problem: Some(alarm.to_owned()),
        ..picture(workers)
    };
    let unknown = lines(&blocked(Vec::new()), None, false);
    assert_eq!(
        unknown,
        ["workers cannot be asked, and may run: the broker is in an alarm"]
    );
    let known = lines(
        &blocked(vec![worker("web-1", WorkerState::Running)]),
        None,
        false,
    );
    let text = known.join("\n");
    assert!(text.starts_with("1 live  1 running\n"), "{text}");
    assert!(text.contains("the last known state: the broker is in an alarm"));
}

#[test]
fn figures_that_are_old_say_so() {
    let mut old = worker("web-1", WorkerState::Running);
    old.figures = Some(Figures {
        at: Moment::from_ms(0),
        age_ms: 300_000,
    });
    let mut picture = picture(vec![old, worker("web-2", WorkerState::Running)]);
    picture.summary.figures_age_ms = Some(300_000);
    let lines = lines(&picture, None, false).join("\n");
    assert!(lines.contains("figures up to 5m old"), "{lines}");
    let row = |name: &str| {
        lines
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap()
            .to_owned()
    };
    assert!(row("web-1").contains("5m ago"), "{lines}");
    assert!(row("web-2").contains("now"), "{lines}");
}

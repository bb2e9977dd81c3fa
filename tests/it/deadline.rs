//! Drains that cannot wait: the deadline, and the second signal.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::gate::Gate;
use crate::harness::status::StatusTap;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

#[tokio::test(flavor = "multi_thread")]
async fn what_still_runs_at_the_deadline_is_handed_back_and_counted() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 6).await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Gate::closed().await;
    let config =
        WorkerConfig::for_orders(vhost.url(), &gate, "concurrency = 3\nprefetch = 4").grace("1s");
    let mut worker = Worker::ready(&config).await;
    gate.started(3).await;
    gate.release_id("1");
    gate.started(4).await;
    worker.terminate();
    let report = worker.ended_with(3).await;
    assert_eq!(report.text("outcome"), "interrupted");
    assert_eq!(report.number("interrupted"), 3);
    assert!(report.number("duration_ms") >= 1000);
    let message = tap.drain().await.json;
    assert_eq!(message["outcome"], "interrupted");
    let mut ids: Vec<_> = message["interrupted_ids"].as_array().unwrap().clone();
    ids.sort_by_key(ToString::to_string);
    assert_eq!(ids, ["0", "2", "3"]);
    let mut left = vhost.take_ids("orders").await;
    left.sort();
    assert_eq!(left, ["0", "2", "3", "4", "5"]);
}

/// A command that ignores SIGTERM, and so does its child; both write their process ids into `$PIDS`.
const STUBBORN: &str = r#"handler = { exec = { command = ["sh", "-c", "trap '' TERM; (trap '' TERM; sleep 600) & echo $$ $! >> $PIDS; wait"], env = { PIDS = "@" } } }"#;

async fn stubborn(vhost: &Vhost, grace: &str, pids: &std::path::Path) -> (Worker, Vec<Pid>) {
    vhost.declare("orders", "classic").await;
    vhost.publish("orders", 2).await;
    let handler = STUBBORN.replace('@', pids.to_str().unwrap());
    let config = WorkerConfig::new(vhost.url()).grace(grace).node(
        "orders",
        &format!("declare = false\nconcurrency = 2\nretry = {{ max_attempts = 1 }}\n{handler}"),
    );
    let worker = Worker::ready(&config).await;
    let written = eventually("both commands run", async || {
        let text = std::fs::read_to_string(pids).unwrap_or_default();
        let written: Vec<Pid> = text
            .split_whitespace()
            .map(|pid| Pid::from_raw(pid.parse().unwrap()))
            .collect();
        expect_that(written.len() == 4, || text).map(|()| written)
    })
    .await;
    (worker, written)
}

async fn gone(pids: &[Pid]) {
    eventually("the whole groups are gone", async || {
        let alive: Vec<_> = pids
            .iter()
            .filter(|pid| kill(**pid, None).is_ok())
            .collect();
        expect_that(alive.is_empty(), || format!("{alive:?} live"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_ignore_sigterm_do_not_outlive_the_deadline() {
    let vhost = Vhost::new().await;
    let directory = tempfile::tempdir().unwrap();
    let (mut worker, pids) = stubborn(&vhost, "1s", &directory.path().join("pids")).await;
    worker.terminate();
    let report = worker.ended_with(3).await;
    assert_eq!(report.number("interrupted"), 2);
    gone(&pids).await;
    vhost.until_ready("orders", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_aborts_and_hands_back_what_is_in_flight() {
    let vhost = Vhost::new().await;
    let directory = tempfile::tempdir().unwrap();
    let (mut worker, pids) = stubborn(&vhost, "600s", &directory.path().join("pids")).await;
    worker.signal(Signal::SIGINT);
    worker.logged("drain begins").await;
    // Signals within a tenth of a second count as one.
    let first = std::time::Instant::now();
    eventually("the first signal is a while ago", async || {
        let ago = first.elapsed();
        expect_that(ago > Duration::from_millis(200), || format!("{ago:?}"))
    })
    .await;
    worker.terminate();
    let report = worker.ended_with(4).await;
    assert_eq!(report.text("outcome"), "aborted");
    assert_eq!(report.text("reason"), "SIGINT");
    assert_eq!(report.number("interrupted"), 2);
    gone(&pids).await;
    vhost.until_ready("orders", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_signals_at_once_end_a_worker_that_has_nothing_to_do() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "");
    let mut worker = Worker::ready(&config).await;
    worker.terminate();
    worker.terminate();
    let ended = worker.ended().await;
    // The second may come when everything is over already.
    assert!(matches!(ended.code, Some(0 | 4)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_out_cancels_the_handler_and_retries() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 1).await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::new(vhost.url()).declaring_node(
        "orders",
        "quorum",
        &gate.url(),
        "timeout = \"200ms\"\nretry = { min = \"10ms\", max = \"20ms\" }",
    );
    let mut worker = Worker::ready(&config).await;
    gate.started(2).await;
    let retry = worker.logged("retry").await;
    assert_eq!(retry.text("reason"), "timeout");
    assert_eq!(
        retry.text("error"),
        "the handler did not finish within 200ms"
    );
    gate.release_all();
    eventually("the message is done", async || {
        expect_that(gate.answered() > 0, || "no answer yet".to_owned())
    })
    .await;
    let report = worker.drained().await;
    assert!(Duration::from_millis(report.number("duration_ms")) < Duration::from_secs(60));
    assert_eq!(vhost.ready("orders").await, 0);
}

//! Children of a worker under signals, sudden death and shortage.

use std::path::Path;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::process::Command;

use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

/// Starts a worker with `config` from a shell that says `before` first.
fn from_shell(before: &str, config: &WorkerConfig, directory: &TempDir) -> Command {
    let file = directory.path().join("worker.toml");
    std::fs::write(&file, config.toml()).unwrap();
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{before}; exec \"$0\" \"$@\"")])
        .arg(env!("CARGO_BIN_EXE_tidegate"))
        .args(["--log-format", "json", "worker", "--config"])
        .arg(file);
    command
}

fn exec(vhost: &Vhost, script: &str, lines: &str) -> WorkerConfig {
    let handler = toml::Value::String(script.to_owned());
    WorkerConfig::new(vhost.url()).node(
        "orders",
        &format!(
            "handler = {{ exec = {{ command = [\"sh\", \"-c\", {handler}] }} }}\ndeclare = false\n\
             retry = {{ max_attempts = 1 }}\n{lines}"
        ),
    )
}

/// The value of the metric line that begins with `name`; 0 without it.
async fn metric(worker: &Worker, name: &str) -> f64 {
    let (_, text) = worker.get("/metrics").await.unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0.0)
}

async fn all_done(worker: &Worker, count: f64) {
    let done = r#"tidegate_deliveries_total{queue="orders",outcome="done"}"#;
    eventually("every message is done", async || {
        let value = metric(worker, done).await;
        let dead = r#"tidegate_deliveries_total{queue="orders",outcome="dead"}"#;
        assert!(metric(worker, dead).await == 0.0, "{}", worker.log().text());
        #[expect(clippy::float_cmp, reason = "counters are whole numbers")]
        let all = value == count;
        expect_that(all, || format!("{value} of {count}"))
    })
    .await;
}

async fn pid_in(file: &Path) -> Pid {
    let text = eventually("the child has begun", async || {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.ends_with('\n')
            .then(|| text.clone())
            .ok_or_else(|| format!("{text:?}"))
    })
    .await;
    Pid::from_raw(text.trim().parse().unwrap())
}

async fn gone(pid: Pid) {
    eventually("the child is gone", async || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let ended = stat.is_empty() || stat.contains(") Z ") || kill(pid, None).is_err();
        expect_that(ended, || stat)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_takes_its_children_with_it() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 1).await;
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("pid");
    let theirs = directory.path().join("theirs");
    // The second is a child's child in a session of its own.
    let script = format!(
        "setsid sh -c 'echo $$ > {}; sleep 1000; :' & echo $$ > {}; wait",
        theirs.display(),
        file.display()
    );
    let mut worker = Worker::ready(&exec(&vhost, &script, "concurrency = 1")).await;
    let processes = [pid_in(&file).await, pid_in(&theirs).await];
    for process in processes {
        kill(process, None).unwrap();
    }
    worker.kill().await;
    for process in processes {
        gone(process).await;
    }
    vhost.until_ready("orders", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_child_leaves_behind_outlives_a_worker_that_ends_in_order() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 1).await;
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("pid");
    let script = format!(
        "setsid sh -c 'echo $$ > {}; exec sleep 1000' > /dev/null 2>&1 < /dev/null &",
        file.display()
    );
    let mut worker = Worker::ready(&exec(&vhost, &script, "concurrency = 1")).await;
    let left = pid_in(&file).await;
    all_done(&worker, 1.0).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    eventually("the keeper has ended", async || {
        let marks = processes("tidegate-keeper");
        expect_that(!marks.contains(&worker_mark(left)), || marks.join("\n"))
    })
    .await;
    kill(left, Signal::SIGKILL).unwrap();
}

/// The mark that a child's child has from its worker.
fn worker_mark(pid: Pid) -> String {
    let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let mut variables = environment.split('\0');
    let mark = variables.find(|variable| variable.starts_with("TIDEGATE_PROCESS="));
    mark.unwrap().to_owned()
}

/// The last argument of each process that has `word` among its arguments.
fn processes(word: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let line = std::fs::read_to_string(entry.unwrap().path().join("cmdline"));
        let line = line.unwrap_or_default();
        let arguments: Vec<_> = line.trim_end_matches('\0').split('\0').collect();
        if arguments.contains(&word) {
            found.extend(arguments.last().map(|&last| last.to_owned()));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_enough_descriptors_fails_no_message() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    vhost.publish("orders", 60).await;
    let config = exec(&vhost, "sleep 0.3", "concurrency = 60\nprefetch = 60");
    let directory = TempDir::new().unwrap();
    // Both limits, so that the worker cannot raise the soft one.
    let worker = Worker::run(from_shell("ulimit -n 80", &config, &directory));
    worker.until_ready().await;
    all_done(&worker, 60.0).await;
    let refused = metric(&worker, "tidegate_runs_not_begun_total").await;
    assert!(refused > 0.0, "the test must run short of descriptors");
    let warned = worker.log().text();
    assert!(warned.contains("the worker lacks something"), "{warned}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_inherits_odd_signals_and_closed_descriptors_works() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    vhost.publish("orders", 20).await;
    let config = exec(
        &vhost,
        "test \"$(cat)\" && echo words && echo words >&2",
        "concurrency = 4",
    );
    let directory = TempDir::new().unwrap();
    // An ignored SIGCHLD would lose every exit code; a closed stdin would be the first pipe.
    let before = "trap '' CHLD HUP USR1 PIPE; exec <&-";
    let mut worker = Worker::run(from_shell(before, &config, &directory));
    worker.until_ready().await;
    all_done(&worker, 20.0).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_that_came_before_the_program_ends_it() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let config = exec(&vhost, "exit 0", "concurrency = 1");
    let directory = TempDir::new().unwrap();
    // It waits, blocked, while the process becomes the worker.
    let waiting = "exec python3 -c 'import os, signal, sys\n\
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n\
        os.kill(os.getpid(), signal.SIGTERM)\n\
        os.execv(sys.argv[1], sys.argv[1:])' \"$0\" \"$@\"";
    let mut worker = Worker::run(from_shell(waiting, &config, &directory));
    assert_eq!(worker.ended().await.code, Some(0));
    // It drains, or it ends before it has read its configuration.
    let log = worker.log().text();
    assert!(log.contains("SIGTERM"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ctrl_c_in_the_terminal_reaches_no_child_even_while_it_starts() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    vhost.publish("orders", 2_000).await;
    let config = exec(&vhost, "exit 0", "concurrency = 8\nprefetch = 8");
    let directory = TempDir::new().unwrap();
    let mut command = from_shell(":", &config, &directory);
    command.process_group(0);
    let mut worker = Worker::run(command);
    worker.until_ready().await;
    eventually("children come and go", async || {
        // A signal that the worker ignores and that ends its children: many, so that some meet a child as it starts.
        for _ in 0..2_000 {
            killpg(worker.pid(), Signal::SIGUSR1).unwrap();
        }
        let done = r#"tidegate_deliveries_total{queue="orders",outcome="done"}"#;
        let value = metric(&worker, done).await;
        expect_that(value > 200.0, || format!("{value}"))
    })
    .await;
    // As a terminal does it: to every process of the group.
    killpg(worker.pid(), Signal::SIGINT).unwrap();
    let report = worker.ended_with(0).await;
    assert_eq!(report.text("outcome"), "clean");
    let log = worker.log().text();
    assert!(!log.contains("killed by"), "{log}");
}

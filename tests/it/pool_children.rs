//! The `pool` handler in a worker: children that are killed, and a drain.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

/// A child that notes each delivery's body in `done`, and its own pid in `pids`.
const SCRIPT: &str = r#"
    echo $$ >> pids
    while read -r line; do
        id=${line#*\"id\":\"}; id=${id%%\"*}
        body=${line#*\"body_base64\":\"}; body=${body%%\"*}
        sleep 0.01
        echo "$body" >> done
        echo "{\"id\":\"$id\",\"outcome\":\"done\"}"
    done"#;

fn config(vhost: &Vhost, directory: &TempDir) -> WorkerConfig {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    WorkerConfig::new(vhost.url()).node(
        "orders",
        &format!(
            "concurrency = 4\nretry = {{ max_attempts = 9, min = \"100ms\", max = \"100ms\" }}\n\
             [node.handler.pool]\ncommand = [\"sh\", \"-c\", {}]\ndirectory = {}\nsize = 4\nwarm = true",
            quoted(SCRIPT),
            quoted(directory.path().to_str().unwrap())
        ),
    )
}

fn lines(directory: &TempDir, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(directory.path().join(name)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// How many children are killed: `TIDEGATE_TEST_KILLS`.
fn kills() -> usize {
    let kills = std::env::var("TIDEGATE_TEST_KILLS");
    kills.map_or(8, |text| text.parse().expect("a number of kills"))
}

/// About what four children do in a second.
const BETWEEN_KILLS: usize = 300;

/// The children that live now.
fn alive(directory: &TempDir) -> Vec<Pid> {
    let pids = lines(directory, "pids").into_iter();
    let pids = pids.map(|pid| Pid::from_raw(pid.parse().unwrap()));
    pids.filter(|pid| kill(*pid, None).is_ok()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn children_that_are_killed_lose_nothing_and_repeat_at_most_their_own_delivery() {
    let kills = kills();
    let messages = (kills + 1) * BETWEEN_KILLS;
    let vhost = Vhost::new().await;
    let directory = TempDir::new().unwrap();
    let mut worker = Worker::ready(&config(&vhost, &directory)).await;
    vhost.publish("orders", messages).await;
    for number in 1..=kills {
        eventually("the work goes on", async || {
            let done = lines(&directory, "done").len();
            expect_that(done >= number * BETWEEN_KILLS, || format!("{done}"))
        })
        .await;
        // Each child in turn, and with it what it works on.
        let alive = alive(&directory);
        let victim = alive[number % alive.len()];
        // It may have ended by now, which harms nobody.
        let _ = kill(victim, Signal::SIGKILL);
    }
    eventually("every message is done", async || {
        let mut done = lines(&directory, "done");
        done.sort();
        done.dedup();
        expect_that(done.len() == messages, || format!("{}", done.len()))
    })
    .await;
    worker.drained().await;
    let runs = lines(&directory, "done").len();
    assert!(runs <= messages + kills, "{runs} runs, {kills} kills");
    vhost.until_ready("orders", 0).await;
    for pid in lines(&directory, "pids") {
        let pid = Pid::from_raw(pid.parse().unwrap());
        assert!(kill(pid, None).is_err(), "child {pid} is left");
    }
}

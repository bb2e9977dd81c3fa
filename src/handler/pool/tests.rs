//! The `pool` handler with real children.

mod fuzz;
mod misbehaving;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use tempfile::TempDir;

use super::*;
use crate::config::{ChildPoolSettings, ExecSettings, PoolChannel};
use crate::handler::testing::{self, eventually};

/// What every script begins with: `next` reads a request and its id, `answer` answers it.
const PRELUDE: &str = r#"
    next() { read -r line || exit 0; id=${line#*\"id\":\"}; id=${id%%\"*}; }
    answer() { echo "{\"id\":\"$id\",\"outcome\":\"$1\"$2}"; }
    echo $$ >> pids
"#;

/// A handler whose children run a script in a directory of their own.
struct Pool {
    handler: Arc<PoolHandler>,
    directory: TempDir,
}

fn pool(script: &str, change: impl FnOnce(&mut ChildPoolSettings)) -> Pool {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = ChildPoolSettings {
        command: ExecSettings {
            command: ["sh", "-c", &format!("{PRELUDE}\n{script}")]
                .map(str::to_owned)
                .to_vec(),
            directory: Some(directory.path().to_owned()),
            env: BTreeMap::new(),
        },
        size: None,
        warm: false,
        channel: PoolChannel::Stdio,
        max_deliveries: None,
        max_rss: None,
    };
    change(&mut settings);
    Pool {
        handler: Arc::new(PoolHandler::new(&settings).unwrap()),
        directory,
    }
}

impl Pool {
    async fn send(&self, body: impl Into<Bytes>) -> Outcome {
        let delivery = testing::delivery(body).send();
        self.handler.handle(delivery, testing::context()).await
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// The process ids of all children so far.
    fn pids(&self) -> Vec<Pid> {
        let text = self.read("pids");
        let pids = text.lines().map(|pid| pid.parse().unwrap());
        pids.map(Pid::from_raw).collect()
    }

    /// The one child's process id, once it has begun.
    async fn pid(&self) -> Pid {
        eventually("a child has begun", || self.read("pids").ends_with('\n')).await;
        self.pids()[0]
    }
}

async fn gone(pid: Pid) {
    eventually("the process is gone", || kill(pid, None).is_err()).await;
}

/// Waits until the process is dead; its new parent reaps it when it likes.
async fn dead(pid: Pid) {
    let stat = format!("/proc/{pid}/stat");
    eventually("the process is dead", || {
        let stat = fs::read_to_string(&stat).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    })
    .await;
}

fn read_pid(file: &Path) -> Pid {
    Pid::from_raw(fs::read_to_string(file).unwrap().trim().parse().unwrap())
}

const OBEDIENT: &str = "while next; do answer done; done";

#[tokio::test]
async fn one_child_serves_one_delivery_after_the_other() {
    let pool = pool(OBEDIENT, |_| {});
    for _ in 0..20 {
        assert_eq!(pool.send("x").await, Outcome::Done);
    }
    assert_eq!(pool.pids().len(), 1);
    let pid = pool.pids()[0];
    pool.handler.release().await;
    gone(pid).await;
}

#[tokio::test]
async fn there_are_as_many_children_as_deliveries_and_no_more_than_size() {
    let pool = pool("while next; do sleep 0.05; answer done; done", |settings| {
        settings.size = Some(3);
    });
    let runs = (0..12).map(|_| pool.send("x"));
    let outcomes = futures_util::future::join_all(runs).await;
    assert_eq!(outcomes, vec![Outcome::Done; 12]);
    assert_eq!(pool.pids().len(), 3);
}

#[tokio::test]
async fn each_answer_is_its_outcome() {
    let script = r#"
        next; answer retry ',"reason":"busy"'
        next; answer retry ',"delay_ms":1500,"reason":"busy"'
        next; answer dead ',"reason":"no such order"'
        next; answer hand_back
        next; answer done"#;
    let pool = pool(script, |_| {});
    assert_eq!(pool.send("x").await, Outcome::retry("busy"));
    assert_eq!(
        pool.send("x").await,
        Outcome::retry_after(Duration::from_millis(1500), "busy")
    );
    assert_eq!(pool.send("x").await, Outcome::dead("no such order"));
    assert_eq!(pool.send("x").await, Outcome::HandBack);
    assert_eq!(pool.send("x").await, Outcome::Done);
}

#[tokio::test]
async fn a_delivery_on_hold_leaves_its_child_to_others_and_comes_again() {
    let script = r#"
        next; answer hold ',"delay_ms":20'
        next; answer done
        next; answer done"#;
    let pool = pool(script, |settings| settings.size = Some(1));
    let outcomes = tokio::join!(pool.send("first"), pool.send("second"));
    assert_eq!(outcomes, (Outcome::Done, Outcome::Done));
    assert_eq!(pool.pids().len(), 1);
}

#[tokio::test]
async fn a_drain_ends_a_hold_and_hands_the_delivery_back() {
    let pool = pool(r#"next; answer hold ',"delay_ms":3600000'; next"#, |_| {});
    let (context, drain) = Context::detached();
    let delivery = testing::delivery("x").send();
    let work = pool.handler.handle(delivery, context);
    let drain = async {
        pool.pid().await;
        drain.begin(tokio::time::Instant::now());
    };
    let (outcome, ()) = tokio::join!(work, drain);
    assert_eq!(outcome, Outcome::HandBack);
}

#[tokio::test]
async fn descriptors_of_its_own_keep_prints_out_of_the_protocol() {
    let script = r#"
        echo "$TIDEGATE_POOL_FDS" > fds
        while read -r line <&3; do
            id=${line#*\"id\":\"}; id=${id%%\"*}
            echo '{"a print": "that looks like an answer"}'
            echo "{\"id\":\"$id\",\"outcome\":\"done\"}" >&4
        done"#;
    let pool = pool(script, |settings| settings.channel = PoolChannel::Fd);
    for _ in 0..3 {
        assert_eq!(pool.send("x").await, Outcome::Done);
    }
    assert_eq!(pool.read("fds"), "3,4\n");
    assert_eq!(pool.pids().len(), 1);
    pool.handler.release().await;
}

#[tokio::test]
async fn a_child_may_ask_for_text() {
    let script = r#"
        echo '{"hello": {"body": "text", "name": "orders"}}'
        while next; do echo "$line" >> lines; answer done; done"#;
    let pool = pool(script, |settings| {
        settings.size = Some(1);
        settings.warm = true;
    });
    assert_eq!(pool.send("the first").await, Outcome::Done);
    assert_eq!(pool.send("the second").await, Outcome::Done);
    let last = pool.read("lines");
    let last: serde_json::Value = serde_json::from_str(last.lines().last().unwrap()).unwrap();
    assert_eq!(last["body"], "the second");
    assert_eq!(last.get("body_base64"), None);
    assert_eq!(last["properties"]["message_id"], "m-1");
}

#[tokio::test]
async fn children_are_started_ahead_if_asked_for() {
    let pool = pool(OBEDIENT, |settings| {
        settings.size = Some(3);
        settings.warm = true;
    });
    pool.handler.prepare().await;
    eventually("three children are there", || pool.pids().len() == 3).await;
    assert_eq!(pool.send("x").await, Outcome::Done);
    assert_eq!(pool.pids().len(), 3);
    pool.handler.release().await;
    for pid in pool.pids() {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_child_is_replaced_after_its_deliveries_and_never_in_the_middle_of_one() {
    let pool = pool(OBEDIENT, |settings| settings.max_deliveries = Some(5));
    for _ in 0..20 {
        assert_eq!(pool.send("x").await, Outcome::Done);
    }
    assert_eq!(pool.pids().len(), 4);
    for pid in pool.pids() {
        gone(pid).await;
    }
}

#[tokio::test]
async fn a_child_that_has_grown_is_replaced() {
    let pool = pool(OBEDIENT, |settings| settings.max_rss = Some(1));
    for _ in 0..3 {
        assert_eq!(pool.send("x").await, Outcome::Done);
    }
    assert_eq!(pool.pids().len(), 3);
}

#[tokio::test]
async fn a_drain_hands_back_what_waits_for_a_child() {
    let pool = pool("next; touch busy; sleep 1000", |settings| {
        settings.size = Some(1);
    });
    let (context, drain) = Context::detached();
    let first = pool.send("first");
    let second = async {
        eventually("the child is busy", || pool.file("busy").exists()).await;
        let delivery = testing::delivery("second").send();
        let waiting = pool.handler.handle(delivery, context.clone());
        let drain = async {
            eventually("it waits", || context.starved().load(Ordering::Relaxed)).await;
            drain.begin(tokio::time::Instant::now());
        };
        tokio::join!(waiting, drain).0
    };
    tokio::select! {
        outcome = first => panic!("{outcome:?}"),
        outcome = second => assert_eq!(outcome, Outcome::HandBack),
    }
}

#[test]
fn what_no_program_can_be_given_is_refused() {
    let settings = ChildPoolSettings {
        command: ExecSettings {
            command: vec!["cat".into(), "hush\0".into()],
            directory: None,
            env: BTreeMap::new(),
        },
        size: None,
        warm: false,
        channel: PoolChannel::Stdio,
        max_deliveries: None,
        max_rss: None,
    };
    assert_eq!(
        PoolHandler::new(&settings).unwrap_err().to_string(),
        "handler pool: command[1]: must not contain NUL"
    );
}

//! The `exec` handler with real processes.

mod starting;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use secrecy::SecretString;
use tempfile::TempDir;

use super::*;
use crate::handler::testing::{self, eventually};

const TEN_MEGABYTES: usize = 10 * 1000 * 1000;

fn settings(command: &[&str]) -> ExecSettings {
    ExecSettings {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        directory: None,
        env: BTreeMap::new(),
    }
}

async fn run(command: &[&str], body: impl Into<Bytes>) -> Outcome {
    let handler = ExecHandler::new(&settings(command)).unwrap();
    let delivery = testing::delivery(body).send();
    handler.handle(delivery, testing::context()).await
}

async fn shell(script: &str) -> Outcome {
    run(&["sh", "-c", script], "").await
}

/// Runs `script` in an empty directory, and returns what it left there.
async fn shell_in(settings: ExecSettings, body: impl Into<Bytes>) -> (Outcome, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let settings = ExecSettings {
        directory: Some(directory.path().to_owned()),
        ..settings
    };
    let handler = ExecHandler::new(&settings).unwrap();
    let delivery = testing::delivery(body).send();
    let outcome = handler.handle(delivery, testing::context()).await;
    (outcome, directory)
}

#[tokio::test]
async fn the_exit_code_is_the_outcome() {
    assert_eq!(shell("exit 0").await, Outcome::Done);
    assert_eq!(
        shell("echo busy >&2; exit 75").await,
        Outcome::retry("exit code 75: busy")
    );
    assert_eq!(shell("exit 1").await, Outcome::dead("exit code 1"));
    assert_eq!(
        shell("echo 'no such order' >&2; exit 2").await,
        Outcome::dead("exit code 2: no such order")
    );
}

#[tokio::test]
async fn a_child_that_a_signal_killed_is_retried_as_a_crash() {
    assert_eq!(
        shell("echo last words >&2; kill -KILL $$").await,
        crashed("killed by SIGKILL: last words".into())
    );
}

#[tokio::test]
async fn a_program_that_is_missing_costs_no_message() {
    let outcome = run(&["/nowhere/to/be/found"], "").await;
    assert_eq!(
        outcome,
        crashed("cannot run `/nowhere/to/be/found`: No such file or directory (os error 2)".into())
    );
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("not-executable");
    fs::write(&file, "#!/bin/sh\n").unwrap();
    let outcome = run(&[file.to_str().unwrap()], "").await;
    let Outcome::Retry { reason, error, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(reason, Reason::Crash);
    assert!(
        error.ends_with("Permission denied (os error 13)"),
        "{error}"
    );
}

#[tokio::test]
async fn the_error_is_the_end_of_stderr() {
    let outcome =
        shell("head -c 100000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1").await;
    let Outcome::Dead { error, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(error.starts_with("exit code 1: xxx"), "{error}");
    assert!(error.ends_with("xxxthe end"), "{error}");
    assert!(error.len() <= ERROR_LIMIT);
    assert!(error.len() > ERROR_LIMIT - 110);
}

#[tokio::test]
async fn the_body_arrives_on_stdin_unchanged() {
    let body: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let settings = settings(&["sh", "-c", "cat > got"]);
    let (outcome, directory) = shell_in(settings, body.clone()).await;
    assert_eq!(outcome, Outcome::Done);
    assert!(fs::read(directory.path().join("got")).unwrap() == body);
}

#[tokio::test]
async fn megabytes_of_stdin_and_stdout_at_once_do_not_lock_up() {
    let body = vec![b'x'; TEN_MEGABYTES];
    assert_eq!(run(&["cat"], body.clone()).await, Outcome::Done);
    // Fills stdout and stderr before it reads a byte.
    let script = "head -c 10000000 /dev/zero; head -c 10000000 /dev/zero >&2; wc -c >&2; exit 3";
    let outcome = run(&["sh", "-c", script], body).await;
    let Outcome::Dead { error, .. } = outcome else {
        panic!("{outcome:?}");
    };
    assert!(error.ends_with("10000000"), "{error}");
}

#[tokio::test]
async fn a_child_need_not_read_its_stdin() {
    let body = vec![b'x'; TEN_MEGABYTES];
    assert_eq!(run(&["true"], body.clone()).await, Outcome::Done);
    let script = "exec 0<&-; exit 75";
    let outcome = run(&["sh", "-c", script], body).await;
    assert_eq!(outcome, Outcome::retry("exit code 75"));
}

#[tokio::test]
async fn a_process_left_behind_does_not_hold_up_the_outcome() {
    let script = "sleep 1000 & echo $! > pid; echo words >&2; exit 75";
    let started = Instant::now();
    let (outcome, directory) = shell_in(settings(&["sh", "-c", script]), "").await;
    assert_eq!(outcome, Outcome::retry("exit code 75: words"));
    assert!(started.elapsed() < Duration::from_secs(100));
    let left_behind = read_pid(&directory.path().join("pid"));
    assert!(
        is_running(left_behind),
        "only a cancelled child's group is killed"
    );
    kill(left_behind, Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn a_cancelled_child_is_killed_with_its_whole_group_and_reaped() {
    let directory = tempfile::tempdir().unwrap();
    let script = "trap '' TERM INT HUP
        sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' & echo $! > grandchild.new
        mv grandchild.new grandchild
        echo $$ > child.new; mv child.new child
        sleep 1000; sleep 1000";
    let settings = ExecSettings {
        directory: Some(directory.path().to_owned()),
        ..settings(&["sh", "-c", script])
    };
    let handler = ExecHandler::new(&settings).unwrap();
    let delivery = testing::delivery(vec![b'x'; TEN_MEGABYTES]).send();
    let work = handler.handle(delivery, testing::context());
    let child_file = directory.path().join("child");
    tokio::select! {
        outcome = work => panic!("the child ended by itself: {outcome:?}"),
        () = eventually("the child is up", || child_file.exists()) => {}
    }
    let child = read_pid(&child_file);
    let grandchild = read_pid(&directory.path().join("grandchild"));
    eventually("the child is killed and reaped", || {
        kill(child, None).is_err()
    })
    .await;
    // Its new parent reaps the grandchild when it likes: dead is enough.
    eventually("the grandchild is killed", || !is_running(grandchild)).await;
}

#[tokio::test]
async fn children_that_end_leave_no_zombies() {
    let (outcome, directory) = shell_in(settings(&["sh", "-c", "echo $$ > pid"]), "").await;
    assert_eq!(outcome, Outcome::Done);
    let child = read_pid(&directory.path().join("pid"));
    assert!(
        kill(child, None).is_err(),
        "it was reaped before its outcome"
    );
}

#[tokio::test]
async fn a_child_leads_a_process_group_of_its_own() {
    let script = "read -r pid name state parent group rest < /proc/$$/stat; test $group = $$";
    assert_eq!(shell(script).await, Outcome::Done);
}

#[tokio::test]
async fn a_child_sees_the_delivery_and_no_secret_of_the_worker() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = settings(&["sh", "-c", "env > seen"]);
    settings.directory = Some(directory.path().to_owned());
    settings
        .env
        .insert("API_KEY".into(), SecretString::from("configured"));
    settings
        .env
        .insert("TIDEGATE_TYPE".into(), SecretString::from("ours"));
    let workers_own = [
        ("PATH", std::env::var("PATH").unwrap()),
        ("HOME", "/srv/worker".into()),
        ("TIDEGATE__BROKER__URL", "amqp://user:hush@broker".into()),
        ("tidegate__broker__password", "hush".into()),
    ]
    .map(|(name, value)| (name.into(), value.into()));
    let handler = ExecHandler::with_environment(&settings, workers_own).unwrap();
    let delivery = testing::delivery("")
        .header("Tenant", "acme\nEVIL=1")
        .with(|delivery| delivery.properties.kind = Some("theirs".into()))
        .send();
    let outcome = handler.handle(delivery, testing::context()).await;
    assert_eq!(outcome, Outcome::Done);
    let seen = fs::read_to_string(directory.path().join("seen")).unwrap();
    let lines: Vec<_> = seen.lines().collect();
    for expected in [
        "HOME=/srv/worker",
        "API_KEY=configured",
        "TIDEGATE_TYPE=ours",
        "TIDEGATE_QUEUE=orders",
        "TIDEGATE_MESSAGE_ID=m-1",
        "TIDEGATE_HEADER_TENANT=acme",
    ] {
        assert!(lines.contains(&expected), "{expected} in {seen}");
    }
    assert!(!seen.contains("hush"), "{seen}");
    assert!(!seen.to_lowercase().contains("tidegate__"), "{seen}");
}

#[test]
fn what_no_program_can_be_given_is_refused_without_its_value() {
    let new = |settings: &ExecSettings| ExecHandler::new(settings).unwrap_err().to_string();
    for nothing in [&[][..], &[""][..]] {
        assert_eq!(
            new(&settings(nothing)),
            "handler exec: command: must begin with a program"
        );
    }
    assert_eq!(
        new(&settings(&["cat", "hush\0"])),
        "handler exec: command[1]: must not contain NUL"
    );
    let mut bad_value = settings(&["cat"]);
    bad_value
        .env
        .insert("KEY".into(), SecretString::from("hush\0"));
    assert_eq!(
        new(&bad_value),
        "handler exec: env KEY: its value must not contain NUL"
    );
    let mut bad_name = settings(&["cat"]);
    bad_name
        .env
        .insert("A=B".into(), SecretString::from("hush"));
    assert_eq!(
        new(&bad_name),
        "handler exec: env \"A=B\": a variable's name must not be empty or contain `=` or NUL"
    );
}

#[test]
fn debug_shows_no_arguments_and_no_variables() {
    let mut settings = settings(&["curl", "--user", "me:hush"]);
    settings
        .env
        .insert("KEY".into(), SecretString::from("hush"));
    let handler = ExecHandler::new(&settings).unwrap();
    assert_eq!(
        format!("{handler:?}"),
        r#"ExecHandler { program: "curl", .. }"#
    );
}

fn read_pid(file: &Path) -> Pid {
    let text = fs::read_to_string(file).unwrap();
    Pid::from_raw(text.trim().parse().unwrap())
}

/// Whether the process exists and is not a zombie.
fn is_running(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.is_some_and(|state| state != 'Z')
}

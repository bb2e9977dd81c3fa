//! The start of children: what they inherit, and what keeps them from starting.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use super::*;

/// A program in `directory` that is open for writing, so that the system refuses to run it (ETXTBSY).
fn program_being_written(directory: &TempDir) -> (fs::File, PathBuf) {
    let path = directory.path().join("program");
    fs::copy("/bin/true", &path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    (file, path)
}

#[tokio::test]
async fn a_program_that_is_being_written_is_waited_for_and_that_is_no_run() {
    let directory = tempfile::tempdir().unwrap();
    let (file, path) = program_being_written(&directory);
    let handler = ExecHandler::new(&settings(&[path.to_str().unwrap()])).unwrap();
    let context = testing::context();
    let work = handler.handle(testing::delivery("").send(), context.clone());
    let release = async {
        eventually("it waits", || context.starved().load(Ordering::Relaxed)).await;
        drop(file);
    };
    let (outcome, ()) = tokio::join!(work, release);
    assert_eq!(outcome, Outcome::Done);
    assert!(!context.starved().load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_drain_hands_back_what_could_not_begin() {
    let directory = tempfile::tempdir().unwrap();
    let (_file, path) = program_being_written(&directory);
    let handler = ExecHandler::new(&settings(&[path.to_str().unwrap()])).unwrap();
    let (context, drain) = Context::detached();
    let work = handler.handle(testing::delivery("").send(), context.clone());
    let drain = async {
        eventually("it waits", || context.starved().load(Ordering::Relaxed)).await;
        drain.begin(tokio::time::Instant::now());
    };
    let (outcome, ()) = tokio::join!(work, drain);
    assert_eq!(outcome, Outcome::HandBack);
}

#[tokio::test]
async fn a_child_begins_with_no_signal_ignored_or_blocked() {
    // Every Rust program ignores SIGPIPE, and the thread that starts children blocks all signals.
    let script = "cat /proc/self/status > status";
    let (outcome, directory) = shell_in(settings(&["sh", "-c", script]), "").await;
    assert_eq!(outcome, Outcome::Done);
    let status = fs::read_to_string(directory.path().join("status")).unwrap();
    for none in ["SigIgn:\t0000000000000000", "SigBlk:\t0000000000000000"] {
        assert!(status.contains(none), "{none} in {status}");
    }
}

#[tokio::test]
async fn a_child_has_its_pipes_and_no_descriptor_that_the_worker_opened() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let script = "ls -l /proc/$$/fd > links; exit 0";
    let (outcome, directory) = shell_in(settings(&["sh", "-c", script]), "").await;
    drop(listener);
    assert_eq!(outcome, Outcome::Done);
    let links = fs::read_to_string(directory.path().join("links")).unwrap();
    assert!(!links.contains("socket:"), "{links}");
    for ours in [" 0 -> pipe:", " 2 -> pipe:"] {
        assert!(links.contains(ours), "{ours} in {links}");
    }
}

#[tokio::test]
async fn a_program_is_found_in_the_configured_path() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("order-program");
    fs::write(&program, "#!/bin/sh\nexit 75\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut settings = settings(&["order-program"]);
    let path = directory.path().to_str().unwrap();
    settings.env.insert("PATH".into(), SecretString::from(path));
    let handler = ExecHandler::new(&settings).unwrap();
    let delivery = testing::delivery("").send();
    let outcome = handler.handle(delivery, testing::context()).await;
    assert_eq!(outcome, Outcome::retry("exit code 75"));
}

#[tokio::test]
async fn many_children_at_once_each_get_their_own_body() {
    let handler = Arc::new(ExecHandler::new(&settings(&["sh", "-c", "exit $(cat)"])).unwrap());
    let runs = (1..40).map(|code: i32| {
        let handler = Arc::clone(&handler);
        tokio::spawn(async move {
            let delivery = testing::delivery(code.to_string()).send();
            (code, handler.handle(delivery, testing::context()).await)
        })
    });
    for run in runs.collect::<Vec<_>>() {
        let (code, outcome) = run.await.unwrap();
        assert_eq!(outcome, Outcome::dead(format!("exit code {code}")));
    }
}

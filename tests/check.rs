//! `tidegate check` as a program, without a broker.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use std::thread;

/// A broker that is not asked, and a node that gives no reason to warn.
const SOUND: &str = "
[broker]
url = 'amqp://localhost'
[[node]]
queue = 'orders'
timeout = '20s'
handler = { log = {} }
";

/// Runs `tidegate check` on a file of this content, in a clean environment.
fn check(config: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("worker.toml");
    fs::write(&file, config).unwrap();
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .env_clear()
        .args(["check", "-c"])
        .arg(&file)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_configuration_is_read_once_so_that_a_pipe_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("worker.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let writer = thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, SOUND)
    });
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .env_clear()
        .args(["check", "--offline", "-c"])
        .arg(&pipe)
        .output()
        .unwrap();
    writer.join().unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn a_sound_configuration_with_enough_time_is_well() {
    let output = check(SOUND, &["--offline", "--platform-grace", "30s"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("shutdown budget\n  ✓ platform"), "{text}");
    assert!(text.ends_with("\nall is well\n"), "{text}");
}

#[test]
fn a_platform_that_kills_too_early_fails_the_check() {
    let output = check(SOUND, &["--offline", "--platform-grace", "27s"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains(
            "so it would be killed: set the platform's limit to 30s or drain.grace to 22s"
        ),
        "{text}"
    );
}

#[test]
fn an_unknown_limit_is_a_warning_and_no_failure() {
    let output = check(SOUND, &["--offline"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("0 errors, 1 warning"), "{text}");
}

#[test]
fn every_error_of_a_configuration_is_told_under_its_key() {
    let config = "
[broker]
url = 'amqp://localhost'
[drain]
grace = 'soon'
[[node]]
queue = 'orders'
concurency = 3
handler = { log = {} }
";
    let output = check(config, &["--json"]);
    assert_eq!(output.status.code(), Some(78));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["errors"], 2, "{report:#}");
    let subjects: Vec<&str> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["subject"].as_str().unwrap())
        .collect();
    assert_eq!(subjects, ["drain.grace", "node[0].concurency"]);
}

#[test]
fn a_configuration_that_is_not_there_is_a_configuration_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["check", "--offline", "-c", "/nowhere/worker.toml"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let text = stdout(&output);
    assert!(text.contains("✗ /nowhere/worker.toml"), "{text}");
}

#[test]
fn a_manifest_that_cannot_be_read_fails_the_check() {
    let directory = tempfile::tempdir().unwrap();
    let neither = directory.path().join("values.yaml");
    fs::write(&neither, "replicas: 3").unwrap();
    for file in [neither.as_path(), Path::new("/nowhere/worker.yaml")] {
        let output = check(SOUND, &["--offline", "--manifest", file.to_str().unwrap()]);
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("✗ {}", file.display())), "{text}");
    }
}

#[test]
fn the_deployment_files_of_this_repository_leave_enough_time_for_the_default_grace() {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    for file in [
        "config/deploy/kubernetes.yaml",
        "config/deploy/tidegate.service",
        "docker-compose.yml",
    ] {
        let file = root.join(file);
        let output = check(SOUND, &["--offline", "--manifest", file.to_str().unwrap()]);
        let text = stdout(&output);
        assert_eq!(output.status.code(), Some(0), "{text}");
        assert!(
            text.ends_with("\nall is well\n"),
            "{}: {text}",
            file.display()
        );
    }
}

/// Checks against a peer that answers each connection as `answer` does; gives the text of the finding.
fn against(answer: fn(&mut std::net::TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            answer(&mut stream);
        }
    });
    let url = format!("'amqp://app:s3cret-word@127.0.0.1:{port}/'\nconnect_timeout = '500ms'");
    let config = SOUND.replace("'amqp://localhost'", &url);
    let output = check(&config, &["--platform-grace", "30s"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let log = String::from_utf8(output.stderr).unwrap();
    assert!(
        !(text.clone() + &log).contains("s3cret-word"),
        "{text}{log}"
    );
    let (_, broker) = text.split_once("\nbroker\n").unwrap();
    assert!(broker.contains("✗ 127.0.0.1:"), "{broker}");
    broker.to_owned()
}

#[test]
fn a_peer_that_speaks_something_else_is_told_as_such() {
    let text = against(|stream| {
        let mut greeting = [0; 8];
        stream.read_exact(&mut greeting).unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
    });
    assert!(
        text.contains("the peer does not speak AMQP 0-9-1"),
        "{text}"
    );
}

#[test]
fn a_peer_that_hangs_up_may_expect_tls() {
    let text = against(|stream| {
        let mut greeting = [0; 8];
        stream.read_exact(&mut greeting).unwrap();
    });
    assert!(text.contains("it may expect TLS"), "{text}");
}

#[test]
fn a_peer_that_says_nothing_is_not_waited_for_beyond_the_time_limit() {
    let text = against(|stream| {
        // Until the other side hangs up.
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    assert!(text.contains("no answer within 500ms"), "{text}");
}

#[test]
fn a_port_that_nothing_listens_on_is_told_with_the_systems_words() {
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let config = SOUND.replace("amqp://localhost", &format!("amqp://localhost:{port}"));
    let output = check(&config, &["--platform-grace", "30s"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}

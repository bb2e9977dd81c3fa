//! What commands do with standard output: a reader that goes ends them quietly, and a full disk is an error.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs::File;
use std::io::Read as _;
use std::process::{Command, Output, Stdio};

/// Commands that print, and need no broker.
const PRINTING: [&[&str]; 7] = [
    &["schema"],
    &["schema", "--openapi"],
    &["completions", "bash"],
    &["--help"],
    &["help", "publish"],
    &["--version"],
    &["check", "--offline", "-c", "CONFIG"],
];

/// A configuration that is right.
const CONFIG: &str =
    "[broker]\nurl = \"amqp://localhost\"\n[[node]]\nqueue = \"orders\"\nhandler = { log = {} }\n";

/// The program with `arguments`, in which CONFIG stands for a file with [`CONFIG`].
fn tidegate(arguments: &[&str], config: &tempfile::NamedTempFile) -> Command {
    std::fs::write(config.path(), CONFIG).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    for argument in arguments {
        match *argument {
            "CONFIG" => command.arg(config.path()),
            other => command.arg(other),
        };
    }
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

fn config() -> tempfile::NamedTempFile {
    let named = tempfile::Builder::new().suffix(".toml").tempfile();
    named.unwrap()
}

/// A pipe whose reader has gone.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    File::options()
        .write(true)
        .open("/dev/full")
        .unwrap()
        .into()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_reader_that_has_gone_ends_a_command_quietly() {
    let config = config();
    for arguments in PRINTING {
        let output = tidegate(arguments, &config).stdout(closed()).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        assert_eq!(errors(&output), "", "{arguments:?}");
    }
}

#[test]
fn a_reader_that_goes_in_the_middle_ends_a_command_quietly() {
    let config = config();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = tidegate(&["schema"], &config);
    let child = command.stdout(writer).stderr(Stdio::piped()).spawn();
    drop(command);
    let mut first = [0];
    reader.read_exact(&mut first).unwrap();
    drop(reader);
    let output = child.unwrap().wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*errors(&output)), (Some(0), ""));
}

#[test]
fn a_full_disk_is_an_error() {
    let config = config();
    for arguments in PRINTING {
        let output = tidegate(arguments, &config).stdout(full()).output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        let errors = errors(&output);
        let expected = "tidegate: cannot write to standard output: No space left on device";
        assert!(errors.starts_with(expected), "{arguments:?}: {errors}");
        assert_eq!(errors.lines().count(), 1, "no backtrace: {errors}");
    }
}

#[test]
fn what_a_command_found_out_stays_its_exit_code() {
    let config = config();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    let mut unhealthy = tidegate(&["health", &url], &config);
    let output = unhealthy.stdout(closed()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_closed_standard_error_changes_nothing() {
    let config = config();
    for (arguments, code) in [
        (
            &["publish", "orders", "--body", "x", "--url", "nonsense"][..],
            2,
        ),
        (&["worker", "-c", "/nowhere/at/all.toml"], 78),
        (&["--no-such-option"], 2),
    ] {
        for stderr in [closed(), full()] {
            let output = tidegate(arguments, &config).stderr(stderr).output();
            let output = output.unwrap();
            assert_eq!(
                output.status.code(),
                Some(code),
                "{arguments:?}: {output:?}"
            );
        }
    }
}

#[test]
fn a_log_level_that_does_not_exist_is_wrong_usage() {
    let config = config();
    let output = tidegate(&["--log", "inof", "schema"], &config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        errors(&output).contains("\"inof\" is no level"),
        "{output:?}"
    );
    let mut from_environment = tidegate(&["schema"], &config);
    let output = from_environment
        .env("TIDEGATE_LOG", "verbose")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let mut empty = tidegate(&["schema"], &config);
    let output = empty.env("TIDEGATE_LOG", "").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn a_failing_start_is_json_in_a_json_log() {
    let config = config();
    let json = ["--log-format", "json"];
    for (arguments, count) in [
        (&["worker", "-c", "/nowhere/at/all.toml"][..], 1),
        (&["fleet", "-c", "/nowhere/at/all.toml"], 1),
        (
            &["publish", "orders", "--body", "x", "-c", "/nowhere.toml"],
            1,
        ),
    ] {
        let arguments = [&json[..], arguments].concat();
        let output = tidegate(&arguments, &config).output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let errors = errors(&output);
        let lines: Vec<serde_json::Value> = errors
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), count, "{errors}");
        assert_eq!(lines[0]["level"], "ERROR", "{errors}");
        assert!(
            lines[0]["message"]
                .as_str()
                .unwrap()
                .contains("cannot be read"),
            "{errors}"
        );
    }
}

#[test]
fn a_misspelt_variable_for_the_broker_is_named() {
    let config = config();
    for arguments in [
        &["publish", "orders", "--body", "x"][..],
        &["status"],
        &["dead", "list", "orders"],
        &["drain", "--all"],
    ] {
        let mut command = tidegate(arguments, &config);
        command.env("TIDEGATE_BROKER_URL", "amqp://user:secret@broker");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let errors = errors(&output);
        assert!(
            errors.contains("TIDEGATE_BROKER_URL; did you mean TIDEGATE__BROKER__URL?"),
            "{errors}"
        );
        assert!(!errors.contains("secret"), "{errors}");
    }
}

#[test]
fn a_misspelt_variable_is_named_by_each_command_that_reads_a_file() {
    let config = config();
    for arguments in [
        &["worker", "-c", "CONFIG"][..],
        &["fleet", "-c", "CONFIG"],
        &["check", "-c", "CONFIG"],
        &["declare", "-c", "CONFIG"],
        &["status", "-c", "CONFIG"],
        &["drain", "--all", "-c", "CONFIG"],
    ] {
        let mut command = tidegate(arguments, &config);
        // The broker is missing.
        std::fs::write(config.path(), "[drain]\ngrace = \"5s\"\n").unwrap();
        command.env("TIDEGATE_BROKER_URI", "amqp://user:secret@broker");
        // Kubernetes says so of a service of that name.
        command.env("TIDEGATE_BROKER_SERVICE_HOST", "10.0.0.1");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{output:?}");
        let said = errors(&output) + &String::from_utf8(output.stdout.clone()).unwrap();
        for part in ["TIDEGATE_BROKER_URI", "did you mean TIDEGATE__BROKER__URL?"] {
            assert!(said.contains(part), "{arguments:?}: {said}");
        }
        for part in ["secret", "SERVICE_HOST"] {
            assert!(!said.contains(part), "{arguments:?}: {said}");
        }
    }
}

#[test]
fn a_section_that_does_not_exist_is_named_by_a_command_without_a_file() {
    let config = config();
    for name in ["TIDEGATE__BROKERS__URL", "TIDEGATE__BROKER__URI"] {
        let mut command = tidegate(&["status"], &config);
        command.env(name, "amqp://broker");
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(errors(&output).contains(name), "{output:?}");
    }
}

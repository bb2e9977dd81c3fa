//! `tidegate publish` where no broker is needed: usage, and what it says of failures.

use std::process::{Command, Output};

/// Runs the program with nothing of the environment that names a broker.
fn publish(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .arg("publish")
        .args(arguments)
        .env_remove("TIDEGATE__BROKER__URL")
        .output()
        .expect("the program starts")
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A port on which nobody listens: it was free a moment ago, and is reserved for as long as the listener's
/// address is not reused.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it has an address").port()
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_was_expected() {
    let cases: &[(&[&str], &str)] = &[
        (
            &["orders"],
            "--body <TEXT>|--file <FILE>|--lines <FILE>|--count <N>",
        ),
        (&["--body", "x"], "<QUEUE>"),
        (&["", "--body", "x"], "must not be empty"),
        (&["orders", "--body", "x", "--lines", "y"], "--lines <FILE>"),
        (&["orders", "--body", "x", "--size", "3"], "--size <SIZE>"),
        (&["orders", "--body", "x", "--skip", "3"], "--skip <N>"),
        (&["orders", "--count", "3", "--size", "many"], "many"),
        (
            &["orders", "--count", "3", "--size", "1TB"],
            "no broker takes more",
        ),
        (&["orders", "--count", "3", "--rate", "0"], "above 0"),
        (&["orders", "--count", "3", "--rate", "NaN"], "above 0"),
        (
            &["orders", "--body", "x", "--header", "k"],
            "must be NAME=VALUE",
        ),
        (
            &["orders", "--body", "x", "--header", "=v"],
            "must not be empty",
        ),
        (
            &["orders", "--body", "x", "--routing-key", "k"],
            "--exchange <NAME>",
        ),
        (
            &["orders", "--body", "x", "--persistent", "--transient"],
            "--transient",
        ),
        (
            &["orders", "--body", "x", "--url", "amqp://h", "-c", "f"],
            "--config <FILE>",
        ),
    ];
    for (arguments, expected) in cases {
        let output = publish(arguments);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
}

#[test]
fn a_wrong_url_ends_with_2_and_never_shows_its_password() {
    for url in [
        "http://user:s3cret@host",
        "amqp://user:s3cret@host:x",
        "s3cret",
    ] {
        let output = publish(&["orders", "--body", "x", "--url", url]);
        let errors = errors(&output);
        assert_eq!(output.status.code(), Some(2), "{url}: {errors}");
        assert!(errors.contains("the broker's URL (--url)"), "{errors}");
        assert!(!errors.contains("s3cret"), "{errors}");
    }
}

#[test]
fn a_wrong_configuration_ends_with_78() {
    let output = publish(&["orders", "--body", "x", "--config", "/nowhere/at/all.toml"]);
    assert_eq!(output.status.code(), Some(78), "{}", errors(&output));
}

#[test]
fn an_input_that_is_missing_is_named_before_any_connection() {
    let output = publish(&[
        "orders",
        "--lines",
        "/nowhere/at/all",
        "--url",
        "amqp://127.0.0.1:9",
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        errors(&output),
        "tidegate: cannot read /nowhere/at/all: No such file or directory (os error 2)\n\
         nothing was sent to queue \"orders\"\n"
    );
}

#[test]
fn a_broker_that_is_not_there_ends_with_1_and_a_summary_for_scripts() {
    let port = closed_port();
    let url = format!("amqp://user:s3cret@127.0.0.1:{port}");
    let output = publish(&[
        "orders", "--count", "3", "--skip", "1", "--json", "--url", &url,
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!errors(&output).contains("s3cret"));
    let summary: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("standard output is one JSON object");
    assert_eq!(summary["outcome"], "failed");
    assert_eq!(summary["queue"], "orders");
    assert_eq!(
        (&summary["sent"], &summary["confirmed"]),
        (&0.into(), &0.into())
    );
    assert_eq!(summary["resume_skip"], 1);
    let error = summary["error"].as_str().expect("it says why");
    assert!(
        error.contains(&format!("cannot connect to 127.0.0.1:{port}")),
        "{error}"
    );
}

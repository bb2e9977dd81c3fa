//! `tidegate check` against a real broker.

use std::process::Output;

use lapin::types::AMQPValue;
use lapin::{ExchangeKind, options::ExchangeDeclareOptions, types::FieldTable};
use serde_json::{Value, json};
use tokio::process::Command;
use url::Url;

use crate::harness::vhost::Vhost;
use crate::harness::wait::within;

/// What the program found.
struct Report {
    code: Option<i32>,
    json: Value,
    output: String,
}

impl Report {
    /// The only finding about `subject`, as its level and message.
    fn about(&self, subject: &str) -> (&str, &str) {
        let findings = self.json["findings"].as_array().unwrap();
        let mut found = findings
            .iter()
            .filter(|finding| finding["subject"] == subject);
        let (Some(finding), None) = (found.next(), found.next()) else {
            panic!("not one finding about {subject}: {:#}", self.json);
        };
        let text = |key: &str| finding[key].as_str().unwrap();
        (text("level"), text("message"))
    }
}

/// Runs the check with these nodes, on the broker of `url`.
async fn check(url: &Url, nodes: &str) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("worker.toml");
    let config = format!("[broker]\nurl = '{url}'\n{nodes}");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command
        .env_clear()
        .args(["check", "--json", "--platform-grace", "30s", "-c"])
        .arg(&file)
        .kill_on_drop(true);
    let Output {
        status,
        stdout,
        stderr,
    } = within("the check", command.output()).await.unwrap();
    let output = String::from_utf8_lossy(&[stdout.as_slice(), &stderr].concat()).into_owned();
    Report {
        code: status.code(),
        json: serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{output}")),
        output,
    }
}

fn node(queue: &str, rest: &str) -> String {
    format!("[[node]]\nqueue = '{queue}'\ntimeout = '20s'\nhandler = {{ log = {{}} }}\n{rest}\n")
}

/// A user of the virtual host alone, with these permissions; removed with [`remove`].
async fn user(vhost: &Vhost, permissions: &Value) -> Url {
    let name = format!("user-{}", vhost.name());
    let management = vhost.management();
    within("a user", async {
        let path = format!("/api/users/{name}");
        let body = json!({"password": "pass-word", "tags": ""});
        management.put(&path, &body).await?;
        let path = format!("/api/permissions/{}/{name}", vhost.name());
        management.put(&path, permissions).await
    })
    .await
    .unwrap();
    let mut url = vhost.url().clone();
    url.set_username(&name).unwrap();
    url.set_password(Some("pass-word")).unwrap();
    url
}

async fn remove(vhost: &Vhost) {
    let path = format!("/api/users/user-{}", vhost.name());
    within("the user's removal", vhost.management().delete(&path))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_tells_what_is_there_and_changes_nothing() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 3).await;
    let nodes = node("orders", "") + &node("later", "");

    let report = check(vhost.url(), &nodes).await;

    assert_eq!(report.code, Some(0), "{}", report.output);
    let there = "there as configured: 3 messages ready, 0 consumers";
    assert_eq!(report.about("orders"), ("ok", there));
    let later = "not there yet; the worker declares it, of type quorum";
    assert_eq!(report.about("later"), ("ok", later));
    let dead = "not there yet; the worker declares it for later";
    assert_eq!(report.about("later.dead"), ("ok", dead));
    assert_eq!(report.about("orders.dead"), ("ok", "there: 0 dead letters"));
    let absent = ("ok", "not there yet; the worker declares it");
    assert_eq!(report.about("exchange tidegate.status"), absent);
    assert_eq!(report.about("exchange tidegate.control"), absent);
    assert_eq!(vhost.facts("later").await, None);
    let taken = vhost.take_all("orders").await;
    assert_eq!(taken.len(), 3);
    assert!(
        taken.iter().all(|message| !message.redelivered),
        "{taken:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_missing_is_an_error_and_one_that_differs_a_warning() {
    let vhost = Vhost::with_queue("classic", "classic").await;
    let nodes = node("classic", "") + &node("missing", "declare = false");

    let report = check(vhost.url(), &nodes).await;

    assert_eq!(report.code, Some(1), "{}", report.output);
    let differs = "x-queue-type is \"classic\", not \"quorum\"";
    let about = report.about("arguments of classic");
    assert_eq!(about, ("warning", differs));
    let used = "there and used as it is: 0 messages ready, 0 consumers";
    assert_eq!(report.about("classic"), ("ok", used));
    let (level, message) = report.about("missing");
    assert_eq!(level, "error");
    assert!(message.contains("declare = false"), "{message}");
    let (level, message) = report.about("missing.retry.*");
    assert_eq!(level, "error");
    assert!(message.contains("missing.retry.1000, "), "{message}");
    assert_eq!(report.about("missing.dead").0, "error");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_active_consumer_that_only_the_broker_knows_of_is_told() {
    let vhost = Vhost::new().await;
    let arguments = [
        ("x-queue-type", AMQPValue::LongString("quorum".into())),
        ("x-single-active-consumer", AMQPValue::Boolean(true)),
    ];
    vhost.declare_with("ordered", arguments).await;

    let report = check(vhost.url(), &node("ordered", "concurrency = 2")).await;

    assert_eq!(report.code, Some(0), "{}", report.output);
    let findings = report.json["findings"].as_array().unwrap();
    let told = findings.iter().any(|finding| {
        finding["level"] == "warning"
            && finding["subject"] == "ordered"
            && finding["message"]
                .as_str()
                .unwrap()
                .contains("single active consumer")
    });
    assert!(told, "{}", report.output);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_to_an_exchange_that_is_missing_is_an_error() {
    let vhost = Vhost::new().await;
    let bind =
        "bind = [{ exchange = 'nowhere', key = 'a' }, { exchange = 'amq.topic', key = 'b' }]";

    let report = check(vhost.url(), &node("bound", bind)).await;

    assert_eq!(report.code, Some(1), "{}", report.output);
    assert_eq!(report.json["errors"], 1, "{}", report.output);
    assert!(
        report.output.contains("cannot be bound to nowhere"),
        "{}",
        report.output
    );
    assert_eq!(vhost.facts("bound").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_exchange_of_another_type_is_a_warning() {
    let vhost = Vhost::new().await;
    let channel = vhost.channel().await;
    let options = ExchangeDeclareOptions {
        durable: true,
        ..ExchangeDeclareOptions::default()
    };
    let name = "tidegate.status";
    let declare = channel.exchange_declare(
        name.into(),
        ExchangeKind::Direct,
        options,
        FieldTable::default(),
    );
    within("exchange.declare", declare).await.unwrap();

    let report = check(vhost.url(), &node("orders", "")).await;

    assert_eq!(report.code, Some(0), "{}", report.output);
    let (level, message) = report.about("exchange tidegate.status");
    assert_eq!(level, "warning");
    assert!(message.contains("406"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_and_a_missing_virtual_host_are_told_without_the_password() {
    let vhost = Vhost::new().await;
    let mut wrong = vhost.url().clone();
    wrong.set_password(Some("s3cret-word")).unwrap();
    let report = check(&wrong, &node("orders", "")).await;
    assert_eq!(report.code, Some(1), "{}", report.output);
    assert!(
        report.output.contains("wrong user or password"),
        "{}",
        report.output
    );
    assert!(!report.output.contains("s3cret-word"), "{}", report.output);

    let mut missing = vhost.url().clone();
    missing.set_path("/nowhere-at-all");
    let report = check(&missing, &node("orders", "")).await;
    assert_eq!(report.code, Some(1), "{}", report.output);
    let (level, message) = report.about("vhost nowhere-at-all");
    assert_eq!(level, "error");
    assert!(message.contains("530"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_may_not_consume_is_told() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let permissions = json!({"configure": ".*", "write": ".*", "read": "^$"});
    let url = user(&vhost, &permissions).await;

    let report = check(&url, &node("orders", "")).await;

    remove(&vhost).await;
    assert_eq!(report.code, Some(1), "{}", report.output);
    let (level, message) = report.about("orders");
    assert_eq!(level, "error");
    assert!(
        message.starts_with("there, but not to consume from: ") && message.contains("403"),
        "{message}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_refused_by_name() {
    let vhost = Vhost::new().await;
    let stream = ("x-queue-type", AMQPValue::LongString("stream".into()));
    vhost.declare_with("events", [stream]).await;
    vhost.declare("events.dead", "quorum").await;
    for declare in [true, false] {
        let node = format!(
            "[[node]]\nqueue = 'events'\ndeclare = {declare}\nretry = {{ max_attempts = 1 }}\nhandler = {{ log = {{}} }}"
        );
        let report = check(vhost.url(), &node).await;
        assert_eq!(report.code, Some(1), "{}", report.output);
        let (level, message) = report.about("events");
        assert_eq!(level, "error");
        assert!(message.contains("\"events\" is a stream"), "{message}");
        // The rest was looked at all the same.
        assert_eq!(report.about("events.dead").0, "ok");
    }
}

//! `tidegate publish` against a real broker: what arrives, and what it says when something fails.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use lapin::types::AMQPValue;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;
use tokio::process::Child;
use url::Url;

use crate::harness::proxy::{Direction, Proxy};
use crate::harness::run::{self, Run, ended};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};

fn spawn(url: &Url, arguments: &[&str]) -> Child {
    run::spawn(&[&["publish", "--url", url.as_str()], arguments].concat())
}

async fn publish(url: &Url, arguments: &[&str]) -> Run {
    ended(spawn(url, arguments)).await
}

/// A file with `count` lines, `line 1` and so on.
fn lines(count: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let lines: Vec<_> = (1..=count).map(|number| format!("line {number}")).collect();
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    file
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn bodies(vhost: &Vhost, queue: &str) -> Vec<String> {
    let taken = vhost.take_all(queue).await;
    taken
        .into_iter()
        .map(|message| String::from_utf8(message.body).unwrap())
        .collect()
}

/// Waits until the broker has taken messages into `queue`.
async fn until_filled(vhost: &Vhost, queue: &str) {
    eventually("messages are in the queue", async || {
        let ready = vhost.ready(queue).await;
        expect_that(ready > 0, || format!("{ready} messages"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_arrive_in_their_order_with_the_properties_asked_for() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let file = lines(3000);
    let arguments = ["orders", "--lines", text(file.path()), "--skip", "500"];
    let properties = ["--header", "shop=north=1", "--content-type", "text/plain"];
    let output = publish(vhost.url(), &[&arguments[..], &properties].concat()).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let said = output.stdout.clone();
    assert!(
        said.starts_with("published 2500 messages to queue \"orders\" in "),
        "{said}"
    );
    assert_eq!(
        output.stderr, "",
        "no progress bar where there is no terminal"
    );
    let taken = vhost.take_all("orders").await;
    let expected: Vec<_> = (501..=3000)
        .map(|number| format!("line {number}"))
        .collect();
    let found: Vec<_> = taken
        .iter()
        .map(|message| String::from_utf8_lossy(&message.body).into_owned())
        .collect();
    assert_eq!(found, expected);
    let ids: BTreeSet<_> = taken.iter().map(|message| &message.id).collect();
    assert_eq!(ids.len(), 2500, "each message has an identifier of its own");
    let properties = &taken[0].properties;
    assert_eq!(*properties.delivery_mode(), Some(2));
    assert_eq!(
        properties.content_type().as_ref().unwrap().as_str(),
        "text/plain"
    );
    let headers = properties.headers().as_ref().unwrap();
    assert_eq!(
        headers.inner()["shop"],
        AMQPValue::LongString("north=1".into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_or_exchange_that_is_missing_is_named_before_anything_is_sent() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let proxy = Proxy::start(vhost.url()).await;
    let url = proxy.url(vhost.url());
    for (arguments, expected) in [
        (
            &["nowhere", "--body", "x"][..],
            "there is no queue \"nowhere\"",
        ),
        (
            &["orders", "--exchange", "nowhere", "--body", "x"],
            "there is no exchange \"nowhere\"",
        ),
    ] {
        let output = publish(&url, arguments).await;
        assert_eq!(output.code, Some(1));
        assert!(output.stderr.contains(expected), "{}", output.stderr);
    }
    assert!(proxy.log().published().is_empty(), "nothing may be sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_no_queue_takes_is_a_failure_that_names_its_destination() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let arguments = [
        "orders",
        "--exchange",
        "amq.topic",
        "--count",
        "3",
        "--json",
    ];
    let output = publish(vhost.url(), &arguments).await;
    assert_eq!(output.code, Some(1));
    let summary = output.json();
    let error = summary["error"].as_str().unwrap();
    for part in ["queue \"orders\"", "\"amq.topic\"", "312 NO_ROUTE"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(
        (&summary["confirmed"], &summary["refused"]),
        (&0.into(), &summary["sent"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_ends_the_run_and_the_rest_follows_with_skip() {
    let vhost = Vhost::new().await;
    let arguments = [
        ("x-max-length", AMQPValue::LongLongInt(10)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ];
    vhost.declare_with("small", arguments).await;
    let file = lines(15);
    let run = ["small", "--json", "--lines", text(file.path())];
    let output = publish(vhost.url(), &run).await;
    assert_eq!(output.code, Some(1));
    let summary = output.json();
    assert_eq!(
        (&summary["outcome"], &summary["confirmed"]),
        (&"failed".into(), &10.into())
    );
    assert_eq!(
        (&summary["resume_skip"], &summary["unknown"]),
        (&10.into(), &0.into())
    );
    let mut found = bodies(&vhost, "small").await;
    let output = publish(vhost.url(), &[&run[..], &["--skip", "10"]].concat()).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    found.extend(bodies(&vhost, "small").await);
    let expected: Vec<_> = (1..=15).map(|number| format!("line {number}")).collect();
    assert_eq!(found, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_cut_off_says_where_to_go_on_without_a_loss_and_with_no_more_repeats_than_foretold() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let proxy = Proxy::start(vhost.url()).await;
    let file = lines(5000);
    let run = ["orders", "--json", "--lines", text(file.path())];
    let publisher = spawn(&proxy.url(vhost.url()), &run);
    // The first confirm comes through and the broker takes what follows, but no further confirm passes.
    let first_ack = AtomicBool::new(true);
    let held = proxy.hold(Direction::ToClient, move |event| {
        event.is("basic.ack") && !first_ack.swap(false, Ordering::SeqCst)
    });
    held.holds_one().await;
    until_filled(&vhost, "orders").await;
    proxy.cut();
    let output = ended(publisher).await;
    assert_eq!(output.code, Some(1));
    let first = output.json();
    assert_eq!(first["outcome"], "failed", "{first}");
    let count = |name: &str| first[name].as_u64().unwrap();
    assert!(count("unknown") > 0, "{first}");
    assert_eq!(
        count("sent"),
        count("confirmed") + count("unknown") + count("refused")
    );

    let skip = count("resume_skip").to_string();
    let output = publish(vhost.url(), &[&run[..], &["--skip", &skip]].concat()).await;
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    let found = bodies(&vhost, "orders").await;
    let distinct: BTreeSet<_> = found.iter().collect();
    assert_eq!(distinct.len(), 5000, "nothing is lost");
    let repeated = (found.len() - distinct.len()) as u64;
    assert!(
        repeated <= count("beyond") + count("unknown"),
        "{repeated} repeated: {first}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_the_sending_and_the_answers_under_way_are_awaited() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let proxy = Proxy::start(vhost.url()).await;
        let arguments = ["orders", "--json", "--count", "100000", "--rate", "200"];
        let publisher = spawn(&proxy.url(vhost.url()), &arguments);
        proxy.seen_method("basic.ack").await;
        let pid = Pid::from_raw(i32::try_from(publisher.id().unwrap()).unwrap());
        kill(pid, signal).unwrap();
        let output = ended(publisher).await;
        assert_eq!(output.code, Some(1));
        let summary = output.json();
        assert_eq!(summary["outcome"], "stopped", "{summary}");
        assert_eq!(summary["confirmed"], summary["sent"]);
        assert_eq!(summary["unknown"], 0);
        let there = vhost.take_all("orders").await.len();
        assert_eq!(summary["confirmed"], there);
        assert!(output.stderr.contains("stopped by a signal"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_answers() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let proxy = Proxy::start(vhost.url()).await;
    let held = proxy.hold(Direction::ToClient, |event| event.is("basic.ack"));
    let publisher = spawn(
        &proxy.url(vhost.url()),
        &["orders", "--json", "--body", "x"],
    );
    held.holds_one().await;
    let pid = Pid::from_raw(i32::try_from(publisher.id().unwrap()).unwrap());
    // Signals of one kind merge while the first waits to be seen; two kinds do not.
    kill(pid, Signal::SIGINT).unwrap();
    kill(pid, Signal::SIGTERM).unwrap();
    let output = ended(publisher).await;
    assert_eq!(output.code, Some(1));
    let summary = output.json();
    assert_eq!(
        (&summary["outcome"], &summary["unknown"]),
        (&"stopped".into(), &1.into())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_with_nothing_but_the_broker_is_enough() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let toml = format!("[broker]\nurl = \"{}\"\n", vhost.url());
    std::fs::write(file.path(), toml).unwrap();
    let config = ["-c", file.path().to_str().unwrap()];
    let publish = [&["publish", "orders", "--body", "x"], &config[..]].concat();
    let published = ended(run::spawn(&publish)).await;
    assert_eq!(published.code, Some(0), "{published:?}");
    assert_eq!(vhost.ready("orders").await, 1);
    let list = [&["dead", "list", "orders"], &config[..]].concat();
    let listed = ended(run::spawn(&list)).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    // Without a QUEUE the nodes are needed, and the error says so.
    let list = [&["dead", "list"], &config[..]].concat();
    let listed = ended(run::spawn(&list)).await;
    assert_eq!(listed.code, Some(78), "{listed:?}");
    assert!(listed.stderr.contains("node"), "{listed:?}");
}

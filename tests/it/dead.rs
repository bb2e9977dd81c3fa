//! `tidegate dead`: what it shows, what it sends again, and that neither loses nor doubles anything.

mod kill;
mod prompt;
mod reader;
mod replay;
pub(crate) mod scene;
mod stream;
mod unproven;

use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicRejectOptions};
use lapin::types::AMQPValue;
use serde_json::{Value, json};

use crate::harness::gate::Gate;
use crate::harness::run::Run;
use crate::harness::vhost::Vhost;
use crate::harness::wait::within;
use crate::harness::worker::{Worker, WorkerConfig};
use scene::{Letter, dead, scene, taken_ids};

fn ids(run: &Run) -> Vec<String> {
    let lines = run.lines();
    let ids = lines.iter().map(|line| line["id"].as_str().unwrap());
    ids.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_what_the_filters_pick_and_leaves_every_letter_in_its_place() {
    for kind in ["quorum", "classic"] {
        let vhost = scene(kind).await;
        let letters = [
            Letter::new("a")
                .reason("handler")
                .at("2026-01-01T00:00:00Z"),
            Letter::new("b").reason("timeout"),
            Letter::new("c").reason("handler"),
        ];
        vhost
            .publish_messages("orders.dead", letters.map(Letter::message))
            .await;
        for _ in 0..2 {
            let all = dead(&vhost, &["list", "orders", "--json"]).await;
            assert_eq!(all.code, Some(0), "{all:?}");
            assert_eq!(ids(&all), ["a", "b", "c"]);
        }
        for (arguments, expected) in [
            (&["--reason", "handler"][..], &["a", "c"][..]),
            (
                &["--reason", "handler", "--reason", "timeout"],
                &["a", "b", "c"],
            ),
            (&["--since", "2026-02-01T00:00:00Z"], &["b", "c"]),
            (&["--id", "b", "--id", "nothing"], &["b"]),
            (&["--limit", "2"], &["a", "b"]),
            (&["--reason", "crash"], &[]),
        ] {
            let run = dead(&vhost, &[&["list", "orders", "--json"], arguments].concat()).await;
            assert_eq!(ids(&run), expected, "{arguments:?}");
        }
        let run = dead(&vhost, &["list", "--queue", "orders"]).await;
        assert!(
            run.stdout
                .contains("a   handler     3  no such customer  orders"),
            "{run:?}"
        );
        assert!(
            run.stdout
                .ends_with("orders.dead: 3 dead letters seen, 3 picked\n"),
            "{run:?}"
        );
        assert_eq!(
            taken_ids(&vhost, "orders.dead").await,
            ["a", "b", "c"],
            "{kind}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn showing_tells_everything_and_removes_nothing() {
    let vhost = scene("quorum").await;
    let letter = Letter::new("a").exchange("shop", "order.new");
    let letter = letter.body(&[0, 0xff, 1]).message();
    vhost.publish_messages("orders.dead", [letter]).await;
    let run = dead(&vhost, &["show", "orders", "--json", "--id", "a"]).await;
    let shown = &run.lines()[0];
    assert_eq!(shown["body_base64"], "AP8B");
    assert_eq!(shown["headers"]["x-tidegate-error"], "no such customer");
    assert_eq!(shown["headers"]["tenant"], "north");
    assert_eq!(shown["properties"]["priority"], 3);
    assert_eq!(
        (&shown["exchange"], &shown["routing_key"]),
        (&"shop".into(), &"order.new".into())
    );
    let run = dead(&vhost, &["show", "orders"]).await;
    assert!(run.stdout.contains("000000  00 ff 01 "), "{run:?}");
    assert_eq!(vhost.ready("orders.dead").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_changes_nothing() {
    let vhost = scene("quorum").await;
    let letters = ["a", "b"].map(|id| Letter::new(id).message());
    vhost.publish_messages("orders.dead", letters).await;
    let run = dead(&vhost, &["replay", "orders", "--dry-run"]).await;
    assert_eq!(
        run.stdout,
        "orders.dead: 2 dead letters seen, 2 picked, 2 to be replayed\n"
    );
    let run = dead(&vhost, &["drop", "orders", "--dry-run", "--json"]).await;
    assert_eq!(run.json()["queues"][0]["dropped"], 2);
    assert_eq!(
        vhost.facts("orders.replay").await,
        None,
        "nothing is declared"
    );
    assert_eq!(vhost.ready("orders").await, 0);
    assert_eq!(taken_ids(&vhost, "orders.dead").await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_dropped_only_when_agreed_to_and_after_they_are_on_the_disk() {
    let vhost = scene("quorum").await;
    let letters = (0..150).map(|number| {
        let letter = Letter::new(&format!("m-{number}"));
        let reason = if number < 120 { "handler" } else { "timeout" };
        letter.reason(reason).message()
    });
    vhost.publish_messages("orders.dead", letters).await;
    let run = dead(&vhost, &["drop", "orders"]).await;
    assert_eq!(run.code, Some(2), "{run:?}");
    assert!(run.stderr.contains("needs --yes"), "{run:?}");
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing/file");
    let to = ["drop", "orders", "--yes", "--to"];
    let run = dead(&vhost, &[&to[..], &[missing.to_str().unwrap()]].concat()).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    assert_eq!(vhost.ready("orders.dead").await, 150);

    let file = directory.path().join("dropped.jsonl");
    let only = [file.to_str().unwrap(), "--reason", "handler"];
    let run = dead(&vhost, &[&to[..], &only].concat()).await;
    assert_eq!(
        run.stdout,
        "orders.dead: 150 dead letters seen, 120 picked, 120 dropped\n"
    );
    let text = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 120);
    assert_eq!(
        (&lines[7]["id"], &lines[7]["body"]),
        (&"m-7".into(), &"body of m-7".into())
    );
    assert_eq!(vhost.ready("orders.dead").await, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_without_dead_letters_or_without_a_name_is_an_error_that_says_so() {
    let vhost = scene("quorum").await;
    let run = dead(&vhost, &["list", "unknown"]).await;
    assert_eq!(run.code, Some(1));
    assert!(
        run.stdout.contains("there is no queue \"unknown.dead\""),
        "{run:?}"
    );
    for (arguments, expected) in [
        (&["list"][..], "expected a QUEUE"),
        (&["list", "orders.dead"], "name the work queue"),
        (
            &["replay", "orders", "--since", "yesterday"],
            "such as \"2h\"",
        ),
        (&["replay", "orders", "--limit", "0"], "--limit"),
    ] {
        let run = dead(&vhost, arguments).await;
        assert_eq!(run.code, Some(2), "{run:?}");
        assert!(run.stderr.contains(expected), "{run:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_will_drop_letters_that_are_looked_at_is_warned_of() {
    let vhost = Vhost::new().await;
    let quorum = ("x-queue-type", AMQPValue::LongString("quorum".into()));
    let limit = ("x-delivery-limit", AMQPValue::LongLongInt(12));
    vhost.declare_with("orders.dead", [quorum, limit]).await;
    vhost
        .publish_messages("orders.dead", [Letter::new("a").message()])
        .await;
    let quiet = dead(&vhost, &["list", "orders"]).await;
    assert!(!quiet.stdout.contains("x-delivery-limit"), "{quiet:?}");
    let channel = vhost.channel().await;
    for _ in 0..5 {
        let got = channel.basic_get("orders.dead".into(), BasicGetOptions::default());
        let letter = within("basic.get", got).await.unwrap().unwrap();
        let rejected = letter.reject(BasicRejectOptions { requeue: true });
        within("basic.reject", rejected).await.unwrap();
        vhost.until_ready("orders.dead", 1).await;
    }
    let run = dead(&vhost, &["list", "orders"]).await;
    assert!(run.stdout.contains("(x-delivery-limit)"), "{run:?}");
    assert!(run.stdout.contains("more than 12 times"), "{run:?}");
    assert_eq!(vhost.ready("orders.dead").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_queue_of_a_configuration_is_listed() {
    let vhost = scene("classic").await;
    vhost.declare("bills.dead", "classic").await;
    for queue in ["orders", "bills"] {
        let letter = (
            BasicProperties::default().with_message_id(queue.into()),
            Vec::new(),
        );
        vhost
            .publish_messages(&format!("{queue}.dead"), [letter])
            .await;
    }
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    let handler = json!({"log": {}});
    let config = json!({
        "broker": {"url": vhost.url().as_str()},
        "node": [{"queue": "orders", "handler": handler}, {"queue": "bills", "handler": handler}],
    });
    std::fs::write(file.path(), config.to_string()).unwrap();
    let run = scene::run(&["list", "--json", "-c", file.path().to_str().unwrap()]).await;
    assert_eq!(ids(&run), ["orders", "bills"], "{run:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_worker_gave_up_is_listed_replayed_and_worked_on_anew() {
    let vhost = Vhost::new().await;
    let gate = Gate::open().await;
    gate.answer(|_| 400);
    let node = WorkerConfig::new(vhost.url()).node(
        "orders",
        &format!("handler = {{ http = {{ url = \"{}\" }} }}", gate.url()),
    );
    let mut worker = Worker::ready(&node).await;
    vhost.publish("orders", 3).await;
    vhost.until_ready("orders.dead", 3).await;
    let listed = dead(&vhost, &["list", "orders", "--reason", "handler", "--json"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let lines = listed.lines();
    assert_eq!(lines.len(), 3, "{listed:?}");
    assert_eq!(
        (&lines[0]["attempts"], &lines[0]["routing_key"]),
        (&1.into(), &"orders".into())
    );
    gate.answer(|_| 200);
    let replayed = dead(&vhost, &["replay", "orders", "--id", "1"]).await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    gate.finished(4).await;
    let replayed = dead(&vhost, &["replay", "orders"]).await;
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    gate.finished(6).await;
    worker.drained().await;
    assert_eq!(gate.ids()[3], "1", "the first that was replayed");
    for queue in ["orders", "orders.dead", "orders.replay"] {
        assert_eq!(vhost.ready(queue).await, 0, "{queue}");
    }
}

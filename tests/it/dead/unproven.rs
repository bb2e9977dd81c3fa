//! Headers that a message inherited, or that a stranger set, prove nothing: no letter is lost by them, or goes elsewhere.

use lapin::options::{BasicGetOptions, BasicRejectOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, ExchangeKind};
use serde_json::Value;

use super::scene::{Letter, dead, scene, taken_ids};
use crate::harness::vhost::Vhost;
use crate::harness::wait::within;

/// A message of its own that has the headers of `letter`, and more.
fn heir(letter: Letter, id: &str, more: &[(&str, &str)]) -> (BasicProperties, Vec<u8>) {
    let (properties, _) = letter.message();
    let mut headers = properties.headers().clone().unwrap_or_default();
    for (name, value) in more {
        headers.insert((*name).into(), AMQPValue::LongString((*value).into()));
    }
    let properties = properties.with_message_id(id.into()).with_headers(headers);
    (properties, format!("body of {id}").into_bytes())
}

/// A letter whose message had a time to live that is longer than brokers allow.
fn outlasting(id: &str) -> (BasicProperties, Vec<u8>) {
    let text = |text: &str| AMQPValue::LongString(text.into());
    let mut death = FieldTable::default();
    death.insert("queue".into(), text("orders"));
    death.insert("original-expiration".into(), text("9999999999999999999"));
    let deaths = AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into());
    let mut headers = FieldTable::default();
    headers.insert("x-death".into(), deaths);
    let properties = BasicProperties::default().with_message_id(id.into());
    (properties.with_headers(headers), Vec::new())
}

/// Rejects the next message of `queue`, so that the broker dead-letters it.
async fn reject(vhost: &Vhost, queue: &str) {
    let channel = vhost.channel().await;
    let got = channel.basic_get(queue.into(), BasicGetOptions::default());
    let message = within("basic.get", got).await.unwrap().unwrap();
    let rejected = message.reject(BasicRejectOptions { requeue: false });
    within("basic.reject", rejected).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_inherited_the_id_of_a_copy_are_all_sent() {
    let vhost = scene("quorum").await;
    let copy = || Letter::new("a").copy("01KTWIN").at("2026-01-01T00:00:00Z");
    let letters = [
        copy().message(),
        heir(copy(), "b", &[]),
        heir(copy(), "c", &[]),
        // Its content is another, although a worker made it.
        copy().body(b"another").message(),
        copy().message(),
    ];
    vhost.publish_messages("orders.dead", letters).await;
    for (dry, done) in [(Some("--dry-run"), "to be replayed"), (None, "replayed")] {
        let arguments: Vec<_> = ["replay", "orders"].into_iter().chain(dry).collect();
        let run = dead(&vhost, &arguments).await;
        assert_eq!(
            run.stdout,
            format!(
                "orders.dead: 5 dead letters seen, 5 picked, 4 {done}, 1 removed as second copies\n"
            )
        );
    }
    let bodies: Vec<_> = vhost.take_all("orders").await;
    let bodies = bodies
        .iter()
        .map(|sent| String::from_utf8_lossy(&sent.body));
    assert_eq!(
        bodies.collect::<Vec<_>>(),
        ["body of a", "body of b", "body of c", "another"]
    );
    assert_eq!(vhost.ready("orders.dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_inherited_another_queue_s_notes_goes_back_to_its_own_queue() {
    let vhost = scene("classic").await;
    let to_dead = [
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
        (
            "x-dead-letter-routing-key",
            AMQPValue::LongString("bills.dead".into()),
        ),
    ];
    vhost.declare_with("bills", to_dead).await;
    vhost.declare("bills.dead", "classic").await;
    let more = [("x-tidegate-expiration", "abc")];
    let inherited = heir(Letter::new("a"), "b", &more);
    // This one is a dead letter of `orders` in every byte: somebody moved it.
    let moved = Letter::new("a").message();
    vhost.publish_messages("bills", [inherited, moved]).await;
    for dead in 1..=2 {
        reject(&vhost, "bills").await;
        vhost.until_ready("bills.dead", dead).await;
    }
    let listed = dead(&vhost, &["list", "bills", "--json"]).await;
    for letter in listed.lines() {
        assert_eq!(letter["reason"], "rejected", "{letter}");
        assert_eq!(letter["routing_key"], "bills", "{letter}");
        for unproven in ["error", "attempts", "worker"] {
            assert_eq!(letter[unproven], Value::Null, "{letter}");
        }
    }
    let by_reason = ["drop", "bills", "--reason", "handler", "--yes"];
    let run = dead(&vhost, &by_reason).await;
    assert!(
        run.stdout.contains("2 dead letters seen, 0 picked"),
        "{run:?}"
    );
    let run = dead(&vhost, &["replay", "bills"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    assert_eq!(taken_ids(&vhost, "bills").await, ["b", "a"]);
    assert_eq!(vhost.ready("orders").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiration_that_is_no_number_ends_no_replay() {
    let vhost = scene("classic").await;
    let more = [("x-tidegate-expiration", "abc")];
    let letters = [
        heir(Letter::new("a"), "b", &more),
        heir(Letter::new("a"), "c", &[]),
    ];
    vhost.publish_messages("orders.dead", letters).await;
    let run = dead(&vhost, &["replay", "orders"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let taken = vhost.take_all("orders").await;
    let expirations = taken.iter().map(|sent| sent.properties.expiration());
    assert_eq!(expirations.collect::<Vec<_>>(), [&None, &None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_that_cannot_be_published_stays_and_the_others_are_sent() {
    let vhost = scene("classic").await;
    let channel = vhost.channel().await;
    let options = ExchangeDeclareOptions {
        internal: true,
        ..ExchangeDeclareOptions::default()
    };
    let declared = channel.exchange_declare(
        "inside".into(),
        ExchangeKind::Fanout,
        options,
        FieldTable::default(),
    );
    within("exchange.declare", declared).await.unwrap();
    let long = "k".repeat(300);
    let letters = [
        Letter::new("a").exchange("inside", "k").message(),
        Letter::new("b").exchange("", &long).message(),
        Letter::new("c").exchange("inside", &long).message(),
        Letter::new("d").exchange("", "orders.replay").message(),
        outlasting("e"),
        Letter::new("f").message(),
    ];
    vhost.publish_messages("orders.dead", letters).await;
    let run = dead(&vhost, &["replay", "orders", "--json"]).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    let report = run.json();
    let queue = &report["queues"][0];
    let counts = ["seen", "replayed", "failed"].map(|count| queue[count].as_u64().unwrap());
    assert_eq!(counts, [6, 1, 5], "{report}");
    for (fault, expected) in ["403", "255 bytes", "255 bytes", "is the journal", "406"]
        .iter()
        .enumerate()
    {
        let error = queue["faults"][fault]["error"].as_str().unwrap();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(taken_ids(&vhost, "orders").await, ["f"]);
    assert_eq!(
        taken_ids(&vhost, "orders.dead").await,
        ["a", "b", "c", "d", "e"]
    );
    assert_eq!(vhost.ready("orders.replay").await, 0, "no entry is left");
}

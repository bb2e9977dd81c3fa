//! What a replay sends, and what it leaves.

use std::collections::BTreeSet;

use lapin::types::AMQPValue;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::scene::{Letter, dead, scene, shop, spawn, taken_ids};
use crate::harness::proxy::{Direction, Proxy};
use crate::harness::run::ended;
use crate::harness::vhost::Vhost;

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_message_is_as_it_was_before_it_died() {
    for kind in ["quorum", "classic"] {
        let vhost = scene(kind).await;
        vhost
            .publish_messages("orders.dead", [Letter::new("a").message()])
            .await;
        let run = dead(&vhost, &["replay", "orders", "--json"]).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(run.json()["queues"][0]["replayed"], 1);
        let taken = vhost.take_all("orders").await;
        let [message] = &taken[..] else {
            panic!("{taken:?}");
        };
        assert_eq!((&*message.id, &message.body[..]), ("a", &b"body of a"[..]));
        assert_eq!(*message.properties.priority(), Some(3));
        let headers = message.properties.headers().as_ref().unwrap().inner();
        let names: Vec<_> = headers.keys().map(ToString::to_string).collect();
        let own: Vec<_> = names
            .iter()
            .filter(|name| *name != "x-delivery-count")
            .collect();
        assert_eq!(own, ["tenant", "x-tidegate-replay"]);
        assert_eq!(vhost.ready("orders.dead").await, 0);
        assert_eq!(
            vhost.ready("orders.replay").await,
            0,
            "the journal is empty"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_goes_to_its_original_exchange_or_straight_to_its_queue() {
    let vhost = scene("quorum").await;
    shop(&vhost).await;
    let letters = ["a", "b"].map(|id| Letter::new(id).exchange("shop", "order.new").message());
    vhost.publish_messages("orders.dead", letters).await;
    let run = dead(&vhost, &["replay", "orders", "--id", "a"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let run = dead(&vhost, &["replay", "orders", "--to-queue"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let taken = vhost.take_all("orders").await;
    let found: Vec<_> = taken
        .iter()
        .map(|message| (&*message.id, &*message.exchange, &*message.routing_key))
        .collect();
    assert_eq!(found, [("a", "shop", "order.new"), ("b", "", "orders")]);
    assert_eq!(taken_ids(&vhost, "audit").await, ["a"]);
    assert_eq!(
        vhost.ready("orders.replay").await,
        0,
        "the journal is empty"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_of_the_broker_s_own_dead_lettering_goes_where_x_death_says() {
    let vhost = scene("classic").await;
    let arguments = [
        ("x-dead-letter-exchange", AMQPValue::LongString("".into())),
        (
            "x-dead-letter-routing-key",
            AMQPValue::LongString("lost.dead".into()),
        ),
        ("x-message-ttl", AMQPValue::LongLongInt(1)),
    ];
    vhost.declare("lost.dead", "classic").await;
    vhost.declare_with("lost", arguments).await;
    vhost.publish("lost", 1).await;
    vhost.until_ready("lost.dead", 1).await;
    vhost.delete("lost").await;
    vhost.declare("lost", "classic").await;
    let run = dead(&vhost, &["list", "lost", "--reason", "expired", "--json"]).await;
    assert_eq!(run.lines().len(), 1, "{run:?}");
    let run = dead(&vhost, &["replay", "lost"]).await;
    assert_eq!(run.code, Some(0), "{run:?}");
    let taken = vhost.take_all("lost").await;
    let headers = taken[0].properties.headers().as_ref().unwrap();
    assert!(!headers.inner().contains_key("x-death"), "{headers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_twins_only_one_is_sent() {
    let vhost = scene("quorum").await;
    let twin = Letter::new("a").message();
    let letters = [twin.clone(), Letter::new("b").message(), twin];
    vhost.publish_messages("orders.dead", letters).await;
    let run = dead(&vhost, &["replay", "orders"]).await;
    assert_eq!(
        run.stdout,
        "orders.dead: 3 dead letters seen, 3 picked, 2 replayed, 1 removed as second copies\n"
    );
    assert_eq!(taken_ids(&vhost, "orders").await, ["a", "b"]);
    assert_eq!(vhost.ready("orders.dead").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_full_queue_refuses_stays_among_the_dead() {
    for kind in ["quorum", "classic"] {
        let vhost = Vhost::new().await;
        let arguments = [
            ("x-queue-type", AMQPValue::LongString(kind.into())),
            ("x-max-length", AMQPValue::LongLongInt(5)),
            ("x-overflow", AMQPValue::LongString("reject-publish".into())),
        ];
        vhost.declare_with("orders", arguments).await;
        vhost.declare("orders.dead", kind).await;
        let all: BTreeSet<_> = (0..20).map(|number| format!("m-{number:02}")).collect();
        let letters = all.iter().map(|id| Letter::new(id).message());
        vhost.publish_messages("orders.dead", letters).await;
        let run = dead(&vhost, &["replay", "orders", "--json"]).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        let report = run.json();
        let queue = &report["queues"][0];
        assert_eq!(queue["seen"], 20);
        let error = queue["faults"][0]["error"].as_str().unwrap();
        assert!(
            error.starts_with("queue \"orders\": the message was not accepted"),
            "{error}"
        );
        assert_eq!(
            vhost.ready("orders.replay").await,
            0,
            "the journal is empty"
        );
        let sent = taken_ids(&vhost, "orders").await;
        let left = taken_ids(&vhost, "orders.dead").await;
        assert_eq!(queue["replayed"], sent.len());
        assert_eq!(queue["failed"], left.len());
        let both: BTreeSet<_> = sent.iter().chain(&left).cloned().collect();
        assert_eq!((both, sent.len() + left.len()), (all, 20), "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_missing_is_named_and_its_letters_stay() {
    let vhost = scene("quorum").await;
    shop(&vhost).await;
    let letters = [
        Letter::new("a").exchange("", "nowhere").message(),
        Letter::new("b").exchange("nowhere", "k").message(),
        Letter::new("c").exchange("shop", "unbound").message(),
        Letter::new("d").message(),
    ];
    vhost.publish_messages("orders.dead", letters).await;
    let run = dead(&vhost, &["replay", "orders", "--json"]).await;
    assert_eq!(run.code, Some(1));
    let report = run.json();
    let queue = &report["queues"][0];
    assert_eq!(
        (&queue["replayed"], &queue["failed"]),
        (&1.into(), &3.into()),
        "{report}"
    );
    for (index, expected) in [
        "queue \"nowhere\": queue.declare: the broker refused with 404",
        "exchange \"nowhere\" with routing key \"k\": exchange.declare: the broker refused with 404",
        "exchange \"shop\" with routing key \"unbound\": the message was not accepted: it came back",
    ]
    .iter()
    .enumerate()
    {
        let error = queue["faults"][index]["error"].as_str().unwrap();
        assert!(error.starts_with(expected), "{error}");
    }
    assert_eq!(taken_ids(&vhost, "orders").await, ["d"]);
    assert_eq!(taken_ids(&vhost, "orders.dead").await, ["a", "b", "c"]);
    assert_eq!(
        vhost.ready("orders.replay").await,
        0,
        "the journal is empty"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_ends_a_replay_in_order() {
    let vhost = scene("quorum").await;
    let letters = (0..50).map(|number| Letter::new(&format!("m-{number}")).message());
    vhost.publish_messages("orders.dead", letters).await;
    let proxy = Proxy::start(vhost.url()).await;
    let held = proxy.hold(Direction::ToClient, |event| event.is("basic.ack"));
    let child = spawn(&proxy.url(vhost.url()), &["replay", "orders", "--json"]);
    held.holds_one().await;
    let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    // It waits for the confirm, removes that letter, and ends.
    held.release();
    let run = ended(child).await;
    assert_eq!(run.code, Some(1), "{run:?}");
    let report = run.json();
    assert_eq!(report["outcome"], "stopped", "{report}");
    let replayed = report["queues"][0]["replayed"].as_u64().unwrap();
    assert!((1..50).contains(&replayed), "{report}");
    assert_eq!(u64::from(vhost.ready("orders").await), replayed);
    vhost
        .until_ready("orders.dead", u32::try_from(50 - replayed).unwrap())
        .await;
    assert_eq!(vhost.ready("orders.replay").await, 0);
}

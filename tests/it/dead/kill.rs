//! A replay that is killed at any point: nothing is lost, nothing is doubled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lapin::types::{AMQPValue, FieldTable};

use super::scene::{Letter, dead, scene, shop, spawn};
use crate::harness::proxy::{Direction, Proxy};
use crate::harness::run::Run;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, within};

/// Letters replayed in all.
const LETTERS: usize = 1_000;
/// Frames after which, at the latest, a replay is killed; a letter takes about 15.
const FRAMES: usize = 1_200;
/// Frames before a replay has begun to send, at least.
const OPENING: usize = 20;

/// Starts a replay, holds everything on the wire from some frame on, and kills it (SIGKILL). What is held goes on to
/// the broker or is lost with the connection. `false` where the replay ended before that frame.
async fn kill_at(vhost: &Vhost, frame: usize, delivered: bool, arguments: &[&str]) -> bool {
    let proxy = Proxy::start(vhost.url()).await;
    let count = Arc::new(AtomicUsize::new(0));
    let late = |count: &Arc<AtomicUsize>| {
        let count = Arc::clone(count);
        move |_: &_| count.fetch_add(1, Ordering::SeqCst) >= frame
    };
    let to_broker = proxy.hold(Direction::ToBroker, late(&count));
    let to_client = proxy.hold(Direction::ToClient, late(&count));
    let mut child = spawn(&proxy.url(vhost.url()), arguments);
    let killed = eventually("the frame is held or the replay ends", async || {
        if to_broker.caught() + to_client.caught() > 0 {
            return Ok(true);
        }
        match child.try_wait() {
            Ok(Some(_status)) => Ok(false),
            _ => Err(format!("{} frames", count.load(Ordering::SeqCst))),
        }
    })
    .await;
    within("its end", child.kill()).await.unwrap();
    if delivered {
        to_broker.release();
        to_client.release();
    }
    proxy.cut();
    killed
}

/// How often each message is in one of `queues`.
async fn counted(vhost: &Vhost, queues: &[&str]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for queue in queues {
        for message in vhost.take_all(queue).await {
            *counts.entry(message.id).or_default() += 1;
        }
    }
    counts
}

/// Replays until everything is done, and says how often a replay was killed.
async fn kill_in_a_loop(vhost: &Vhost, arguments: &[&str]) -> (usize, Run) {
    for round in 0.. {
        let frame = rand::random_range(OPENING..FRAMES);
        if round > 300 || !kill_at(vhost, frame, rand::random(), arguments).await {
            // What the last one that was killed had taken may be on its way back.
            let last = eventually("a replay finds everything done", async || {
                let run = dead(vhost, arguments).await;
                let ready = vhost.ready("orders.dead").await;
                let unacked = run.json()["queues"][0]["seen"].as_u64() != Some(0);
                let in_doubt = run.json()["queues"][0]["in_doubt"].as_u64().unwrap_or(0);
                if u64::from(ready) == in_doubt && (!unacked || in_doubt > 0) {
                    Ok(run)
                } else {
                    Err(format!("{ready} are left: {}", run.stdout))
                }
            })
            .await;
            return (round, last);
        }
    }
    unreachable!("the loop has a limit")
}

async fn nothing_lost_nothing_doubled(kind: &str) {
    let vhost = scene(kind).await;
    let letters = (0..LETTERS).map(|number| {
        // Some are the same in every byte but their ids.
        let (properties, _) = Letter::new(&format!("m-{number:04}")).message();
        (properties, b"same".to_vec())
    });
    vhost.publish_messages("orders.dead", letters).await;
    let (kills, _) = kill_in_a_loop(&vhost, &["replay", "orders", "--json"]).await;
    assert!(kills > 3, "{kills} kills: raise the number of letters");
    let counts = counted(&vhost, &["orders", "orders.dead"]).await;
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "after {kills} kills: {doubled:?}");
    assert_eq!(counts.len(), LETTERS, "lost after {kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_killed_again_and_again_loses_none_and_doubles_none_on_quorum_queues() {
    nothing_lost_nothing_doubled("quorum").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_killed_again_and_again_loses_none_and_doubles_none_on_classic_queues() {
    nothing_lost_nothing_doubled("classic").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_that_are_the_same_in_every_byte_are_counted_not_confused() {
    let vhost = scene("quorum").await;
    let mut headers = FieldTable::default();
    headers.insert("k".into(), AMQPValue::LongString("v".into()));
    let properties = lapin::BasicProperties::default().with_headers(headers);
    let letters = (0..100).map(|_| (properties.clone(), b"same".to_vec()));
    vhost.publish_messages("orders.dead", letters).await;
    let (kills, _) = kill_in_a_loop(&vhost, &["replay", "orders", "--json"]).await;
    let counts = counted(&vhost, &["orders"]).await;
    assert_eq!(counts[""], 100, "after {kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn to_an_exchange_a_killed_replay_leaves_letters_in_doubt_and_none_lost_or_doubled() {
    let vhost = scene("quorum").await;
    shop(&vhost).await;
    let letters = (0..200).map(|number| {
        let letter = Letter::new(&format!("m-{number:04}"));
        letter.exchange("shop", "order.new").message()
    });
    vhost.publish_messages("orders.dead", letters).await;
    let (kills, last) = kill_in_a_loop(&vhost, &["replay", "orders", "--json"]).await;
    let report = last.json();
    let in_doubt = usize::try_from(report["queues"][0]["in_doubt"].as_u64().unwrap()).unwrap();
    assert!(in_doubt <= kills, "{kills} kills: {report}");
    if in_doubt > 0 {
        assert_eq!(last.code, Some(1), "{report}");
        let error = report["queues"][0]["faults"][0]["error"].as_str().unwrap();
        assert!(error.contains("--in-doubt"), "{error}");
    }
    let arrived = counted(&vhost, &["orders"]).await;
    assert!(arrived.values().all(|count| *count == 1), "{arrived:?}");
    let left = counted(&vhost, &["orders.dead"]).await;
    assert_eq!(left.len(), in_doubt);
    let mut all = arrived;
    all.extend(left);
    assert_eq!(all.len(), 200, "lost after {kills} kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_in_doubt_is_sent_or_removed_as_told() {
    for (told, arrived) in [("replay", 1), ("drop", 0)] {
        let vhost = scene("quorum").await;
        shop(&vhost).await;
        let letter = Letter::new("a").exchange("shop", "order.new").message();
        vhost.publish_messages("orders.dead", [letter]).await;
        let proxy = Proxy::start(vhost.url()).await;
        // The intent's publish passes, and nothing behind it.
        let publishes = AtomicUsize::new(0);
        let held = proxy.hold(Direction::ToBroker, move |event| {
            event.is("basic.publish") && publishes.fetch_add(1, Ordering::SeqCst) > 0
        });
        let mut child = spawn(&proxy.url(vhost.url()), &["replay", "orders"]);
        held.holds_one().await;
        within("its end", child.kill()).await.unwrap();
        proxy.cut();
        vhost.until_ready("orders.dead", 1).await;
        let run = dead(&vhost, &["replay", "orders"]).await;
        assert_eq!(run.code, Some(1), "{run:?}");
        assert!(run.stdout.contains("1 in doubt and left"), "{run:?}");
        let run = dead(&vhost, &["replay", "orders", "--in-doubt", told]).await;
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(vhost.ready("orders").await, arrived);
        for queue in ["orders.dead", "orders.replay"] {
            assert_eq!(vhost.ready(queue).await, 0, "{queue}");
        }
    }
}

//! The order of a drain on the wire, between the worker and the broker.

use std::collections::BTreeSet;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::AMQPMethod;

use crate::harness::gate::Gate;
use crate::harness::proxy::{Direction, Event, Log, Proxy};
use crate::harness::status::StatusTap;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

fn to_broker(event: &Event, connection: u32, method: &str) -> bool {
    event.connection == connection
        && event.direction() == Some(Direction::ToBroker)
        && event.is(method)
}

fn nack(event: &Event) -> Option<bool> {
    match event.method() {
        Some(AMQPClass::Basic(AMQPMethod::Nack(nack))) => Some(nack.requeue),
        _ => None,
    }
}

/// The place of the first `method` that the client sent on `connection` from `from` on.
fn sent(log: &Log, connection: u32, from: usize, method: &str) -> usize {
    let what = format!("{method} on connection {connection}");
    let wanted = |event: &Event| event.seq >= from && to_broker(event, connection, method);
    log.first(&what, wanted).seq
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_goes_over_the_wire_in_the_order_of_its_steps() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 40).await;
    let tap = StatusTap::start(&vhost).await;
    let proxy = Proxy::start(vhost.url()).await;
    let gate = Gate::closed().await;
    let config = WorkerConfig::for_orders(
        &proxy.url(vhost.url()),
        &gate,
        "concurrency = 4\nprefetch = 16",
    )
    .tables("[heartbeat]\nbusy = \"1s\"\nidle = \"1s\"");
    let mut worker = Worker::ready(&config).await;
    gate.release(10);
    gate.finished(10).await;
    gate.started(14).await;
    vhost.until_ready("orders", 40 - 10 - 16).await;
    tap.state("running").await;
    let begun = proxy.now();
    worker.terminate();
    worker.logged("drain begins").await;
    vhost.until_ready("orders", 40 - 10 - 4).await;
    // Longer than a lease is renewed at: nothing but the draining state may be said meanwhile.
    tap.state("draining").await;
    gate.release_all();
    worker.ended_with(0).await;
    tap.drain().await;

    let log = proxy.log();
    let consume = log.connection_named("consume");
    let publish = log.connection_named("publish");
    let cancel = sent(&log, consume, begun, "basic.cancel");
    let cancel_ok = log
        .first("cancel-ok", |event| event.is("basic.cancel-ok"))
        .seq;
    let channel_close = sent(&log, consume, cancel, "channel.close");
    let channel_close_ok = log
        .first("close-ok of the consume channel", |event| {
            event.connection == consume && event.seq > channel_close && event.is("channel.close-ok")
        })
        .seq;
    let hand_backs = log.all(|event| nack(event).is_some());
    assert_eq!(hand_backs.len(), 12, "{log}");
    for hand_back in &hand_backs {
        assert_eq!(nack(hand_back), Some(true), "handed back means requeued");
        assert!(
            cancel < hand_back.seq,
            "the cancel comes before any hand-back\n{log}"
        );
        assert!(
            cancel_ok < hand_back.seq,
            "the set of deliveries is final first\n{log}"
        );
        assert!(hand_back.seq < channel_close, "{log}");
    }
    let last_ack = log
        .last("ack", |event| to_broker(event, consume, "basic.ack"))
        .seq;
    assert!(
        hand_backs[0].seq < last_ack,
        "what waits goes back before what runs is done\n{log}"
    );
    assert!(last_ack < channel_close, "{log}");
    assert!(
        !log.events().iter().any(|event| event.is("basic.reject")),
        "{log}"
    );

    let status: Vec<_> = log
        .published()
        .into_iter()
        .filter(|message| message.connection == publish && message.seq >= begun)
        // A beat may have been on its way when the signal came.
        .skip_while(|message| message.seq < cancel && message.routing_key.starts_with("beat."))
        .collect();
    let keys: Vec<&str> = status
        .iter()
        .map(|message| message.routing_key.split('.').next().unwrap_or_default())
        .collect();
    assert_eq!(
        keys,
        ["state", "drain"],
        "no beat, and nothing after the report\n{log}"
    );
    let report = status[1].seq;
    assert!(
        channel_close_ok < report,
        "the report knows that the acks arrived\n{log}"
    );
    let confirm = log
        .first("confirm of the report", |event| {
            event.connection == publish
                && event.seq > report
                && event.direction() == Some(Direction::ToClient)
                && event.is("basic.ack")
        })
        .seq;
    let status_close = sent(&log, publish, report, "channel.close");
    let consume_close = sent(&log, consume, begun, "connection.close");
    let publish_close = sent(&log, publish, begun, "connection.close");
    let order = [report, confirm, status_close, consume_close, publish_close];
    assert!(order.is_sorted(), "{order:?}\n{log}");
    for connection in [consume, publish] {
        log.first("connection.close-ok", |event| {
            event.connection == connection && event.is("connection.close-ok")
        });
    }
    assert_eq!(log.connection_names().len(), 2, "two connections in all");
}

/// How many deliveries of a channel the client has acknowledged.
fn acknowledged(log: &Log) -> u64 {
    let (mut prefix, mut others) = (0, BTreeSet::new());
    for event in log.methods() {
        match event.method() {
            Some(AMQPClass::Basic(AMQPMethod::Ack(ack)))
                if event.direction() == Some(Direction::ToBroker) =>
            {
                others.insert(ack.delivery_tag);
                prefix = prefix.max(if ack.multiple { ack.delivery_tag } else { 0 });
            }
            _ => {}
        }
    }
    prefix + others.range(prefix + 1..).count() as u64
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_waits_for_more_is_written_though_none_follows() {
    const BURST: u64 = 12;
    let vhost = Vhost::with_queue("orders", "classic").await;
    let proxy = Proxy::start(vhost.url()).await;
    let lines = "declare = false\nconcurrency = 1\nprefetch = 1000\nretry = { max_attempts = 1 }\n\
                 handler = { log = { print = \"none\" } }";
    let config = WorkerConfig::new(&proxy.url(vhost.url())).node("orders", lines);
    let mut worker = Worker::ready(&config).await;
    for round in 1..=20 {
        vhost
            .publish("orders", usize::try_from(BURST).unwrap())
            .await;
        eventually("all of the burst is acknowledged", async || {
            let found = acknowledged(&proxy.log());
            expect_that(found == round * BURST, || format!("{found}"))
        })
        .await;
    }
    worker.drained().await;
}

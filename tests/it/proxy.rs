//! The recording proxy between a real client and a real broker.

use std::sync::{Arc, Mutex};

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, basic, connection};
use futures_util::StreamExt as _;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, Consumer, Event as LinkEvent};

use crate::harness::proxy::{Direction, Proxy, Side};
use crate::harness::vhost::{Vhost, connect};
use crate::harness::wait::{eventually, expect_that, within};

/// A virtual host with the queue `q`, and a proxy before it.
async fn proxied() -> (Vhost, Proxy) {
    let vhost = Vhost::with_queue("q", "classic").await;
    let proxy = Proxy::start(vhost.url()).await;
    (vhost, proxy)
}

async fn client(vhost: &Vhost, proxy: &Proxy) -> (Connection, Channel) {
    let connection = within(
        "a connection",
        connect(&proxy.url(vhost.url()), "through the proxy"),
    )
    .await
    .unwrap();
    let channel = within("a channel", connection.create_channel())
        .await
        .unwrap();
    (connection, channel)
}

async fn consumer(channel: &Channel) -> Consumer {
    let consume = channel.basic_consume(
        "q".into(),
        "c".into(),
        BasicConsumeOptions::default(),
        FieldTable::default(),
    );
    within("basic.consume", consume).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_is_recorded_in_order_and_unaltered() {
    let (vhost, proxy) = proxied().await;
    let (connection, channel) = client(&vhost, &proxy).await;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await
        .unwrap();
    let mut consumer = consumer(&channel).await;
    // Several frames: the client's frames end at 128 KiB.
    let body: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let properties = BasicProperties::default().with_message_id("one".into());
    let options = BasicPublishOptions::default();
    let confirm = channel.basic_publish("".into(), "q".into(), options, &body, properties);
    within("the confirm", confirm.await.unwrap()).await.unwrap();
    let delivery = within("the delivery", consumer.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(delivery.data, body);
    channel
        .basic_ack(delivery.delivery_tag, BasicAckOptions::default())
        .await
        .unwrap();
    within("channel.close", channel.close(200, "OK".into()))
        .await
        .unwrap();
    within("connection.close", connection.close(200, "OK".into()))
        .await
        .unwrap();
    proxy
        .seen("the end", |event| event.name() == "closed")
        .await;

    let log = proxy.log();
    assert_eq!(
        log.sent(1),
        [
            "connection.start-ok",
            "connection.tune-ok",
            "connection.open",
            "channel.open",
            "confirm.select",
            "basic.consume",
            "basic.publish",
            "basic.ack",
            "channel.close",
            "connection.close",
        ]
    );
    assert!(log.methods().iter().all(|event| event.is(&event.name())));
    assert_eq!(log.events()[0].name(), "opened");
    assert_eq!(log.events()[1].name(), "protocol-header");
    assert!(
        log.events()
            .iter()
            .enumerate()
            .all(|(place, event)| event.seq == place)
    );
    let ack = log.first("ack of the client", |event| {
        event.is("basic.ack") && event.direction() == Some(Direction::ToBroker)
    });
    let Some(AMQPClass::Basic(basic::AMQPMethod::Ack(arguments))) = ack.method() else {
        panic!("an ack has arguments");
    };
    assert_eq!(arguments.delivery_tag, 1);
    let delivered = log.first("delivery", |event| event.is("basic.deliver"));
    let closed = log.first("close-ok", |event| event.is("channel.close-ok"));
    assert!(delivered.seq < ack.seq && ack.seq < closed.seq, "{log}");
    assert!(closed.direction() == Some(Direction::ToClient));

    let published = log.published();
    assert_eq!(published.len(), 1);
    assert_eq!(
        (published[0].connection, published[0].channel),
        (1, channel.id())
    );
    assert_eq!(published[0].exchange, "");
    assert_eq!(published[0].routing_key, "q");
    assert_eq!(
        published[0]
            .properties
            .message_id()
            .as_ref()
            .unwrap()
            .as_str(),
        "one"
    );
    assert_eq!(published[0].body[..1000], body[..1000]);
    assert_eq!(log.connection_named("proxy"), 1);
    assert!(
        !log.to_string().contains("PLAIN"),
        "credentials are printed:\n{log}"
    );
    vhost.until_ready("q", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_can_be_made_to_arrive_during_a_cancel() {
    let (vhost, proxy) = proxied().await;
    let (_connection, channel) = client(&vhost, &proxy).await;
    let mut consumer = consumer(&channel).await;
    let hold = proxy.hold(Direction::ToBroker, |event| event.is("basic.cancel"));
    let cancel = tokio::spawn(async move {
        channel
            .basic_cancel("c".into(), lapin::options::BasicCancelOptions::default())
            .await
    });
    hold.holds_one().await;
    vhost.publish("q", 1).await;
    let delivery = within("the delivery", consumer.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(delivery.data, b"0");
    assert!(!cancel.is_finished());
    hold.release();
    within("cancel-ok", cancel).await.unwrap().unwrap();
    let log = proxy.log();
    let deliver = log.first("delivery", |event| event.is("basic.deliver"));
    let cancel = log.first("cancel", |event| event.is("basic.cancel"));
    assert!(deliver.seq < cancel.seq, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_frame_stops_its_channel_and_no_other() {
    let (vhost, proxy) = proxied().await;
    vhost.publish("q", 2).await;
    let (connection, first) = client(&vhost, &proxy).await;
    let second = within("a channel", connection.create_channel())
        .await
        .unwrap();
    let held_channel = first.id();
    let hold = proxy.hold(Direction::ToClient, move |event| {
        event.channel == held_channel && event.is("basic.get-ok")
    });
    let get = tokio::spawn(async move {
        first
            .basic_get("q".into(), lapin::options::BasicGetOptions { no_ack: true })
            .await
    });
    hold.holds_one().await;
    let other = second.basic_get("q".into(), lapin::options::BasicGetOptions { no_ack: true });
    let other = within("the other channel's answer", other)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(other.delivery.data, b"1");
    assert!(!get.is_finished());
    hold.release();
    let got = within("the held answer", get)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(got.delivery.data, b"0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_ends_every_connection_and_refusal_keeps_new_ones_out() {
    let (vhost, proxy) = proxied().await;
    let (first, _) = client(&vhost, &proxy).await;
    let (second, _) = client(&vhost, &proxy).await;
    proxy.refuse(true);
    proxy.cut();
    eventually("both connections are gone", async || {
        let connected = (first.status().connected(), second.status().connected());
        expect_that(connected == (false, false), || format!("{connected:?}"))
    })
    .await;
    let refused = within(
        "the refusal",
        connect(&proxy.url(vhost.url()), "through the proxy"),
    )
    .await;
    assert!(refused.is_err());
    proxy.refuse(false);
    client(&vhost, &proxy).await;
    let log = proxy.log();
    for cut in 1..=3 {
        assert_eq!(
            log.closed(cut).map(|(_, side)| side),
            Some(Side::Proxy),
            "{log}"
        );
    }
    assert_eq!(log.closed(4), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_direction_passes_nothing_and_goes_on_when_thawed() {
    let (vhost, proxy) = proxied().await;
    let (_connection, channel) = client(&vhost, &proxy).await;
    let mut consumer = consumer(&channel).await;
    proxy.freeze(Direction::ToClient, true);
    vhost.publish("q", 1).await;
    // The other direction still works: the broker gets a message and keeps it.
    vhost.declare("other", "classic").await;
    let body = b"up";
    let publish = channel.basic_publish(
        "".into(),
        "other".into(),
        BasicPublishOptions::default(),
        body,
        BasicProperties::default(),
    );
    within("the write", publish).await.unwrap();
    vhost.until_ready("other", 1).await;
    assert!(
        proxy
            .log()
            .position(|event| event.is("basic.deliver"))
            .is_none()
    );
    proxy.freeze(Direction::ToClient, false);
    let delivery = within("the delivery", consumer.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(delivery.data, b"0");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_injected_frame_reaches_the_client() {
    let (vhost, proxy) = proxied().await;
    let (connection, _channel) = client(&vhost, &proxy).await;
    let mut events = connection.events_listener();
    let reason = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&reason);
    let listening = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let LinkEvent::ConnectionBlocked(why) = event {
                *seen.lock().unwrap() = Some(why);
                return;
            }
        }
    });
    let blocked = connection::Blocked {
        reason: "low on memory".into(),
    };
    let method = AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked));
    proxy.inject(1, AMQPFrame::Method(0, method));
    within("the event", listening).await.unwrap();
    assert_eq!(reason.lock().unwrap().as_deref(), Some("low on memory"));
    assert!(
        proxy
            .log()
            .position(|event| event.is("connection.blocked"))
            .is_some()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_that_an_administrator_closed_a_connection() {
    let (vhost, proxy) = proxied().await;
    let (_connection, _channel) = client(&vhost, &proxy).await;
    eventually("the proxy's connection is closed", async || {
        let closed = vhost.close_connections("through the proxy").await;
        expect_that(closed == 1, || format!("{closed} closed"))
    })
    .await;
    let close = proxy.seen_method("connection.close").await;
    assert_eq!(close.direction(), Some(Direction::ToClient));
    assert!(close.to_string().contains("reply_code: 320"), "{close}");
    let end = proxy
        .seen("the end", |event| event.name() == "closed")
        .await;
    assert!(close.seq < end.seq);
}

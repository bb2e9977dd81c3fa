//! Several hosts, several addresses, credentials that change: where a worker connects, and with what.

use amq_protocol::frame::AMQPFrame;
use amq_protocol::protocol::{AMQPClass, basic, connection};
use serde_json::json;
use tokio::net::TcpListener;
use url::Url;

use crate::harness::gate::Gate;
use crate::harness::proxy::{Event, Proxy, Side};
use crate::harness::user::User;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

/// A host that accepts connections and never says a word.
async fn silent() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn at(url: &Url, port: u16) -> Url {
    let mut url = url.clone();
    url.set_host(Some("127.0.0.1")).unwrap();
    url.set_port(Some(port)).unwrap();
    url
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_host_is_left_for_another() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 3).await;
    let (_listener, port) = silent().await;
    let real = vhost.url();
    let other = format!(
        "{}:{}",
        real.host_str().unwrap(),
        real.port().unwrap_or(5672)
    );
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(&at(real, port), &gate, "").broker(&format!(
        "connect_timeout = \"500ms\"\nhosts = [\"{other}\"]"
    ));
    let mut worker = Worker::ready(&config).await;
    gate.finished(3).await;
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_goes_is_replaced_by_the_next() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let (first, second) = (
        Proxy::start(vhost.url()).await,
        Proxy::start(vhost.url()).await,
    );
    let (a, b) = (first.url(vhost.url()), second.url(vhost.url()));
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(&a, &gate, "")
        .broker(&format!("hosts = [\"127.0.0.1:{}\"]", b.port().unwrap()));
    let mut worker = Worker::ready(&config).await;
    first.refuse(true);
    first.cut();
    worker.until_ready().await;
    vhost.publish("orders", 5).await;
    gate.finished(5).await;
    second.seen_method("basic.ack").await;
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_read_again_at_each_attempt() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let user = User::new(&vhost, ".*", ".*", ".*").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, format!("{}\n", user.url().password().unwrap())).unwrap();
    let mut url = user.url().clone();
    url.set_password(None).unwrap();
    let proxy = Proxy::start(&url).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(&proxy.url(&url), &gate, "")
        .broker(&format!("password_file = '{}'", file.display()));
    let mut worker = Worker::ready(&config).await;
    let rotated = json!({"password": "rotated", "tags": ""});
    let path = format!("/api/users/{}", user.url().username());
    vhost.management().put(&path, &rotated).await.unwrap();
    std::fs::write(&file, "rotated\n").unwrap();
    proxy.cut();
    vhost.publish("orders", 4).await;
    gate.finished(4).await;
    worker.drained().await;
    let log = worker.log().text();
    assert!(!log.contains("ACCESS_REFUSED"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_of_a_worker_is_closed_in_order() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let proxy = Proxy::start(vhost.url()).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(&proxy.url(vhost.url()), &gate, "");
    let mut worker = Worker::ready(&config).await;
    worker.drained().await;
    let log = proxy.log();
    let names = log.connection_names();
    for connection in names.keys() {
        let sent = log.sent(*connection);
        assert_eq!(
            sent.last().map(String::as_str),
            Some("connection.close"),
            "{log}"
        );
        let closed = log.closed(*connection);
        assert!(closed.is_some_and(|(_, side)| matches!(side, Side::Client | Side::Broker)));
    }
    let opened = log.all(|event| event.name() == "opened").len();
    assert_eq!(opened, names.len(), "a connection without a login: {log}");
}

fn consumes(event: &Event, queue: &str) -> bool {
    match event.method() {
        Some(AMQPClass::Basic(basic::AMQPMethod::Consume(consume))) => {
            consume.queue.as_str() == queue
        }
        _ => false,
    }
}

/// The prefetch of each consumer on `connection`, in their order.
fn prefetches(proxy: &Proxy, connection: u32) -> Vec<u16> {
    let of_it = |event: &Event| event.connection == connection;
    let log = proxy.log();
    let events = log.all(of_it);
    let prefetch = events.iter().filter_map(|event| match event.method() {
        Some(AMQPClass::Basic(basic::AMQPMethod::Qos(qos))) => Some(qos.prefetch_count),
        _ => None,
    });
    prefetch.collect()
}

/// What RabbitMQ does if it cannot convert a message for AMQP 0-9-1: it closes the connection that it would deliver
/// the message on.
async fn close_whoever_consumes(proxy: &Proxy, queue: &str) {
    let mut from = 0;
    loop {
        let wanted = |event: &Event| event.seq >= from && consumes(event, queue);
        let consume = proxy.seen("another basic.consume", wanted).await;
        from = consume.seq + 1;
        let close = connection::AMQPMethod::Close(connection::Close {
            reply_code: 541,
            reply_text: "INTERNAL_ERROR".into(),
            class_id: 0,
            method_id: 0,
        });
        let frame = AMQPFrame::Method(0, AMQPClass::Connection(close));
        // A connection has more than one of them, and an earlier one may have ended it.
        proxy.inject_if_open(consume.connection, frame);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_the_broker_cannot_deliver_disturbs_no_other() {
    let vhost = Vhost::with_queue("good", "quorum").await;
    vhost.declare("bad", "quorum").await;
    let proxy = Proxy::start(vhost.url()).await;
    let gate = Gate::open().await;
    let config = WorkerConfig::new(&proxy.url(vhost.url()))
        .http_node("good", &gate.url(), "")
        .http_node("bad", &gate.url(), "");
    let mut worker = Worker::spawn(&config);
    let test = async {
        let part = "this node gets one of its own";
        let parted = |line: &crate::harness::worker::LogLine| {
            line.message().contains(part) && line.text("queue") == "good"
        };
        worker.logged_where("the node parts", parted).await;
        let own = eventually("a connection of its own", async || {
            let names = proxy.log().connection_names();
            let own = names
                .iter()
                .find(|(_, name)| name.ends_with("good consume"));
            own.map(|(connection, _)| *connection)
                .ok_or_else(|| format!("{names:?}"))
        })
        .await;
        let first = eventually("a consumer on it", async || {
            let prefetches = prefetches(&proxy, own);
            expect_that(!prefetches.is_empty(), || proxy.log().to_string()).map(|()| prefetches)
        })
        .await;
        // One by one at first, so that no message beside a bad one is charged.
        assert_eq!(first, [1]);
        vhost.publish("good", 50).await;
        gate.finished(50).await;
        eventually("it prefetches again", async || {
            let prefetches = prefetches(&proxy, own);
            expect_that(prefetches == [1, 16], || format!("{prefetches:?}"))
        })
        .await;
        own
    };
    let own = tokio::select! {
        own = test => own,
        () = close_whoever_consumes(&proxy, "bad") => unreachable!("it never ends"),
    };
    assert_eq!(proxy.log().closed(own), None, "{}", proxy.log());
    let log = worker.log().log();
    let losses = log
        .iter()
        .filter(|line| line.message() == "the connection to the broker is lost");
    for line in losses {
        // Channels of the connection may have errors of their own at that moment: they did not end it.
        assert!(line.text("cause").contains("INTERNAL-ERROR"), "{line:?}");
    }
    worker.drained().await;
}

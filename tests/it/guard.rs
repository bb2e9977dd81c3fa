//! Messages that the client library could not read: they are set aside with a reason, and disturb nobody.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use lapin::types::AMQPValue;

use crate::harness::fleet::FleetProgram;
use crate::harness::gate::Gate;
use crate::harness::raw::{RawPublisher, long, nested, short};
use crate::harness::run::{ended, spawn};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

const HEADERS: u16 = 1 << 13;
const DELIVERY_MODE: u16 = 1 << 12;
const MESSAGE_ID: u16 = 1 << 7;
const TYPE: u16 = 1 << 5;

/// Nothing was lost, and nobody reconnected.
fn undisturbed(worker: &Worker) {
    let log = worker.log().text();
    assert!(!log.contains("is lost"), "{log}");
}

fn headers(name: &[u8], value: &[u8]) -> Vec<u8> {
    long(&[&short(name)[..], value].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decoded_is_a_dead_letter_and_its_neighbours_run() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.bind("orders", "amq.topic", "#").await;
    let mut raw = RawPublisher::connect(vhost.url()).await;
    let id = short(b"good-id");
    let cases: [(u16, Vec<u8>, &[u8], &str); 6] = [
        (
            MESSAGE_ID,
            short(b"m\xfcller"),
            b"key",
            "property message_id is not UTF-8",
        ),
        (
            TYPE,
            short(b"gr\xfc\xdfe"),
            b"key",
            "property type is not UTF-8",
        ),
        (
            HEADERS | MESSAGE_ID,
            [headers(b"na\xefve", b"V"), id.clone()].concat(),
            b"key",
            "name of a header is not UTF-8",
        ),
        (
            HEADERS | MESSAGE_ID,
            [headers(b"deep", &nested(4_000)), id.clone()].concat(),
            b"key",
            "nested more than",
        ),
        (
            HEADERS | MESSAGE_ID,
            [headers(b"x-tidegate-undecodable", b"V"), id.clone()].concat(),
            b"key",
            "is reserved",
        ),
        (MESSAGE_ID, id, b"caf\xe9", "routing key is not UTF-8"),
    ];
    for (flags, properties, key, _) in &cases {
        raw.publish("amq.topic", key, (*flags, properties), b"bad")
            .await;
        vhost.publish("orders", 1).await;
    }
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "");
    let mut worker = Worker::ready(&config).await;
    vhost.until_ready("orders.dead", 6).await;
    gate.finished(6).await;
    let dead = vhost.take("orders.dead", 6).await;
    for (flags, properties, key, error) in &cases {
        let found = dead
            .iter()
            .find(|letter| letter.header("x-tidegate-error").contains(error));
        let letter = found.unwrap_or_else(|| panic!("no dead letter says {error:?}: {dead:?}"));
        assert_eq!(letter.header("x-tidegate-reason"), "undecodable");
        assert_eq!(letter.body, b"bad");
        let named = *flags & MESSAGE_ID != 0 && !error.contains("message_id");
        assert_eq!(letter.id, if named { "good-id" } else { "" });
        let original = letter.header("x-tidegate-properties");
        let original = BASE64_STANDARD.decode(original).expect("it is base64");
        assert_eq!(original, [&flags.to_be_bytes()[..], properties].concat());
        let expected = if *key == b"key" { "key" } else { "caf%E9" };
        assert_eq!(letter.header("x-tidegate-routing-key"), expected);
        assert_eq!(letter.header("x-tidegate-undecodable"), "");
    }
    assert_eq!(gate.count(), 6, "a handler saw one of them");
    undisturbed(&worker);
    worker.drained().await;
    assert_eq!(vhost.ready("orders").await, 0);
}

/// RabbitMQ adds a count to the headers of a message that comes again from a quorum queue, and does not look at the size
/// of the frame then.
#[tokio::test(flavor = "multi_thread")]
async fn headers_that_outgrow_a_frame_on_their_way_cost_their_message_alone() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let mut raw = RawPublisher::connect(vhost.url()).await;
    // The content header fills its frame to the last byte.
    let value = [
        &b"S"[..],
        &long(&vec![b'x'; 131_072 - 8 - 14 - 4 - 2 - 5 - 1]),
    ]
    .concat();
    let properties = [&headers(b"h", &value)[..], &[2]].concat();
    raw.publish(
        "",
        b"orders",
        (HEADERS | DELIVERY_MODE, &properties),
        b"large",
    )
    .await;
    vhost.publish("orders", 3).await;
    // Lost once with its channel: from now on it carries a count.
    let lost = vhost.channel().await;
    let got = lost.basic_get("orders".into(), lapin::options::BasicGetOptions::default());
    assert!(got.await.unwrap().is_some());
    lost.close(200, "OK".into()).await.unwrap();
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "");
    let mut worker = Worker::ready(&config).await;
    gate.finished(3).await;
    vhost.until_ready("orders", 0).await;
    let finished = eventually("the large message is somewhere", async || {
        let dead = vhost.ready("orders.dead").await;
        expect_that(dead == 1 || gate.count() == 4, || format!("{dead}"))
    });
    finished.await;
    undisturbed(&worker);
    worker.drained().await;
    assert_eq!(vhost.ready("orders").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_decoded_disturbs_no_worker() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "");
    let mut worker = Worker::listening(&config).await;
    let mut raw = RawPublisher::connect(vhost.url()).await;
    let properties = headers(b"deep", &nested(4_000));
    raw.publish("tidegate.control", b"all", (HEADERS, &properties), b"{}")
        .await;
    let line = worker
        .logged("a message that cannot be decoded is dropped")
        .await;
    assert!(line.text("reason").contains("nested more than"), "{line:?}");
    vhost.publish("orders", 1).await;
    gate.finished(1).await;
    undisturbed(&worker);
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleet_program_reads_on_behind_a_status_that_cannot_be_decoded() {
    let vhost = Vhost::with_queue("orders", "classic").await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let mut raw = RawPublisher::connect(vhost.url()).await;
    for key in [&b"state.bad"[..], b"state.b\xe9d", b"beat.bad"] {
        raw.publish("tidegate.status", key, (MESSAGE_ID, &short(b"\xff")), b"{}")
            .await;
    }
    let gate = Gate::open().await;
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "");
    let mut worker = Worker::ready(&config).await;
    fleet.until("test", "running").await;
    let again = FleetProgram::ready(vhost.url(), "").await;
    again.until("test", "running").await;
    let log = again.process.log().text();
    assert!(
        log.contains("a message that cannot be decoded is skipped"),
        "{log}"
    );
    assert!(!log.contains("is lost"), "{log}");
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_refused_by_name() {
    let vhost = Vhost::new().await;
    let kind = AMQPValue::LongString("stream".into());
    vhost.declare_with("log", [("x-queue-type", kind)]).await;
    for declare in ["declare = false", "type = \"quorum\""] {
        let node = format!("{declare}\nhandler = {{ log = {{}} }}\nretry = {{ max_attempts = 1 }}");
        let mut worker = Worker::spawn(&WorkerConfig::new(vhost.url()).node("log", &node));
        let ended = worker.ended().await;
        let log = worker.log().text();
        assert_eq!(ended.code, Some(1), "{log}");
        assert!(log.contains("is a stream"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_cannot_be_decoded_is_listed_and_not_sent_again() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let mut raw = RawPublisher::connect(vhost.url()).await;
    raw.publish("", b"orders.dead", (TYPE, &short(b"gr\xfc\xdfe")), b"bad")
        .await;
    let url = vhost.url().as_str();
    let list = ended(spawn(&["dead", "list", "orders", "--url", url, "--json"])).await;
    assert_eq!(list.code, Some(0), "{list:?}");
    assert!(
        list.stdout.contains("property type is not UTF-8"),
        "{list:?}"
    );
    let replay = ended(spawn(&["dead", "replay", "orders", "--url", url])).await;
    assert_eq!(replay.code, Some(1), "{replay:?}");
    assert!(
        format!("{replay:?}").contains("property type is not UTF-8"),
        "{replay:?}"
    );
    assert_eq!(vhost.ready("orders").await, 0);
    assert_eq!(vhost.ready("orders.dead").await, 1);
}

//! Retries and dead letters: nothing is lost on the way, every run is counted, and who is asked waits.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};

use crate::harness::gate::Gate;
use crate::harness::proxy::{Direction, Event, Proxy};
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};

const KINDS: [&str; 2] = ["classic", "quorum"];
const SHORT: &str =
    "concurrency = 2\nprefetch = 4\nretry = { max_attempts = 3, min = \"50ms\", max = \"100ms\" }";

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_comes_back_counted_and_as_it_was() {
    for kind in KINDS {
        let vhost = Vhost::new().await;
        let gate = Gate::open().await;
        gate.answer(|request| if request.attempt < 3 { 503 } else { 200 });
        let config =
            WorkerConfig::new(vhost.url()).declaring_node("orders", kind, &gate.url(), SHORT);
        let mut worker = Worker::ready(&config).await;
        let properties = BasicProperties::default()
            .with_message_id("a".into())
            .with_correlation_id("c".into())
            .with_priority(3);
        let messages = [(properties, b"body".to_vec())];
        vhost.publish_messages("orders", messages).await;
        gate.finished(3).await;
        assert_eq!(gate.attempts("a"), [1, 2, 3]);
        for request in gate.requests() {
            assert_eq!(request.body, b"body");
            let headers = &request.headers;
            assert_eq!(headers["tidegate-correlation-id"], "c");
            assert_eq!(headers["tidegate-priority"], "3");
            assert_eq!(headers["tidegate-exchange"], "");
            assert_eq!(headers["tidegate-routing-key"], "orders");
            assert_eq!(headers["tidegate-queue"], "orders");
        }
        worker.drained().await;
        assert_eq!(vhost.take_all("orders").await.len(), 0);
        assert_eq!(vhost.take_all("orders.dead").await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_last_run_a_message_is_dead_and_says_why() {
    for kind in KINDS {
        let vhost = Vhost::new().await;
        let gate = Gate::open().await;
        gate.answer(|request| if request.id == "refused" { 422 } else { 503 });
        let node = format!("{SHORT}\nmax_body = \"1KiB\"");
        let config =
            WorkerConfig::new(vhost.url()).declaring_node("orders", kind, &gate.url(), &node);
        let mut worker = Worker::ready(&config).await;
        let large = BasicProperties::default().with_message_id("large".into());
        vhost
            .publish_messages("orders", [(large, vec![b'x'; 1025])])
            .await;
        vhost
            .publish_all("orders", ["failing", "refused"].map(str::to_owned))
            .await;
        let mut dead = vhost.take_once_ready("orders.dead", 3).await;
        dead.sort_by(|one, other| one.id.cmp(&other.id));
        assert_eq!(gate.attempts("failing"), [1, 2, 3]);
        assert_eq!(gate.attempts("refused"), [1]);
        assert!(gate.attempts("large").is_empty());
        let expected = [
            ("failing", "handler", "3", "run 3 of 3 failed: "),
            ("large", "too_large", "0", "the body has 1025 bytes"),
            ("refused", "handler", "1", ""),
        ];
        for (message, (id, reason, runs, error)) in dead.iter().zip(expected) {
            assert_eq!(message.id, id);
            assert_eq!(message.header("x-tidegate-reason"), reason);
            assert_eq!(message.header("x-tidegate-attempts"), runs);
            let found = message.header("x-tidegate-error");
            assert!(found.starts_with(error), "{found}");
            assert!(message.header("x-tidegate-worker").starts_with("test-"));
            assert_eq!(message.header("x-tidegate-queue"), "orders");
            assert_eq!(message.header("x-tidegate-exchange"), "");
            assert_eq!(message.header("x-tidegate-routing-key"), "orders");
            assert!(message.header("x-tidegate-at").ends_with('Z'));
            assert_eq!(*message.properties.delivery_mode(), Some(2));
        }
        worker.drained().await;
        assert_eq!(vhost.take_all("orders").await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_would_act_on_does_not_take_a_dead_letter_elsewhere() {
    let vhost = Vhost::with_queue("elsewhere", "classic").await;
    let gate = Gate::open().await;
    gate.answer(|_| 400);
    let config =
        WorkerConfig::new(vhost.url()).declaring_node("orders", "quorum", &gate.url(), SHORT);
    let mut worker = Worker::ready(&config).await;
    let mut headers = FieldTable::default();
    let also = AMQPValue::LongString("elsewhere".into());
    headers.insert(
        "CC".into(),
        AMQPValue::FieldArray(FieldArray::from(vec![also])),
    );
    let properties = BasicProperties::default()
        .with_message_id("a".into())
        .with_expiration("60000".into())
        .with_user_id(vhost.url().username().into())
        .with_headers(headers);
    vhost
        .publish_messages("orders", [(properties, b"body".to_vec())])
        .await;
    let dead = vhost.take_once_ready("orders.dead", 1).await;
    assert_eq!(dead[0].header("x-tidegate-expiration"), "60000");
    assert_eq!(dead[0].header("x-tidegate-user-id"), vhost.url().username());
    assert_eq!(*dead[0].properties.expiration(), None);
    assert_eq!(
        vhost.take_all("elsewhere").await.len(),
        1,
        "routed there once"
    );
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_go_where_configuration_says() {
    let vhost = Vhost::with_queue("graveyard", "classic").await;
    let gate = Gate::open().await;
    gate.answer(|_| 400);
    let node =
        format!("{SHORT}\ndead_letter = {{ exchange = \"amq.direct\", routing_key = \"grave\" }}");
    vhost.bind("graveyard", "amq.direct", "grave").await;
    let config =
        WorkerConfig::new(vhost.url()).declaring_node("orders", "classic", &gate.url(), &node);
    let mut worker = Worker::ready(&config).await;
    vhost.publish("orders", 1).await;
    vhost.until_ready("graveyard", 1).await;
    assert_eq!(vhost.facts("orders.dead").await, None, "not declared");
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_declare_what_is_missing_is_named_and_nothing_is_declared() {
    let vhost = Vhost::new().await;
    vhost
        .declare_with(
            "orders",
            [("x-queue-type", AMQPValue::LongString("quorum".into()))],
        )
        .await;
    let gate = Gate::open().await;
    let node = "retry = { max_attempts = 3, min = \"1s\", max = \"2s\" }";
    let config = WorkerConfig::for_orders(vhost.url(), &gate, node);
    let mut worker = Worker::spawn(&config);
    let ended = worker.ended().await;
    assert_eq!(ended.code, Some(1));
    let log = worker.log().text();
    for missing in ["orders.dead", "orders.retry.1000", "orders.retry.2000"] {
        let shown = format!("queue \\\"{missing}\\\"");
        assert!(log.contains(&shown), "{missing} is not named:\n{log}");
        assert_eq!(vhost.facts(missing).await, None);
    }
    for queue in ["orders.dead", "orders.retry.1000", "orders.retry.2000"] {
        vhost.declare_with(queue, []).await;
    }
    let mut worker = Worker::ready(&config).await;
    worker.drained().await;
}

/// The copies that went to the broker, by their routing keys.
fn copies(proxy: &Proxy, routing_key: &str) -> usize {
    let published = proxy.log().published();
    let copies = published.iter().filter(|it| it.routing_key == routing_key);
    copies.count()
}

/// A worker behind a proxy that declares the queue `orders` of type `kind` and what stands beside it. It posts to `gate`;
/// `node` are lines of its configuration.
async fn proxied(kind: &str, gate: &Gate, node: &str) -> (Vhost, Proxy, Worker) {
    let vhost = Vhost::new().await;
    let proxy = Proxy::start(vhost.url()).await;
    let url = proxy.url(vhost.url());
    let config = WorkerConfig::new(&url).declaring_node("orders", kind, &gate.url(), node);
    let worker = Worker::ready(&config).await;
    worker.logged("worker running").await;
    (vhost, proxy, worker)
}

fn is_confirm(event: &Event) -> bool {
    event.is("basic.ack") && event.direction() == Some(Direction::ToClient)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_confirm_is_waited_for_and_makes_no_second_copy() {
    let gate = Gate::open().await;
    gate.answer(|_| 400);
    let (vhost, proxy, mut worker) = proxied("quorum", &gate, SHORT).await;
    // The first dead letter takes as long as its queue needs to be old enough. After it only the confirm is waited for.
    vhost.publish_all("orders", ["first".to_owned()]).await;
    vhost.until_ready("orders.dead", 1).await;
    let copying = |count: usize| format!("tidegate_copying{{queue=\"orders\"}} {count}\n");
    worker.until_metrics(&[&copying(0)]).await;
    let hold = proxy.hold(Direction::ToClient, is_confirm);
    vhost.publish_all("orders", ["late".to_owned()]).await;
    vhost.until_ready("orders.dead", 2).await;
    // Ten more are worked on meanwhile, so that the worker is seen to wait.
    gate.answer(|_| 200);
    vhost
        .publish_all("orders", (10..20).map(|n| n.to_string()))
        .await;
    gate.finished(12).await;
    let (_, metrics) = worker.get("/metrics").await.unwrap();
    assert!(metrics.contains(&copying(1)), "{metrics}");
    hold.release();
    worker.drained().await;
    assert_eq!(copies(&proxy, "orders.dead"), 2);
    assert_eq!(
        vhost.take_all("orders").await.len(),
        0,
        "it was acknowledged"
    );
    assert_eq!(vhost.take_all("orders.dead").await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_whose_confirm_is_lost_is_published_again_and_run_once() {
    for kind in KINDS {
        let gate = Gate::open().await;
        gate.answer(|request| if request.attempt == 1 { 503 } else { 200 });
        let node = "retry = { max_attempts = 3, min = \"1s\", max = \"1s\" }";
        let (vhost, proxy, mut worker) = proxied(kind, &gate, node).await;
        let hold = proxy.hold(Direction::ToClient, is_confirm);
        vhost.publish("orders", 1).await;
        vhost.until_ready("orders.retry.1000", 1).await;
        proxy.cut();
        hold.release();
        let twin = "tidegate_twins_total{queue=\"orders\"} 1\n";
        worker.until_metrics(&[twin]).await;
        assert_eq!(copies(&proxy, "orders.retry.1000"), 2);
        assert_eq!(gate.attempts("0"), [1, 2]);
        worker.drained().await;
        assert_eq!(vhost.take_all("orders").await.len(), 0);
        assert_eq!(vhost.take_all("orders.retry.1000").await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_or_missing_dead_letter_queue_keeps_the_delivery_until_there_is_room() {
    let vhost = Vhost::new().await;
    vhost
        .declare_with(
            "orders",
            [("x-queue-type", AMQPValue::LongString("quorum".into()))],
        )
        .await;
    let full = [
        ("x-max-length", AMQPValue::LongLongInt(1)),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ];
    vhost.declare_with("orders.dead", full).await;
    vhost.publish("orders.dead", 1).await;
    let gate = Gate::open().await;
    gate.answer(|_| 400);
    let config = WorkerConfig::for_orders(vhost.url(), &gate, "");
    let mut worker = Worker::ready(&config).await;
    vhost.publish_all("orders", ["a".to_owned()]).await;
    let kept = "a copy was not taken; its delivery is kept, and the copy tried again";
    let line = worker.logged(kept).await;
    assert!(line.text("error").contains("negatively"), "{line:?}");
    // Unroutable is no better than full.
    vhost.delete("orders.dead").await;
    worker
        .logged_where("it came back", |line| {
            line.message() == kept && line.text("error").contains("came back")
        })
        .await;
    vhost.declare_with("orders.dead", []).await;
    let taken = vhost.take_once_ready("orders.dead", 1).await;
    assert_eq!(taken[0].id, "a");
    assert_eq!(gate.attempts("a"), [1], "the handler runs once");
    worker.drained().await;
    assert_eq!(vhost.take_all("orders").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_hands_back_what_the_broker_takes_no_copy_of() {
    let gate = Gate::open().await;
    gate.answer(|_| 400);
    let (vhost, proxy, mut worker) = proxied("quorum", &gate, SHORT).await;
    let _hold = proxy.hold(Direction::ToBroker, |event| {
        event.is("basic.publish") && event.to_string().contains("orders.dead")
    });
    vhost.publish("orders", 1).await;
    gate.finished(1).await;
    worker.terminate();
    let report = worker.ended_with(0).await;
    assert_eq!(
        (report.number("unconfirmed"), report.number("interrupted")),
        (1, 0)
    );
    assert!(Duration::from_millis(report.number("duration_ms")) < Duration::from_secs(30));
    vhost.until_ready("orders", 1).await;
    assert_eq!(vhost.take_all("orders.dead").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_delays_by_itself_is_used_as_such() {
    let vhost = Vhost::new().await;
    if !vhost.broker_is_at_least(4, 3).await {
        return;
    }
    let gate = Gate::open().await;
    gate.answer(|_| 503);
    for (round, key) in ["delayed_retry = true\n", ""].into_iter().enumerate() {
        // The second time the worker finds out by itself: the queue is there.
        let node = format!("{key}{SHORT}");
        let config =
            WorkerConfig::new(vhost.url()).declaring_node("orders", "quorum", &gate.url(), &node);
        let mut worker = Worker::ready(&config).await;
        let id = format!("{round}");
        vhost.publish_all("orders", [id.clone()]).await;
        let taken = vhost.take_once_ready("orders.dead", 1).await;
        assert_eq!(gate.attempts(&id), [1, 2, 3]);
        assert_eq!(taken[0].header("x-tidegate-attempts"), "3");
        assert_eq!(taken[0].header("x-tidegate-reason"), "handler");
        worker.drained().await;
    }
    for step in [50, 100] {
        assert_eq!(vhost.facts(&format!("orders.retry.{step}")).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hand_backs_and_lost_channels_are_no_runs() {
    // More than the 20 deliveries that a quorum queue allows by default; the pauses between connections grow.
    for (kind, cuts) in [("classic", 2), ("quorum", 22)] {
        let vhost = Vhost::new().await;
        let gate = Gate::closed().await;
        gate.answer(|_| 503);
        let proxy = Proxy::start(vhost.url()).await;
        let config = WorkerConfig::new(&proxy.url(vhost.url())).declaring_node(
            "orders",
            kind,
            &gate.url(),
            "concurrency = 1\nprefetch = 3\nretry = { max_attempts = 2, min = \"50ms\", max = \"50ms\" }",
        );
        let mut worker = Worker::ready(&config).await;
        vhost.publish("orders", 3).await;
        gate.started(1).await;
        for _ in 0..cuts {
            let before = proxy.now();
            proxy.cut();
            proxy
                .seen("the redeliveries", |event| {
                    event.seq >= before && event.is("basic.deliver")
                })
                .await;
        }
        gate.release_all();
        let taken = vhost.take_once_ready("orders.dead", 3).await;
        for message in &taken {
            assert_eq!(message.header("x-tidegate-attempts"), "2");
            assert_eq!(gate.attempts(&message.id), [1, 2]);
        }
        worker.drained().await;
    }
}

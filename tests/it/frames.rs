//! Copies that do not fit a frame.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};

/// A message whose headers leave less room than a copy needs.
fn large(id: &str, size: usize) -> (BasicProperties, Vec<u8>) {
    let mut headers = FieldTable::default();
    let value = AMQPValue::LongString("x".repeat(size).as_str().into());
    headers.insert("h".into(), value);
    let properties = BasicProperties::default()
        .with_message_id(id.into())
        .with_delivery_mode(2)
        .with_headers(headers);
    (properties, id.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_does_not_fit_leaves_headers_out_and_says_which() {
    for size in [100_000, 129_500, 130_900] {
        let vhost = Vhost::new().await;
        let gate = Gate::open().await;
        gate.answer(|_| 400);
        let config =
            WorkerConfig::new(vhost.url()).declaring_node("orders", "quorum", &gate.url(), "");
        let mut worker = Worker::ready(&config).await;
        vhost.publish_messages("orders", [large("a", size)]).await;
        vhost.publish_all("orders", ["small".to_owned()]).await;
        vhost.until_ready("orders.dead", 2).await;
        let dead = vhost.take_all("orders.dead").await;
        let dead = dead.iter().find(|it| it.id == "a").unwrap();
        assert_eq!(dead.header("x-tidegate-reason"), "handler");
        let kept = dead.header("h").len() == size;
        let omitted = !dead.header("x-tidegate-omitted").is_empty();
        assert_ne!(kept, omitted, "{size}");
        assert_eq!(
            kept,
            size < 130_000,
            "{size}: our own headers need some 600 bytes"
        );
        worker.drained().await;
        let log = worker.log().text();
        assert!(!log.contains("is lost"), "{log}");
        assert_eq!(vhost.take_all("orders").await.len(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_that_does_not_fit_waits_in_its_place_and_is_counted() {
    let vhost = Vhost::new().await;
    let gate = Gate::open().await;
    gate.answer(|request| if request.id == "a" { 503 } else { 200 });
    let node = "retry = { max_attempts = 3, min = \"50ms\", max = \"100ms\" }";
    let config =
        WorkerConfig::new(vhost.url()).declaring_node("orders", "quorum", &gate.url(), node);
    let mut worker = Worker::ready(&config).await;
    vhost
        .publish_messages("orders", [large("a", 130_900)])
        .await;
    vhost.publish_all("orders", ["small".to_owned()]).await;
    vhost.until_ready("orders.dead", 1).await;
    assert_eq!(gate.attempts("a"), [1, 2, 3]);
    let dead = vhost.take_all("orders.dead").await.remove(0);
    assert_eq!(dead.header("x-tidegate-attempts"), "3");
    worker.drained().await;
    let log = worker.log().text();
    assert!(!log.contains("is lost"), "{log}");
    assert_eq!(vhost.take_all("orders").await.len(), 0);
}

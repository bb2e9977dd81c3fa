//! Retried messages: which run it is, and that handlers see the message as in its first run.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable};

use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::worker::{Worker, WorkerConfig};

const KINDS: [&str; 2] = ["classic", "quorum"];
const SHORT: &str =
    "concurrency = 2\nprefetch = 4\nretry = { max_attempts = 3, min = \"50ms\", max = \"100ms\" }";

#[tokio::test(flavor = "multi_thread")]
async fn headers_of_a_copy_prove_nothing_on_other_messages() {
    let vhost = Vhost::new().await;
    let gate = Gate::open().await;
    gate.answer(|request| {
        if request.id == "a" && request.attempt == 1 {
            503
        } else {
            200
        }
    });
    let node = "retry = { max_attempts = 3, min = \"1m\", max = \"1m\" }";
    let config =
        WorkerConfig::new(vhost.url()).declaring_node("orders", "quorum", &gate.url(), node);
    let mut worker = Worker::ready(&config).await;
    vhost.publish_all("orders", ["a".to_owned()]).await;
    vhost.until_ready("orders.retry.60000", 1).await;
    let copy = vhost.take_all("orders.retry.60000").await.remove(0);
    let others = ["b", "c", "d"].map(|id| {
        let other = copy.properties.clone().with_message_id(id.into());
        (other, id.into())
    });
    let same = (copy.properties.clone(), copy.body.clone());
    vhost.publish_messages("orders", [same]).await;
    vhost.publish_messages("orders", others).await;
    gate.finished(5).await;
    assert_eq!(gate.attempts("a"), [1, 2], "the copy itself is known");
    for id in ["b", "c", "d"] {
        assert_eq!(gate.attempts(id), [1], "{id} is new");
    }
    worker.drained().await;
    assert_eq!(vhost.take_all("orders").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_of_deliveries_that_a_publisher_sets_counts_nothing() {
    let vhost = Vhost::new().await;
    if !vhost.broker_is_at_least(4, 3).await {
        return;
    }
    let gate = Gate::open().await;
    gate.answer(|_| 503);
    let node = format!("delayed_retry = true\n{SHORT}");
    let config =
        WorkerConfig::new(vhost.url()).declaring_node("orders", "quorum", &gate.url(), &node);
    let mut worker = Worker::ready(&config).await;
    let mut headers = FieldTable::default();
    headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(7));
    let properties = BasicProperties::default()
        .with_message_id("a".into())
        .with_headers(headers);
    let messages = [(properties, b"body".to_vec())];
    vhost.publish_messages("orders", messages).await;
    vhost.take_once_ready("orders.dead", 1).await;
    assert_eq!(gate.attempts("a"), [1, 2, 3]);
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_run_sees_what_the_first_saw() {
    for kind in KINDS {
        let vhost = Vhost::with_queue("elsewhere", "classic").await;
        let gate = Gate::open().await;
        gate.answer(|request| if request.attempt < 3 { 503 } else { 200 });
        let config =
            WorkerConfig::new(vhost.url()).declaring_node("orders", kind, &gate.url(), SHORT);
        let mut worker = Worker::ready(&config).await;
        let mut headers = FieldTable::default();
        let also = AMQPValue::LongString("elsewhere".into());
        let also = AMQPValue::FieldArray(FieldArray::from(vec![also]));
        headers.insert("CC".into(), also);
        headers.insert("x-death".into(), AMQPValue::LongString("mine".into()));
        headers.insert(
            "x-tidegate-error".into(),
            AMQPValue::LongString("inherited".into()),
        );
        headers.insert(
            "large".into(),
            AMQPValue::LongString("x".repeat(7_500).as_str().into()),
        );
        let properties = BasicProperties::default()
            .with_message_id("a".into())
            .with_expiration("60000".into())
            .with_user_id(vhost.url().username().into())
            .with_cluster_id("main".into())
            .with_headers(headers);
        vhost
            .publish_messages("orders", [(properties, b"body".to_vec())])
            .await;
        gate.finished(3).await;
        let mut seen = gate.requests().into_iter().map(|request| {
            let mut headers = request.headers;
            for name in ["tidegate-attempt", "tidegate-redelivered", "traceparent"] {
                headers.remove(name);
            }
            headers
        });
        let first = seen.next().unwrap();
        assert_eq!(first["tidegate-expiration"], "60000");
        assert_eq!(first["tidegate-user-id"], vhost.url().username());
        assert_eq!(first["tidegate-header-cc"], r#"["elsewhere"]"#);
        assert_eq!(first["tidegate-header-x-death"], "mine");
        assert_eq!(first["tidegate-header-x-tidegate-error"], "inherited");
        assert_eq!(first["tidegate-header-large"].len(), 7_500);
        assert_eq!(seen.next().unwrap(), first);
        assert_eq!(seen.next().unwrap(), first);
        worker.drained().await;
        assert_eq!(
            vhost.take_all("elsewhere").await.len(),
            1,
            "routed there once"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_cannot_be_run_again_in_its_time_to_live_is_dead() {
    let vhost = Vhost::new().await;
    let gate = Gate::open().await;
    gate.answer(|_| 503);
    let node = "retry = { max_attempts = 9, min = \"500ms\", max = \"500ms\" }";
    let config =
        WorkerConfig::new(vhost.url()).declaring_node("orders", "quorum", &gate.url(), node);
    let mut worker = Worker::ready(&config).await;
    let properties = BasicProperties::default()
        .with_message_id("a".into())
        .with_expiration("700".into());
    vhost
        .publish_messages("orders", [(properties, b"body".to_vec())])
        .await;
    let taken = vhost.take_once_ready("orders.dead", 1).await;
    assert_eq!(taken[0].header("x-tidegate-reason"), "expired");
    assert_eq!(taken[0].header("x-tidegate-expiration"), "700");
    assert!(gate.attempts("a").len() <= 2, "{:?}", gate.attempts("a"));
    worker.drained().await;
}

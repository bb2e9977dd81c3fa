//! What was under way when a connection was lost is taken up again, and not run again.

use std::collections::BTreeMap;

use amq_protocol::protocol::AMQPClass;
use amq_protocol::protocol::basic::AMQPMethod;
use lapin::BasicProperties;

use crate::harness::gate::Gate;
use crate::harness::proxy::{Direction, Event, Proxy};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

struct Scene {
    vhost: Vhost,
    proxy: Proxy,
    gate: Gate,
    worker: Worker,
}

impl Scene {
    /// A worker on queue `orders` of type `kind` behind a proxy, its gate closed; `node` are lines of its
    /// configuration.
    async fn new(kind: &str, node: &str) -> Self {
        let vhost = Vhost::new().await;
        let proxy = Proxy::start(vhost.url()).await;
        let gate = Gate::closed().await;
        let config = WorkerConfig::new(&proxy.url(vhost.url())).declaring_node(
            "orders",
            kind,
            &gate.url(),
            node,
        );
        let worker = Worker::ready(&config).await;
        Self {
            vhost,
            proxy,
            gate,
            worker,
        }
    }

    /// Cuts the connections and refuses new ones.
    async fn cut(&self) {
        self.proxy.refuse(true);
        self.proxy.cut();
        self.worker.logged("the channel is lost").await;
    }

    /// Waits until the worker has adopted `count` deliveries of which `known` was known.
    async fn adopted(&self, known: &str, count: usize) {
        let line =
            format!("tidegate_adoptions_total{{queue=\"orders\",known=\"{known}\"}} {count}\n");
        self.worker.until_metrics(&[&line]).await;
    }

    /// Waits until the worker remembers `count` outcomes, each for the next delivery of its message.
    async fn remembers(&self, count: usize) {
        let remembered = "its channel is gone: the outcome is remembered until the broker delivers the message again";
        self.worker.logged_times(remembered, count).await;
    }

    /// The drain is clean, and nothing is left.
    async fn ends_with_nothing_left(mut self) {
        let report = self.worker.drained().await;
        assert_eq!(report.number("unconfirmed"), 0);
        assert_eq!(self.vhost.take_all("orders").await.len(), 0);
        assert_eq!(self.vhost.take_all("orders.dead").await.len(), 0);
    }
}

fn redelivery(tag: u64) -> impl Fn(&Event) -> bool {
    move |event| match event.method() {
        Some(AMQPClass::Basic(AMQPMethod::Deliver(deliver))) => {
            deliver.redelivered && deliver.delivery_tag == tag
        }
        _ => false,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_delivery_is_adopted_when_it_is_delivered_again() {
    for kind in ["classic", "quorum"] {
        let scene = Scene::new(kind, "concurrency = 2\nprefetch = 4").await;
        scene.vhost.publish("orders", 3).await;
        scene.gate.started(2).await;
        scene.proxy.cut();
        scene.proxy.seen("the redelivery", redelivery(2)).await;
        scene.adopted("running", 2).await;
        scene.gate.release_all();
        scene.gate.finished(3).await;
        let mut ids = scene.gate.ids();
        ids.sort();
        assert_eq!(ids, ["0", "1", "2"]);
        scene.ends_with_nothing_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_decided_without_a_connection_settles_the_next_delivery() {
    let scene = Scene::new("quorum", "concurrency = 2\nprefetch = 2").await;
    scene
        .gate
        .answer(|request| if request.id == "1" { 404 } else { 200 });
    scene.vhost.publish("orders", 2).await;
    scene.gate.started(2).await;
    scene.cut().await;
    scene.gate.release_all();
    scene.gate.finished(2).await;
    scene.remembers(2).await;
    scene.proxy.refuse(false);
    scene.adopted("decided", 2).await;
    scene.vhost.until_ready("orders.dead", 1).await;
    assert_eq!(scene.vhost.take_all("orders.dead").await[0].id, "1");
    assert_eq!(scene.gate.count(), 2);
    scene.ends_with_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_did_not_arrive_is_given_again() {
    for kind in ["classic", "quorum"] {
        let scene = Scene::new(kind, "concurrency = 2\nprefetch = 2").await;
        scene.vhost.publish("orders", 2).await;
        scene.gate.started(2).await;
        let hold = scene
            .proxy
            .hold(Direction::ToBroker, |event| event.is("basic.ack"));
        scene.gate.release_all();
        scene.gate.finished(2).await;
        hold.holds_one().await;
        let both_settled = r#"tidegate_deliveries_total{queue="orders",outcome="done"} 2"#;
        scene.worker.until_metrics(&[both_settled]).await;
        scene.cut().await;
        hold.release();
        scene.vhost.until_ready("orders", 2).await;
        scene.proxy.refuse(false);
        scene.adopted("finished", 2).await;
        assert_eq!(scene.gate.count(), 2);
        scene.ends_with_nothing_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_messages_without_ids_are_all_run() {
    let scene = Scene::new("quorum", "concurrency = 2\nprefetch = 4").await;
    let tick = || (BasicProperties::default(), b"tick".to_vec());
    scene
        .vhost
        .publish_messages("orders", std::iter::repeat_with(tick).take(6))
        .await;
    scene.gate.started(2).await;
    scene.cut().await;
    // Two run, two are ahead of them; one of the two running ends meanwhile.
    scene.gate.release(1);
    scene.gate.finished(1).await;
    scene.remembers(1).await;
    scene.proxy.refuse(false);
    scene.adopted("running", 1).await;
    scene.adopted("decided", 1).await;
    scene.gate.release_all();
    scene.gate.finished(6).await;
    scene.vhost.until_ready("orders", 0).await;
    assert_eq!(scene.gate.count(), 6, "as many runs as messages");
    scene.ends_with_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_acknowledgement_that_may_have_arrived_is_not_given_to_an_equal_message() {
    let scene = Scene::new("quorum", "concurrency = 1\nprefetch = 3").await;
    let messages = ["tick", "other", "tick"].map(|body| (BasicProperties::default(), body.into()));
    scene.vhost.publish_messages("orders", messages).await;
    scene.gate.started(1).await;
    scene.gate.release(1);
    // The first tick is acknowledged, and the acknowledgement arrives, which nothing tells the worker. The
    // other runs, and the second tick waits for its slot: both come again.
    let acknowledged =
        |event: &Event| event.is("basic.ack") && event.direction() == Some(Direction::ToBroker);
    scene.proxy.seen("its acknowledgement", acknowledged).await;
    scene.gate.started(2).await;
    scene.cut().await;
    scene.vhost.until_ready("orders", 2).await;
    scene.proxy.refuse(false);
    scene.adopted("running", 1).await;
    scene.gate.release_all();
    scene.gate.finished(3).await;
    let bodies: Vec<_> = scene
        .gate
        .requests()
        .into_iter()
        .map(|it| it.body)
        .collect();
    assert_eq!(
        bodies,
        [&b"tick"[..], b"other", b"tick"],
        "each was run once"
    );
    scene.ends_with_nothing_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_settles_what_was_adopted_before_it() {
    let mut scene = Scene::new("quorum", "concurrency = 2\nprefetch = 2").await;
    scene.vhost.publish("orders", 5).await;
    scene.gate.started(2).await;
    scene.proxy.cut();
    scene.adopted("running", 2).await;
    scene.worker.terminate();
    scene.worker.logged("drain begins").await;
    scene.gate.release_all();
    let report = scene.worker.ended_with(0).await;
    let counts = (report.number("finished"), report.number("unconfirmed"));
    assert_eq!(counts, (2, 0));
    assert_eq!(scene.gate.count(), 2);
    assert_eq!(scene.vhost.take_ids("orders").await, ["2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_loses_its_connection_takes_back_what_it_works_on() {
    let mut scene = Scene::new("quorum", "concurrency = 2\nprefetch = 2").await;
    scene.vhost.publish("orders", 5).await;
    scene.gate.started(2).await;
    scene.worker.terminate();
    scene.worker.logged("drain begins").await;
    scene.vhost.until_ready("orders", 3).await;
    scene.proxy.cut();
    scene.adopted("running", 2).await;
    scene.gate.release_all();
    let report = scene.worker.ended_with(0).await;
    let counts = (report.number("finished"), report.number("unconfirmed"));
    assert_eq!(counts, (2, 0));
    assert_eq!(scene.gate.count(), 2, "nothing starts in a drain");
    assert_eq!(scene.vhost.take_ids("orders").await, ["2", "3", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_runs_is_adopted_too() {
    let vhost = Vhost::new().await;
    let proxy = Proxy::start(vhost.url()).await;
    let directory = tempfile::tempdir().unwrap();
    let script = r"echo run >> runs; while [ ! -e go ]; do sleep 0.05; done";
    let lines = format!(
        "concurrency = 1\nhandler = {{ exec = {{ command = [\"sh\", \"-c\", '{script}'], directory = '{}' }} }}",
        directory.path().display()
    );
    let config = WorkerConfig::new(&proxy.url(vhost.url())).node("orders", &lines);
    let mut worker = Worker::ready(&config).await;
    vhost.publish("orders", 1).await;
    let runs = directory.path().join("runs");
    let count = || std::fs::read_to_string(&runs).map_or(0, |text| text.lines().count());
    eventually("the command runs", async || {
        expect_that(count() == 1, || format!("{} runs", count()))
    })
    .await;
    proxy.cut();
    proxy.seen("the redelivery", redelivery(1)).await;
    std::fs::write(directory.path().join("go"), "").unwrap();
    let done = r#"tidegate_deliveries_total{queue="orders",outcome="done"} 1"#;
    worker.until_metrics(&[done]).await;
    worker.drained().await;
    assert_eq!(count(), 1);
    assert_eq!(vhost.take_all("orders").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_again_and_again_each_message_is_run_once() {
    for kind in ["classic", "quorum"] {
        let scene = Scene::new(kind, "concurrency = 4\nprefetch = 8").await;
        scene.gate.release_all();
        for round in 0..5 {
            let ids = (0..40).map(|number| format!("{round}-{number}"));
            scene.vhost.publish_all("orders", ids).await;
            scene.proxy.cut();
        }
        scene.gate.finished(200).await;
        scene.vhost.until_ready("orders", 0).await;
        let mut runs = BTreeMap::<_, usize>::new();
        for id in scene.gate.ids() {
            *runs.entry(id).or_default() += 1;
        }
        runs.retain(|_, count| *count > 1);
        assert!(runs.is_empty(), "run more than once: {runs:?}");
        scene.ends_with_nothing_left().await;
    }
}

//! A worker inside a Rust program: its own handlers, pause and resume, handlers that do not listen.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate::config::{BrokerSettings, NodeSettings, Settings, Slots};
use tidegate::delivery::Delivery;
use tidegate::handler::{Context, Outcome, json};
use tidegate::internal::status::wire::DrainOutcome;
use tidegate::lifecycle::Phase;
use tidegate::worker::{RunningWorker, Worker, WorkerError};
use tokio::sync::{Semaphore, mpsc};

use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that, within};

pub(crate) fn settings(vhost: &Vhost, nodes: Vec<NodeSettings>, grace: Duration) -> Settings {
    let broker = BrokerSettings::from_url(vhost.url().as_str()).unwrap();
    let mut settings = Settings::new(broker);
    settings.worker.http = None;
    settings.drain.grace = grace;
    settings.nodes = nodes;
    settings
}

pub(crate) fn node(queue: &str, slots: usize, prefetch: u16) -> NodeSettings {
    let mut node = NodeSettings::new(queue);
    node.slots = Slots::Own(slots);
    node.prefetch = prefetch;
    node
}

async fn phase(worker: &RunningWorker, wanted: Phase) {
    let mut phase = worker.phase();
    let reached = phase.wait_for(|phase| *phase == wanted);
    within(format_args!("phase {wanted}"), reached)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_worker_finishes_what_runs_takes_nothing_new_and_drains() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 10).await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let handler = move |delivery: Arc<Delivery>, _context: Context| {
        let (started, held) = (started.clone(), Arc::clone(&held));
        async move {
            started
                .send(delivery.properties.message_id.clone())
                .unwrap();
            held.acquire().await.unwrap().forget();
            Outcome::Done
        }
    };
    let settings = settings(&vhost, vec![node("orders", 2, 4)], Duration::from_secs(60));
    let mut worker = Worker::from_settings(settings)
        .handler("orders", handler)
        .start()
        .await
        .unwrap();
    let handle = worker.handle();
    phase(&worker, Phase::Running).await;
    for _ in 0..2 {
        within("a start", starts.recv()).await.unwrap();
    }

    handle.pause().await;
    phase(&worker, Phase::Paused).await;
    vhost.until_ready("orders", 8).await;
    vhost.publish_all("orders", ["late".to_owned()]).await;
    vhost.until_ready("orders", 9).await;
    gate.add_permits(2);
    // Its acknowledgements go out on the channel that is still there.
    handle.resume().await;
    phase(&worker, Phase::Running).await;
    for _ in 0..2 {
        within("a start after the pause", starts.recv())
            .await
            .unwrap();
    }
    handle.pause().await;
    phase(&worker, Phase::Paused).await;
    vhost.until_ready("orders", 7).await;

    handle.drain("test").await;
    phase(&worker, Phase::Draining).await;
    gate.add_permits(2);
    let report = within("the end", worker.finished()).await.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Clean);
    assert_eq!(report.reason, "test");
    assert_eq!((report.finished, report.unconfirmed), (2, 0));
    assert_eq!(vhost.take_all("orders").await.len(), 7);
    assert!(
        starts.try_recv().is_err(),
        "nothing starts in a pause or a drain"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_blocks_its_thread_is_handed_back_at_the_deadline() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 2).await;
    let running = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&running);
    // Handlers run on a runtime of their own here, every thread of which they block.
    let handlers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let blocked = Arc::new(std::sync::Mutex::new(blocked));
    let handler = move |_delivery: Arc<Delivery>, _context: Context| {
        seen.fetch_add(1, Ordering::SeqCst);
        let blocked = Arc::clone(&blocked);
        async move {
            // Until the test drops the sender; no await, so nothing can cancel it.
            let _ = blocked
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .recv();
            Outcome::Done
        }
    };
    let mut settings = settings(&vhost, vec![node("orders", 2, 2)], Duration::from_secs(1));
    settings.worker.http = Some(([127, 0, 0, 1], 0).into());
    let starting = async move {
        Worker::from_settings(settings)
            .handler("orders", handler)
            .start()
            .await
    };
    let mut worker = handlers.spawn(starting).await.unwrap().unwrap();
    eventually("both handlers block", async || {
        let count = running.load(Ordering::SeqCst);
        expect_that(count == 2, || format!("{count} run"))
    })
    .await;
    let address = worker.http().expect("a port was asked for");
    let answer = tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /livez HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    });
    let answer = within("/livez", answer).await.unwrap().unwrap();
    assert!(
        answer.contains("200 OK"),
        "blocked handlers look like death: {answer}"
    );
    worker.handle().drain("test").await;
    let report = within("the end", worker.finished()).await.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Interrupted);
    assert_eq!(report.interrupted, 2);
    vhost.until_ready("orders", 2).await;
    drop(release);
    handlers.shutdown_background();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_single_active_consumer_hands_over_when_its_last_delivery_is_settled() {
    let vhost = Vhost::new().await;
    let single = [
        (
            "x-queue-type",
            lapin::types::AMQPValue::LongString("quorum".into()),
        ),
        (
            "x-single-active-consumer",
            lapin::types::AMQPValue::Boolean(true),
        ),
    ];
    vhost.declare_with("ordered", single).await;
    vhost.publish("ordered", 6).await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let mut workers = Vec::new();
    for name in ["first", "second"] {
        let (started, held) = (started.clone(), Arc::clone(&gate));
        let handler = move |delivery: Arc<Delivery>, _context: Context| {
            let (started, held) = (started.clone(), Arc::clone(&held));
            async move {
                let id = delivery.properties.message_id.clone().unwrap_or_default();
                started.send((name, id)).unwrap();
                held.acquire().await.unwrap().forget();
                Outcome::Done
            }
        };
        let settings = settings(&vhost, vec![node("ordered", 1, 3)], Duration::from_secs(60));
        let worker = Worker::from_settings(settings)
            .handler("ordered", handler)
            .start()
            .await
            .unwrap();
        phase(&worker, Phase::Running).await;
        workers.push(worker);
    }
    let mut next = async || within("a start", starts.recv()).await.unwrap();
    assert_eq!(next().await, ("first", "0".to_owned()));

    // Paused and resumed while it still runs: it is the active consumer all along.
    workers[0].handle().pause().await;
    phase(&workers[0], Phase::Paused).await;
    workers[0].handle().resume().await;
    phase(&workers[0], Phase::Running).await;
    gate.add_permits(1);
    assert_eq!(next().await, ("first", "1".to_owned()));

    workers[0].handle().pause().await;
    phase(&workers[0], Phase::Paused).await;
    gate.add_permits(1);
    assert_eq!(next().await, ("second", "2".to_owned()));
    gate.add_permits(3);
    for id in ["3", "4", "5"] {
        assert_eq!(next().await, ("second", id.to_owned()), "order is kept");
    }
    gate.add_permits(1);
    for worker in &mut workers {
        worker.handle().drain("test").await;
        let report = within("the end", worker.finished()).await.unwrap();
        assert_eq!(report.outcome, DrainOutcome::Clean);
    }
    assert_eq!(vhost.ready("ordered").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_retry_and_not_the_end() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 1).await;
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let handler = move |_delivery: Arc<Delivery>, _context: Context| {
        let run = counted.fetch_add(1, Ordering::SeqCst);
        async move {
            assert!(run > 0, "the first run panics");
            Outcome::Done
        }
    };
    let mut node = node("orders", 1, 1);
    node.retry.min = Duration::from_millis(10);
    node.retry.max = Duration::from_millis(10);
    let settings = settings(&vhost, vec![node], Duration::from_secs(60));
    let mut worker = Worker::from_settings(settings)
        .handler("orders", handler)
        .start()
        .await
        .unwrap();
    eventually("it has run again", async || {
        let count = runs.load(Ordering::SeqCst);
        expect_that(count == 2, || format!("{count} runs"))
    })
    .await;
    worker.handle().drain("test").await;
    let report = within("the end", worker.finished()).await.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Clean);
    assert_eq!(vhost.take_all("orders").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn typed_json_reaches_the_handler_and_anything_else_is_dead() {
    #[derive(serde::Deserialize)]
    struct Order {
        id: u32,
    }
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost
        .publish_all("orders", ["{\"id\": 7}", "not json"].map(str::to_owned))
        .await;
    let (sender, mut received) = mpsc::unbounded_channel();
    let handler = json(move |order: Order, _delivery, _context| {
        let sent = sender.send(order.id);
        async move {
            sent.map_or_else(
                |error| Outcome::retry(error.to_string()),
                |()| Outcome::Done,
            )
        }
    });
    let settings = settings(&vhost, vec![node("orders", 2, 2)], Duration::from_secs(60));
    let mut worker = Worker::from_settings(settings)
        .handler("orders", handler)
        .start()
        .await
        .unwrap();
    assert_eq!(within("an order", received.recv()).await, Some(7));
    vhost.until_ready("orders.dead", 1).await;
    worker.handle().drain("test").await;
    let report = within("the end", worker.finished()).await.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Clean);
    assert_eq!(vhost.take_all("orders.dead").await[0].body, b"not json");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_handler_does_not_start() {
    let vhost = Vhost::new().await;
    let settings = settings(&vhost, vec![node("orders", 1, 1)], Duration::from_secs(1));
    let error = Worker::from_settings(settings)
        .start()
        .await
        .expect_err("nobody handles");
    assert!(matches!(error, WorkerError::NoHandler { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_work_do_not_start() {
    let vhost = Vhost::new().await;
    let mut no_delay = node("q", 1, 1);
    no_delay.retry.min = Duration::ZERO;
    let cases = [
        (vec![], "has no node"),
        (vec![node("q", 0, 1)], "node[\"q\"].concurrency = 0"),
        (vec![node("q", 1, 0)], "node[\"q\"].prefetch = 0"),
        (vec![no_delay], "node[\"q\"].retry.min = 0ns"),
        (
            vec![node("q", 1, 1), node("q", 1, 1)],
            "another node consumes it already",
        ),
    ];
    for (nodes, expected) in cases {
        let settings = settings(&vhost, nodes, Duration::from_secs(1));
        let error = Worker::from_settings(settings)
            .start()
            .await
            .expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
    }
}

//! Deliveries that wait in their place, and deliveries that their handlers hand back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidegate::config::{BrokerSettings, NodeSettings, QueueType, Settings, Slots};
use tidegate::delivery::Delivery;
use tidegate::handler::{Context, Handler, HoldEnd, Outcome};
use tidegate::lifecycle::Phase;
use tidegate::worker::{RunningWorker, Worker};
use tokio::sync::mpsc;

use crate::harness::fleet::FleetProgram;
use crate::harness::status::{StatusMessage, StatusTap};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that, stretched, within};

const LONG: Duration = Duration::from_secs(600);

fn id(delivery: &Delivery) -> String {
    delivery.properties.message_id.clone().unwrap_or_default()
}

async fn start(vhost: &Vhost, node: NodeSettings, handler: impl Handler) -> RunningWorker {
    started(settings(vhost, node), handler).await
}

fn settings(vhost: &Vhost, node: NodeSettings) -> Settings {
    let mut settings = Settings::new(BrokerSettings::from_url(vhost.url().as_str()).unwrap());
    settings.worker.http = None;
    settings.nodes = vec![node];
    settings
}

async fn started(settings: Settings, handler: impl Handler) -> RunningWorker {
    let queue = settings.nodes[0].queue.clone();
    Worker::from_settings(settings)
        .handler(queue, handler)
        .start()
        .await
        .unwrap()
}

fn node(slots: usize, prefetch: u16) -> NodeSettings {
    let mut node = NodeSettings::new("orders");
    node.declare = false;
    node.retry.max_attempts = 1;
    node.slots = Slots::Own(slots);
    node.prefetch = prefetch;
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_on_hold_lets_others_have_its_slot() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 4).await;
    let (ended, mut ends) = mpsc::unbounded_channel();
    let others = Arc::new(tokio::sync::Semaphore::new(0));
    let handler = move |delivery: Arc<Delivery>, context: Context| {
        let (ended, others) = (ended.clone(), Arc::clone(&others));
        async move {
            if id(&delivery) == "0" {
                while others.available_permits() < 3 {
                    assert_eq!(
                        context.hold(Duration::from_millis(10)).await,
                        HoldEnd::Elapsed
                    );
                }
            } else {
                others.add_permits(1);
            }
            ended.send(id(&delivery)).unwrap();
            Outcome::Done
        }
    };
    let mut worker = start(&vhost, node(1, 4), handler).await;
    for expected in ["1", "2", "3", "0"] {
        assert_eq!(within("an end", ends.recv()).await.unwrap(), expected);
    }
    worker.handle().drain("test").await;
    let report = within("the end", worker.finished()).await.unwrap();
    assert_eq!((report.unconfirmed, report.interrupted), (0, 0));
    assert_eq!(vhost.take_all("orders").await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn beats_and_the_fleet_program_tell_how_many_deliveries_are_on_hold() {
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", 3).await;
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let tap = StatusTap::start(&vhost).await;
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let handler = move |delivery: Arc<Delivery>, context: Context| {
        let gate = Arc::clone(&opened);
        async move {
            if id(&delivery) == "2" {
                gate.acquire().await.unwrap().forget();
                return Outcome::Done;
            }
            assert_eq!(context.hold(LONG).await, HoldEnd::Draining);
            Outcome::HandBack
        }
    };
    let mut settings = settings(&vhost, node(1, 3));
    settings.worker.name = "web-1".to_owned();
    let second = Duration::from_secs(1);
    (settings.heartbeat.busy, settings.heartbeat.idle) = (second, second);
    let mut worker = started(settings, handler).await;
    let beat = tap
        .seen("a beat of one that runs and two on hold", |message| {
            let node = &message.json["nodes"][0];
            message.kind() == "beat" && node["in_flight"] == 1 && node["held"] == 2
        })
        .await;
    assert_eq!(beat.json["load"], 1.0, "what is on hold takes no slot");
    let shown = fleet
        .until_where("web-1", "running with two on hold", |worker| {
            worker["nodes"][0]["held"] == 2
        })
        .await;
    assert_eq!(shown["nodes"][0]["in_flight"], 1, "{shown}");
    let queues = fleet.json("/api/v1/queues").await;
    let row = &queues["queues"][0];
    assert_eq!((&row["running"], &row["on_hold"]), (&1.into(), &2.into()));

    gate.add_permits(1);
    worker.handle().drain("test").await;
    within("the end", worker.finished()).await.unwrap();
    tap.drain().await;
    let stopped = fleet.until("web-1", "stopped").await;
    assert!(stopped["nodes"][0].get("held").is_none(), "{stopped}");
    assert_eq!(vhost.take_ids("orders").await, ["0", "1"]);
    tap.messages()
        .iter()
        .for_each(StatusMessage::obeys_its_schema);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_puts_what_is_on_hold_back_in_its_place_in_order() {
    for kind in ["classic", "quorum"] {
        let vhost = Vhost::with_queue("orders", kind).await;
        vhost.publish("orders", 230).await;
        let held = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&held);
        let handler = move |_delivery: Arc<Delivery>, context: Context| {
            let counted = Arc::clone(&counted);
            async move {
                counted.fetch_add(1, Ordering::SeqCst);
                let end = context.hold(LONG).await;
                assert_eq!(end, HoldEnd::Draining);
                Outcome::HandBack
            }
        };
        let mut worker = start(&vhost, node(4, 200), handler).await;
        eventually("200 are on hold", async || {
            let held = held.load(Ordering::SeqCst);
            expect_that(held == 200, || format!("{held}"))
        })
        .await;
        worker.handle().drain("test").await;
        let report = within("the end", worker.finished()).await.unwrap();
        let counts = (report.finished, report.handed_back, report.interrupted);
        assert_eq!(counts, (0, 200, 0));
        let duration = Duration::from_millis(report.duration_ms);
        assert!(duration < stretched(Duration::from_secs(1)), "{duration:?}");
        let left = vhost.take_ids("orders").await;
        let expected: Vec<_> = (0..230).map(|number| number.to_string()).collect();
        assert_eq!(left, expected, "{kind}");
    }
}

/// With a single active consumer the drain does not cancel it: what goes back must not come again behind the rest.
#[tokio::test(flavor = "multi_thread")]
async fn with_a_single_active_consumer_all_goes_back_in_order() {
    for (kind, is_aborted) in [
        (QueueType::Classic, false),
        (QueueType::Quorum, false),
        (QueueType::Quorum, true),
    ] {
        let vhost = Vhost::new().await;
        let mut node = node(1, 20);
        node.declare = true;
        node.kind = kind;
        node.single_active_consumer = true;
        let (sender, mut runs) = mpsc::unbounded_channel();
        let handler = move |delivery: Arc<Delivery>, context: Context| {
            sender.send(id(&delivery)).unwrap();
            async move {
                if is_aborted {
                    std::future::pending::<()>().await;
                }
                assert_eq!(context.hold(LONG).await, HoldEnd::Draining);
                Outcome::HandBack
            }
        };
        let mut worker = start(&vhost, node.clone(), handler).await;
        let mut phase = worker.phase();
        let running = phase.wait_for(|phase| *phase == Phase::Running);
        within("it runs", running).await.unwrap();
        vhost.publish("orders", 30).await;
        assert_eq!(within("a run", runs.recv()).await.unwrap(), "0");
        worker.handle().drain("test").await;
        if is_aborted {
            worker.handle().abort().await;
        }
        let report = within("the end", worker.finished()).await.unwrap();
        assert_eq!(report.interrupted, u64::from(is_aborted));
        // Nothing can be got from such a queue but by consuming it.
        let (sender, mut runs) = mpsc::unbounded_channel();
        let handler = move |delivery: Arc<Delivery>, _context: Context| {
            sender.send(id(&delivery)).unwrap();
            async { Outcome::Done }
        };
        let mut next = start(&vhost, node, handler).await;
        for expected in 0..30 {
            let run = within("a run", runs.recv()).await.unwrap();
            assert_eq!(run, expected.to_string(), "{kind:?}, aborted: {is_aborted}");
        }
        next.handle().drain("test").await;
        within("the end", next.finished()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_handed_back_by_its_handler_runs_again_uncounted() {
    for kind in ["classic", "quorum"] {
        let vhost = Vhost::with_queue("orders", kind).await;
        vhost.publish("orders", 1).await;
        let (sender, mut attempts) = mpsc::unbounded_channel();
        let handler = move |delivery: Arc<Delivery>, _context: Context| {
            let runs = sender.clone();
            async move {
                runs.send((delivery.attempt, delivery.redelivered)).unwrap();
                if delivery.redelivered {
                    Outcome::Done
                } else {
                    Outcome::HandBack
                }
            }
        };
        let mut worker = start(&vhost, node(1, 1), handler).await;
        let mut next = async || within("a run", attempts.recv()).await.unwrap();
        assert_eq!(next().await, (1, false));
        assert_eq!(next().await, (1, true));
        worker.handle().drain("test").await;
        within("the end", worker.finished()).await.unwrap();
        assert_eq!(vhost.take_all("orders").await.len(), 0);
        assert_eq!(vhost.take_all("orders.dead").await.len(), 0);
    }
}

/// A handler that knows what identifies its deliveries, and counts its runs.
struct Identifying(Arc<AtomicUsize>);

impl Handler for Identifying {
    async fn handle(&self, _delivery: Arc<Delivery>, _context: Context) -> Outcome {
        self.0.fetch_add(1, Ordering::SeqCst);
        Outcome::Done
    }

    fn identity(&self, delivery: &Delivery) -> Option<String> {
        Some(String::from_utf8_lossy(&delivery.body).into_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_handler_identifies_is_not_run_again_after_a_lost_acknowledgement() {
    use crate::harness::proxy::{Direction, Proxy};
    let vhost = Vhost::with_queue("orders", "quorum").await;
    let message = (lapin::BasicProperties::default(), b"event 7".to_vec());
    vhost.publish_messages("orders", [message]).await;
    let proxy = Proxy::start(vhost.url()).await;
    let hold = proxy.hold(Direction::ToBroker, |event| event.is("basic.ack"));
    let runs = Arc::new(AtomicUsize::new(0));
    let mut settings =
        Settings::new(BrokerSettings::from_url(proxy.url(vhost.url()).as_str()).unwrap());
    settings.worker.http = None;
    settings.nodes = vec![node(1, 1)];
    let mut worker = Worker::from_settings(settings)
        .handler("orders", Identifying(Arc::clone(&runs)))
        .start()
        .await
        .unwrap();
    hold.holds_one().await;
    proxy.refuse(true);
    proxy.cut();
    hold.release();
    vhost.until_ready("orders", 1).await;
    proxy.refuse(false);
    vhost.until_consumers("orders", 1).await;
    vhost.until_ready("orders", 0).await;
    worker.handle().drain("test").await;
    within("the end", worker.finished()).await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(vhost.take_all("orders").await.len(), 0);
}

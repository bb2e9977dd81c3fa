//! Nodes that come and go while the worker runs, and nodes that fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use nix::sys::signal::Signal;
use serde_json::Value;
use tidegate::config::{BrokerSettings, NodeSettings, Settings};
use tidegate::handler::{AnyHandler, Context, Outcome};
use tidegate::worker::{DrainOutcome, RunningWorker};
use tidegate::{Delivery, Node, Worker as LibraryWorker};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::harness::fleet::FleetProgram;
use crate::harness::gate::Gate;
use crate::harness::status::{StatusMessage, StatusTap};
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that, within};
use crate::harness::worker::{LogLine, Worker, WorkerConfig};

fn settings(vhost: &Vhost) -> Settings {
    let broker = BrokerSettings::from_url(vhost.url().as_str()).unwrap();
    let mut settings = Settings::new(broker);
    settings.worker.http = None;
    settings.drain.grace = Duration::from_secs(60);
    settings
}

/// A node of a queue that the test declared: it is run once, so that no queue for retries is needed.
fn undeclared(settings: &mut NodeSettings) {
    settings.declare = false;
    settings.retry.max_attempts = 1;
}

/// Counts how often each message id was run.
#[derive(Debug, Clone, Default)]
struct Counter(Arc<Mutex<BTreeMap<String, usize>>>);

impl Counter {
    fn handler(&self) -> AnyHandler {
        let runs = Arc::clone(&self.0);
        AnyHandler::new("rust", move |delivery: Arc<Delivery>, _: Context| {
            let runs = Arc::clone(&runs);
            async move {
                tokio::task::yield_now().await;
                let id = delivery.properties.message_id.clone().unwrap();
                *runs.lock().unwrap().entry(id).or_default() += 1;
                Outcome::Done
            }
        })
    }

    async fn until(&self, count: usize) {
        eventually(format_args!("{count} messages have run"), async || {
            let runs = self.0.lock().unwrap().len();
            expect_that(runs == count, || format!("{runs} have"))
        })
        .await;
    }

    fn repeated(&self) -> Vec<String> {
        let runs = self.0.lock().unwrap();
        let repeated = runs.iter().filter(|(_, runs)| **runs > 1);
        repeated.map(|(id, _)| id.clone()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_added_and_removed_under_load_without_loss_or_repetition() {
    const QUEUES: usize = 20;
    const EACH: usize = 100;
    for kind in ["classic", "quorum"] {
        let vhost = Vhost::new().await;
        let queues: Vec<String> = (0..QUEUES).map(|number| format!("q{number}")).collect();
        for queue in &queues {
            vhost.declare(queue, kind).await;
            let ids = (0..EACH).map(|number| format!("{queue}-{number}"));
            vhost.publish_all(queue, ids).await;
        }
        let counter = Counter::default();
        let handler = counter.handler();
        let node = |queue: &String| {
            let node = Node::new(queue.as_str()).slots(2).configure(undeclared);
            node.any_handler(handler.clone())
        };
        let (wanted, source) = watch::channel(Vec::new());
        let builder = LibraryWorker::from_settings(settings(&vhost)).nodes_from(source);
        let mut worker = builder.start().await.unwrap();
        // Each round another half of the nodes is wanted, while all of them have messages.
        for round in 0..10 {
            let half = queues.iter().enumerate();
            let half = half.filter(|(place, _)| (place + round) % 2 == 0);
            let nodes: Vec<Node> = half.map(|(_, queue)| node(queue)).collect();
            let first = nodes[0].queue().to_owned();
            wanted.send_replace(nodes);
            vhost.until_consumers(&first, 1).await;
        }
        wanted.send_replace(queues.iter().map(node).collect());
        counter.until(QUEUES * EACH).await;
        worker.handle().drain("test").await;
        let report = within("the drain", worker.finished()).await.unwrap();
        assert_eq!(report.outcome, DrainOutcome::Clean, "{report:?}");
        assert_eq!(counter.repeated(), Vec::<String>::new(), "{kind}");
        for queue in &queues {
            assert_eq!(vhost.ready(queue).await, 0, "{queue}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_missing_costs_its_own_node_and_no_other() {
    let vhost = Vhost::with_queue("here", "classic").await;
    let gate = Gate::open().await;
    let config = WorkerConfig::new(vhost.url())
        .http_node("missing", &gate.url(), "")
        .http_node("here", &gate.url(), "");
    let mut worker = Worker::ready(&config).await;
    worker
        .logged("the broker refuses the queue; trying again")
        .await;
    vhost.publish("here", 5).await;
    gate.finished(5).await;
    vhost.declare("missing", "classic").await;
    vhost.publish("missing", 5).await;
    gate.finished(10).await;
    // That it goes again costs nobody else the readiness.
    let refused = "the broker refuses the queue; trying again";
    let before = worker.log().count(refused);
    vhost.delete("missing").await;
    worker.logged_times(refused, before + 1).await;
    worker.until_readiness(200).await;
    worker.drained().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_refused_says_why_in_one_state_for_each_reason() {
    let vhost = Vhost::with_queue("here", "classic").await;
    let (tap, gate) = (StatusTap::start(&vhost).await, Gate::open().await);
    let fleet = FleetProgram::ready(vhost.url(), "").await;
    let owner = vhost.channel().await;
    let exclusive = QueueDeclareOptions {
        exclusive: true,
        ..QueueDeclareOptions::default()
    };
    let declared = owner.queue_declare("locked".into(), exclusive, FieldTable::default());
    declared.await.unwrap();
    let config = WorkerConfig::new(vhost.url()).name("web-1");
    let config = ["here", "missing", "locked"]
        .into_iter()
        .fold(config, |config, queue| {
            config.http_node(queue, &gate.url(), "")
        });
    let mut worker = Worker::ready(&config).await;
    let note = |state: &Value, node: usize| {
        let note = state["nodes"][node]["note"].as_str();
        note.unwrap_or_default().to_owned()
    };
    let says = async |what: &str, missing: &str| {
        tap.seen(what, |message| {
            message.kind() == "state"
                && message.phase() == "running"
                && note(&message.json, 1).contains(missing)
                && note(&message.json, 2).contains("405")
        })
        .await
        .json
    };
    let state = says("a queue that is missing", "404: NOT_FOUND").await;
    assert_eq!(state["nodes"][1]["phase"], "starting");
    assert_eq!(note(&state, 0), "", "{state}");
    let password = vhost.url().password().unwrap();
    assert!(!note(&state, 1).contains(&format!(":{password}@")));
    let shown = fleet
        .until_where("web-1", "running with a reason", |worker| {
            note(worker, 1) == note(&state, 1)
        })
        .await;
    assert_eq!(note(&shown, 2), note(&state, 2));
    let queues = fleet.json("/api/v1/queues").await;
    let rows = queues["queues"].as_array().unwrap();
    let row = rows.iter().find(|row| row["queue"] == "missing").unwrap();
    assert_eq!(row["held"][0]["why"], note(&state, 1), "{queues}");

    let stream = AMQPValue::LongString("stream".into());
    vhost
        .declare_with("missing", [("x-queue-type", stream)])
        .await;
    says("a queue of another type", "is a stream").await;
    vhost.delete("missing").await;
    vhost.declare("missing", "classic").await;
    tap.seen("a node that consumes", |message| {
        let node = &message.json["nodes"][1];
        message.kind() == "state" && node["phase"] == "running" && node.get("note").is_none()
    })
    .await;
    worker.drained().await;
    tap.drain().await;
    let mut states = tap.of_kind("state");
    let told = states.len();
    states.dedup_by_key(|state| (state.phase().to_owned(), state.json["nodes"].clone()));
    assert_eq!(states.len(), told, "each state says something new");
    tap.messages()
        .iter()
        .for_each(StatusMessage::obeys_its_schema);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_changes_slots_and_nodes_without_loss_or_repetition() {
    let vhost = Vhost::new().await;
    for queue in ["orders", "bills"] {
        vhost.declare(queue, "quorum").await;
        let ids = (0..200).map(|number| format!("{queue}-{number}"));
        vhost.publish_all(queue, ids).await;
    }
    let gate = Gate::closed().await;
    let config = |slots: usize| {
        let slots = format!("concurrency = {slots}");
        WorkerConfig::for_orders(vhost.url(), &gate, &slots)
    };
    let mut worker = Worker::ready(&config(2)).await;
    gate.started(2).await;

    // Two run already; eighteen more begin beside them.
    worker.rewrite(&config(20));
    worker.signal(Signal::SIGHUP);
    worker.logged("the configuration was read again").await;
    gate.started(20).await;
    assert_eq!(gate.in_flight(), 20);
    gate.release(2);
    gate.finished(2).await;
    gate.started(22).await;
    assert_eq!(gate.in_flight(), 20);

    // Another node, and back to two slots.
    let both = config(2).http_node("bills", &gate.url(), "concurrency = 1");
    worker.rewrite(&both);
    worker.signal(Signal::SIGHUP);
    gate.release_all();
    gate.finished(400).await;
    let mut runs = BTreeMap::<String, Vec<(u32, bool)>>::new();
    for request in gate.requests() {
        let run = (request.attempt, request.redelivered);
        runs.entry(request.id).or_default().push(run);
    }
    assert_eq!(runs.len(), 400, "no message is lost");
    runs.retain(|_, runs| runs.len() > 1);
    assert!(
        runs.is_empty(),
        "more than one run (attempt, redelivered): {runs:?}"
    );

    // The log's level changes, and nothing else.
    let logging = |level: &str| config(2).tables(&format!("[log]\nlevel = \"{level}\"\n"));
    let debug = |worker: &Worker| {
        let log = worker.log().log();
        log.iter().filter(|line| line.level() == "DEBUG").count()
    };
    assert_eq!(debug(&worker), 0);
    // The node that is not in the file any more goes, and its neighbour works on.
    vhost.until_consumers("bills", 1).await;
    worker.rewrite(&logging("debug"));
    worker.signal(Signal::SIGHUP);
    worker.logged("the configuration was read again").await;
    eventually("details are logged", async || {
        vhost.publish("orders", 1).await;
        expect_that(debug(&worker) > 0, || "none".to_owned())
    })
    .await;
    vhost.until_consumers("bills", 0).await;
    worker.rewrite(&logging("shout"));
    worker.signal(Signal::SIGHUP);
    let line = worker.logged("the configuration stays as it is").await;
    assert!(format!("{line:?}").contains("log.level"), "{line:?}");

    // What is fixed stays, and is named.
    worker.rewrite(&config(2).name("another"));
    worker.signal(Signal::SIGHUP);
    let stays = |line: &LogLine| {
        let kept = line.message() == "the configuration stays as it is";
        kept && line.text("error").contains("[worker]")
    };
    worker.logged_where("what is fixed", stays).await;
    worker.drained().await;
}

/// GET `path` from the worker's endpoints: the status code, and what stands there.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_that_changes_a_node_interrupts_nothing_and_keeps_no_slot_idle() {
    let vhost = Vhost::new().await;
    let gate = Gate::closed().await;
    let config = |lines: &str| {
        let config = WorkerConfig::new(vhost.url()).grace("1s");
        config.declaring_node("orders", "quorum", &gate.url(), lines)
    };
    let mut worker = Worker::ready(&config("concurrency = 2")).await;
    vhost.publish_all("orders", ["long".to_owned()]).await;
    gate.started(1).await;

    worker.rewrite(&config("concurrency = 2\nretry = { max_attempts = 1 }"));
    worker.signal(Signal::SIGHUP);
    worker.logged("the node goes on with other settings").await;
    gate.answer(|request| if request.id == "bad" { 500 } else { 200 });
    vhost
        .publish_all("orders", ["short".to_owned(), "bad".to_owned()])
        .await;
    // The long run goes on beside them.
    gate.release_id("short");
    gate.release_id("bad");
    vhost.until_ready("orders.dead", 1).await;
    assert_eq!(gate.attempts("bad"), [1], "it is not retried any more");
    assert_eq!(gate.attempts("short"), [1]);
    worker.until_readiness(200).await;
    let begun = Instant::now();
    eventually("more than the grace of a drain passes", async || {
        expect_that(begun.elapsed() > Duration::from_millis(1_500), || {
            "wait".into()
        })
    })
    .await;
    assert_eq!(gate.given_up(), 0);
    gate.release_all();
    gate.finished(3).await;
    let report = worker.drained().await;
    assert_eq!(report.number("interrupted"), 0);
    assert_eq!(gate.attempts("long"), [1]);
}

async fn get(worker: &RunningWorker, path: &str) -> (u16, String) {
    let address = worker.http().unwrap();
    let response = reqwest::get(format!("http://{address}{path}"))
        .await
        .unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_panics_ends_the_worker_in_order_and_as_failed() {
    let vhost = Vhost::with_queue("calm", "classic").await;
    vhost.publish("calm", 3).await;
    let gate = Arc::new(Semaphore::new(0));
    let held = Arc::clone(&gate);
    let (started, mut starts) = mpsc::unbounded_channel();
    let work = move |_: Arc<Delivery>, _: Context| {
        let (held, started) = (Arc::clone(&held), started.clone());
        async move {
            started.send(()).unwrap();
            held.acquire().await.unwrap().forget();
            Outcome::Done
        }
    };
    let mut settings = settings(&vhost);
    settings.worker.http = Some("127.0.0.1:0".parse().unwrap());
    let mut worker = LibraryWorker::from_settings(settings)
        .node(
            Node::new("calm")
                .slots(1)
                .configure(undeclared)
                .handler(work),
        )
        .start()
        .await
        .unwrap();
    within("the first run", starts.recv()).await.unwrap();
    assert_eq!(get(&worker, "/livez").await.0, 200);

    let runtime = tokio::runtime::Handle::current();
    let task = worker.tasks().spawn("node riddle", &runtime, async {
        panic!("a delay of {} s", "NaN");
    });
    let joined: Result<(), _> = within("the panic", task.join()).await;
    assert!(joined.is_err());
    // The drain waits for the delivery that runs; meanwhile nobody takes the worker for well.
    eventually("it is not ready", async || {
        let (code, text) = get(&worker, "/readyz").await;
        expect_that(code == 503 && text.contains("node riddle"), || text)
    })
    .await;
    let (code, text) = get(&worker, "/livez").await;
    assert!(code == 503 && text.contains("node riddle"), "{code} {text}");
    gate.add_permits(1);
    let report = within("the end", worker.finished()).await.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Failed);
    let reason = &report.reason;
    assert!(
        reason.contains("node riddle") && reason.contains("NaN"),
        "{reason}"
    );
    assert_eq!((report.finished, report.handed_back), (1, 1), "{report:?}");
    vhost.until_ready("calm", 2).await;
}

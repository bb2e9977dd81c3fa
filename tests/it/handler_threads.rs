//! The threads that handlers run on.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidegate::delivery::Delivery;
use tidegate::handler::{Context, Handler, Outcome, Quick};
use tidegate::internal::status::wire::DrainOutcome;
use tidegate::worker::Worker;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::harness::vhost::Vhost;
use crate::harness::wait::within;
use crate::library::{node, settings};

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_handler_runs_on_the_thread_of_its_connection_and_may_panic() {
    const COUNT: usize = 200;
    let vhost = Vhost::with_queue("orders", "quorum").await;
    vhost.publish("orders", COUNT).await;
    let (sender, mut runs) = mpsc::unbounded_channel();
    let handler = move |delivery: Arc<Delivery>, _context: Context| {
        let name = std::thread::current().name().map(str::to_owned);
        sender.send(name).unwrap();
        async move {
            assert!(delivery.attempt > 1, "each first run panics");
            Outcome::Done
        }
    };
    let mut node = node("orders", 4, 50);
    node.retry.min = Duration::from_millis(10);
    node.retry.max = Duration::from_millis(10);
    let settings = settings(&vhost, vec![node], Duration::from_secs(60));
    let mut worker = Worker::from_settings(settings)
        .handler("orders", Quick(handler))
        .start()
        .await
        .unwrap();
    for _ in 0..2 * COUNT {
        let name = within("a run", runs.recv()).await.unwrap();
        let amqp = ["lapin-io-loop", "tidegate-amqp"];
        assert!(amqp.map(Some).contains(&name.as_deref()), "{name:?}");
    }
    worker.handle().drain("test").await;
    let report = within("the end", worker.finished()).await.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Clean);
    assert_eq!(vhost.take_all("orders").await.len(), 0);
}

/// What is written to it.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quick_handler_that_holds_its_thread_is_warned_of() {
    let log = Written::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(move || writer.clone());
    // No other test of this program has one.
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();
    let vhost = Vhost::with_queue("orders", "classic").await;
    let (sender, mut runs) = mpsc::unbounded_channel();
    let handler = move |_delivery: Arc<Delivery>, _context: Context| {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(150) {
            std::hint::spin_loop();
        }
        sender.send(()).unwrap();
        async { Outcome::Done }
    };
    let settings = settings(&vhost, vec![node("orders", 1, 1)], Duration::from_secs(60));
    let mut worker = Worker::from_settings(settings)
        .handler("orders", Quick(handler))
        .start()
        .await
        .unwrap();
    // The second comes once the first is acknowledged.
    vhost.publish("orders", 2).await;
    for _ in 0..2 {
        within("a run", runs.recv()).await.unwrap();
    }
    let text = log.text();
    assert!(text.contains("a quick handler took long"), "{text}");
    worker.handle().drain("test").await;
    let report = within("the end", worker.finished()).await.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Clean);
}

/// Sends the name of the thread of each run, and has a runtime of its own.
struct OnOwnRuntime {
    runtime: Handle,
    runs: mpsc::UnboundedSender<Option<String>>,
}

impl Handler for OnOwnRuntime {
    async fn handle(&self, _delivery: Arc<Delivery>, _context: Context) -> Outcome {
        let name = std::thread::current().name().map(str::to_owned);
        self.runs.send(name).unwrap();
        Outcome::Done
    }

    fn runtime(&self) -> Option<Handle> {
        Some(self.runtime.clone())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_with_a_runtime_runs_on_it() {
    const COUNT: usize = 50;
    let vhost = Vhost::with_queue("orders", "classic").await;
    vhost.publish("orders", COUNT).await;
    let mut own = tokio::runtime::Builder::new_multi_thread();
    let own = own.worker_threads(2).thread_name("own").build().unwrap();
    let (sender, mut runs) = mpsc::unbounded_channel();
    let handler = OnOwnRuntime {
        runtime: own.handle().clone(),
        runs: sender,
    };
    let nodes = vec![node("orders", 4, 50)];
    let mut worker = Worker::from_settings(settings(&vhost, nodes, Duration::from_secs(60)))
        .handler("orders", handler)
        .start()
        .await
        .unwrap();
    for _ in 0..COUNT {
        let name = within("a run", runs.recv()).await.unwrap();
        assert_eq!(name.as_deref(), Some("own"));
    }
    worker.handle().drain("test").await;
    let report = within("the end", worker.finished()).await.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Clean);
    assert_eq!(vhost.take_all("orders").await.len(), 0);
    own.shutdown_background();
}

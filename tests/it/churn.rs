//! Nodes come and go under load, while workers are stopped and replaced at random moments.

use std::collections::BTreeSet;

use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};

use crate::harness::gate::Gate;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually, expect_that};
use crate::harness::worker::{Worker, WorkerConfig};

const QUEUES: usize = 24;
const WORKERS: usize = 3;
const STOPS: usize = 30;
/// Nodes that have to be added, and removed, in all.
const CHANGES: usize = 100;

/// `TIDEGATE_TEST_SEED`, or a fixed one; a failure names it.
fn seed() -> u64 {
    let seed = std::env::var("TIDEGATE_TEST_SEED");
    seed.map_or(20_261, |text| text.parse().expect("a number"))
}

/// A worker, and the queues that it hosts.
struct Member {
    worker: Worker,
    queues: BTreeSet<String>,
}

/// The scene of the test: everything that is drawn at random comes out of one generator.
struct Scene {
    vhost: Vhost,
    gate: Gate,
    queues: Vec<String>,
    random: StdRng,
    published: usize,
    added: usize,
    removed: usize,
}

impl Scene {
    async fn new() -> Self {
        let vhost = Vhost::new().await;
        let queues: Vec<String> = (0..QUEUES).map(|number| format!("q{number}")).collect();
        for (number, queue) in queues.iter().enumerate() {
            let kind = ["classic", "quorum"][number % 2];
            vhost.declare(queue, kind).await;
        }
        Self {
            vhost,
            gate: Gate::open().await,
            queues,
            random: StdRng::seed_from_u64(seed()),
            published: 0,
            added: 0,
            removed: 0,
        }
    }

    /// Publishes `each` messages to every queue.
    async fn load(&mut self, each: usize) {
        for queue in &self.queues {
            let first = self.published;
            let ids = (first..first + each).map(|number| format!("{queue}-{number}"));
            self.vhost.publish_all(queue, ids).await;
        }
        self.published += each;
    }

    fn some_queues(&mut self) -> BTreeSet<String> {
        let count = self.random.random_range(QUEUES / 2..QUEUES);
        let queues = self.queues.sample(&mut self.random, count);
        queues.cloned().collect()
    }

    fn config(&self, queues: &BTreeSet<String>) -> WorkerConfig {
        let config = WorkerConfig::new(self.vhost.url());
        queues.iter().fold(config, |config, queue| {
            config.http_node(queue, &self.gate.url(), "concurrency = 2\nprefetch = 8")
        })
    }

    async fn start(&mut self) -> Member {
        let queues = self.some_queues();
        let worker = Worker::spawn(&self.config(&queues));
        // From here on signals are listened for.
        worker.logged("worker starting").await;
        Member { worker, queues }
    }

    /// Has `member` host other queues.
    fn change(&mut self, member: &mut Member) {
        let queues = self.some_queues();
        self.added += queues.difference(&member.queues).count();
        self.removed += member.queues.difference(&queues).count();
        member.worker.rewrite(&self.config(&queues));
        member.worker.signal(Signal::SIGHUP);
        member.queues = queues;
    }

    /// Waits for a random moment, counted in runs since `before`. After a load of three for each queue any worker has more
    /// to do than that.
    async fn some_runs(&mut self, before: usize) {
        let wanted = before + self.random.random_range(0..30);
        eventually("the work goes on", async || {
            let runs = self.gate.count();
            expect_that(runs >= wanted, || format!("{runs} of {wanted}"))
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_come_and_go_while_workers_stop_at_random_lose_and_repeat_nothing() {
    let mut scene = Scene::new().await;
    scene.load(20).await;
    let mut members = Vec::new();
    for _ in 0..WORKERS {
        members.push(scene.start().await);
    }
    for stop in 0..STOPS {
        let before = scene.gate.count();
        scene.load(3).await;
        let turn = stop % WORKERS;
        scene.change(&mut members[turn]);
        scene.some_runs(before).await;
        let next = scene.start().await;
        let mut member = std::mem::replace(&mut members[turn], next);
        let report = member.worker.drained().await;
        assert_eq!(report.text("outcome"), "clean", "seed {}", seed());
    }
    let changes = (scene.added, scene.removed);
    assert!(changes.0 >= CHANGES && changes.1 >= CHANGES, "{changes:?}");

    // One worker for all queues takes the rest.
    let all = scene.queues.iter().cloned().collect();
    let mut last = Worker::ready(&scene.config(&all)).await;
    let messages = scene.published * QUEUES;
    scene.gate.messages_came(messages).await;
    last.drained().await;
    for mut member in members {
        member.worker.drained().await;
    }
    let runs = scene.gate.count();
    assert_eq!(runs, messages, "some ran twice; seed {}", seed());
    for queue in &scene.queues {
        assert_eq!(scene.vhost.ready(queue).await, 0, "{queue}");
    }
}

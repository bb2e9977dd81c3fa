//! Stops of every kind under load: each object once, each work told exactly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tidegate_platform_stub::Failure;

use super::bench::{self, Bench, CONNECTOR_EXCHANGE, identity, message, messages, times};
use crate::harness::proxy::Proxy;
use crate::harness::wait::{eventually, eventually_within, expect_that, limit};

/// A number generator whose seed a failing test shows.
fn random() -> StdRng {
    let seed = rand::random();
    eprintln!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

/// Two queues of single objects, one of bundles to split, one of events, one of listen messages. Says how many
/// objects and listen messages there are.
async fn load(bench: &Bench) -> (usize, usize) {
    let listened = "listen_a";
    bench.vhost.declare_with(listened, []).await;
    bench
        .vhost
        .bind(listened, CONNECTOR_EXCHANGE, listened)
        .await;
    let mut listening = bench.listed("a");
    listening["config"]["listen_callback_uri"] = bench.platform.callback_url().into();
    let others = ["b", "c", "d"].iter().map(|id| bench.listed(id));
    let connectors: Value = others.chain([listening]).collect();
    bench.platform.set_connectors(connectors);
    for (queue, first) in [("a", 0), ("b", 100)] {
        let work = format!("work-{queue}");
        bench.platform.declare(&work, 30);
        let more = json!({"work_id": work});
        bench.send(queue, &messages(first..first + 30, &more)).await;
    }
    for first in [1_000, 2_000] {
        let objects: Vec<_> = (first..first + 50).map(identity).collect();
        let whole = message(&objects, &json!({"work_id": "work-c"}));
        bench.send("c", &[whole]).await;
    }
    bench.platform.declare("work-d", 20);
    let events = (3_000..3_020).map(|number| {
        let event = json!({"type": "create", "data": identity(number), "context": {}});
        json!({"type": "event", "content": bench::encoded(&event.to_string()), "work_id": "work-d"})
    });
    bench.send("d", &events.collect::<Vec<_>>()).await;
    let bodies = (0..20).map(|number| json!({"number": number}));
    bench.send_to(listened, &bodies.collect::<Vec<_>>()).await;
    (30 + 30 + 100 + 20, 20)
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_at_random_moments_repeat_and_lose_nothing() {
    let Some(bench) = Bench::new(&["a", "b", "c", "d"]).await else {
        return;
    };
    bench.platform.set_latency(Duration::from_millis(60));
    let (objects, listened) = load(&bench).await;
    let mut random = random();
    let stops = times("TIDEGATE_TEST_OPENCTI_STOPS", 6);
    for stop in 1..=stops {
        let mut worker = bench.worker(&[]);
        // From here on a signal drains it.
        worker.logged("asking the platform for its queues").await;
        let from = (stop - 1) * objects / (stops + 1);
        let to = stop * objects / (stops + 1);
        bench.until_imported(random.random_range(from..=to)).await;
        worker.terminate();
        assert_eq!(worker.ended().await.code, Some(0), "stop {stop}");
    }
    let mut worker = bench.worker(&[]);
    bench.until_works_complete(4).await;
    let given = || bench.platform.callbacks();
    eventually("all listen messages are posted", async || {
        expect_that(given().len() >= listened, || given().len().to_string())
    })
    .await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    let imports = bench.imports();
    assert_eq!(imports.len(), objects);
    assert!(imports.iter().all(|times| *times == 1), "{imports:?}");
    bench.expect_exact_reports();
    let mut bodies = BTreeMap::new();
    for body in given() {
        *bodies.entry(body["number"].as_u64()).or_insert(0) += 1;
    }
    assert_eq!(bodies.len(), listened);
    assert!(bodies.values().all(|times| *times == 1), "{bodies:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_import_each_object_once() {
    let Some(mut bench) = Bench::new(&["a", "b"]).await else {
        return;
    };
    let proxy = Proxy::start(bench.vhost.url()).await;
    bench.broker = proxy.url(bench.vhost.url());
    bench.connectors(&["a", "b"], None);
    bench.platform.set_latency(Duration::from_millis(100));
    for (queue, first) in [("a", 0), ("b", 100)] {
        let work = format!("work-{queue}");
        bench.platform.declare(&work, 25);
        let more = json!({"work_id": work});
        bench.send(queue, &messages(first..first + 25, &more)).await;
    }
    let mut worker = bench.worker(&[]);
    let mut random = random();
    for cut in 1..=4 {
        let moment = random.random_range(cut * 8..=cut * 11);
        bench.until_imported(moment).await;
        proxy.cut();
    }
    bench.until_works_complete(2).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    assert_eq!(bench.imports(), [1; 50]);
    bench.expect_exact_reports();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_loses_nothing() {
    let Some(bench) = Bench::new(&["a", "b"]).await else {
        return;
    };
    bench.platform.set_latency(Duration::from_millis(80));
    let kills = times("TIDEGATE_TEST_OPENCTI_KILLS", 3);
    let each = u32::try_from(kills * 6).unwrap();
    for (queue, first) in [("a", 0), ("b", 10_000)] {
        let work = format!("work-{queue}");
        bench.platform.declare(&work, each.into());
        let more = json!({"work_id": work});
        bench
            .send(queue, &messages(first..first + each, &more))
            .await;
    }
    for kill in 1..=kills {
        let mut worker = bench.worker(&[]);
        bench.until_imported(kill * 8).await;
        worker.kill().await;
    }
    let mut worker = bench.worker(&[]);
    bench.until_imported(each as usize * 2).await;
    bench.vhost.until_ready("push_a", 0).await;
    // At most what was in flight at each kill, one for each queue.
    let repeats: usize = bench.imports().iter().map(|times| times - 1).sum();
    assert!(repeats <= 2 * kills, "{repeats}");
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_neither_for_discovery_nor_for_what_the_full_pool_keeps_waiting() {
    let queues = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let Some(bench) = Bench::new(&queues).await else {
        return;
    };
    let slow = Duration::from_millis(1_500);
    bench.platform.set_latency(slow);
    let (begun, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, times_asked) = (Arc::clone(&begun), Arc::clone(&asked));
    bench.platform.fail(move |call| {
        if call.is_import() {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        let is_discovery = call.field == "connectorsForWorker";
        let again = is_discovery && times_asked.fetch_add(1, Ordering::Relaxed) > 0;
        again.then(|| Failure::Hang(Duration::from_mins(10)))
    });
    for (number, queue) in queues.into_iter().enumerate() {
        let first = u32::try_from(number).unwrap() * 10;
        bench.platform.declare(queue, 2);
        let more = json!({"work_id": queue});
        bench.send(queue, &messages(first..first + 2, &more)).await;
    }
    let mut worker = bench.worker(&[("TIDEGATE__OPENCTI__DISCOVERY_INTERVAL", "1s")]);
    // Five slots, and discovery hangs.
    eventually_within(limit() * 2, "all slots are taken", async || {
        let found = (begun.load(Ordering::Relaxed), asked.load(Ordering::Relaxed));
        expect_that(found.0 >= 5 && found.1 >= 2, || format!("{found:?}"))
    })
    .await;
    let running = begun.load(Ordering::Relaxed);
    worker.terminate();
    let from = Instant::now();
    let ended = worker.ended().await;
    assert_eq!(ended.code, Some(0), "{}", worker.log().text());
    assert!(
        from.elapsed() < Duration::from_secs(20),
        "{:?}",
        from.elapsed()
    );
    // Nothing was begun in the drain, but what took a slot in the very moment of the signal.
    let late = begun.load(Ordering::Relaxed) - running;
    assert!(late <= 5, "{late}");
    bench.platform.recover();
    bench.platform.set_latency(Duration::ZERO);
    let mut worker = bench.worker(&[]);
    bench.until_works_complete(queues.len()).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    assert_eq!(bench.imports(), [1; 16]);
    bench.expect_exact_reports();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connector_that_is_deleted_under_load_costs_nobody_else() {
    let Some(bench) = Bench::new(&["a", "b"]).await else {
        return;
    };
    bench.platform.set_latency(Duration::from_millis(100));
    for (queue, first) in [("a", 0), ("b", 100)] {
        bench.platform.declare(queue, 25);
        let more = json!({"work_id": queue});
        bench.send(queue, &messages(first..first + 25, &more)).await;
    }
    let mut worker = bench.worker(&[("TIDEGATE__OPENCTI__DISCOVERY_INTERVAL", "1s")]);
    bench.until_imported(8).await;
    bench.vhost.delete("push_a").await;
    bench.connectors(&["b"], None);
    eventually_within(limit() * 2, "the other's work is complete", async || {
        let work = bench.platform.work("b");
        expect_that(work.processed == 25, || format!("{work:?}"))
    })
    .await;
    worker.until_ready().await;
    let imports = bench.imports();
    assert!(imports.iter().all(|times| *times == 1), "{imports:?}");
    assert_eq!(bench.platform.work("b").errors, Vec::<String>::new());
    // Each object of the deleted one that was imported was reported, too.
    let of_deleted = imports.len() - 25;
    eventually("what ran is reported", async || {
        let reported = bench.platform.work("a").processed;
        expect_that(reported == of_deleted as u64, || reported.to_string())
    })
    .await;
    worker.terminate();
    assert_eq!(
        worker.ended().await.code,
        Some(0),
        "{}",
        worker.log().text()
    );
}

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
use crate::harness::wait::{eventually, eventually_within, expect_that, limit};

/// A number generator whose seed a failing test shows.
pub(super) fn random() -> StdRng {
    let seed = rand::random();
    eprintln!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

/// Two queues of single objects, one of bundles to split, one of events, one of listen messages. Says how many
/// objects and listen messages there are.
pub(super) async fn load(bench: &Bench, bundles: [u32; 2]) -> (usize, usize) {
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
    for (first, size) in [1_000, 2_000].into_iter().zip(bundles) {
        let objects: Vec<_> = (first..first + size).map(identity).collect();
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
    let split: u32 = bundles.iter().sum();
    (30 + 30 + split as usize + 20, 20)
}

/// Expects that each object was imported and each listen message posted once, and that each work was told of it.
pub(super) async fn expect_all_once(bench: &Bench, (objects, listened): (usize, usize)) {
    bench.until_works_complete(4).await;
    let given = || bench.platform.callbacks();
    eventually("all listen messages are posted", async || {
        expect_that(given().len() >= listened, || given().len().to_string())
    })
    .await;
    for queue in ["push_a", "push_b", "push_c", "push_d", "listen_a"] {
        bench.vhost.until_ready(queue, 0).await;
    }
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
async fn stops_at_random_moments_repeat_and_lose_nothing() {
    let Some(bench) = Bench::new(&["a", "b", "c", "d"]).await else {
        return;
    };
    bench.platform.set_latency(Duration::from_millis(60));
    let mut random = random();
    let stops = times("TIDEGATE_TEST_OPENCTI_STOPS", 6);
    let largest = if stops > 6 { 200 } else { 60 };
    let bundles = [(); 2].map(|()| random.random_range(50..=largest));
    let loaded = load(&bench, bundles).await;
    let (objects, _) = loaded;
    let mut exits = Vec::new();
    for stop in 1..=stops {
        let mut worker = bench.worker(&[]);
        // From here on a signal drains it.
        worker.logged("asking the platform for its queues").await;
        let from = (stop - 1) * objects / (stops + 1);
        let to = stop * objects / (stops + 1);
        bench.until_imported(random.random_range(from..=to)).await;
        let begun = Instant::now();
        worker.terminate();
        assert_eq!(worker.ended().await.code, Some(0), "stop {stop}");
        exits.push(begun.elapsed());
    }
    exits.sort();
    let (median, longest) = (exits[exits.len() / 2], exits[exits.len() - 1]);
    eprintln!("{stops} stops, {objects} objects: exits took {median:?}, at most {longest:?}");
    let mut worker = bench.worker(&[]);
    expect_all_once(&bench, loaded).await;
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_loses_nothing_and_repeats_only_what_was_under_way() {
    let Some(bench) = Bench::new(&["a", "b", "c"]).await else {
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
    let parts = 20;
    let mut random = random();
    for kill in 1..=kills {
        let mut worker = bench.worker(&[]);
        bench.until_imported((kill - 1) * 8 + 4).await;
        let first = 20_000 + u32::try_from(kill).unwrap() * parts;
        let objects: Vec<_> = (first..first + parts).map(identity).collect();
        let work = format!("work-{kill}");
        bench
            .send("c", &[message(&objects, &json!({"work_id": work}))])
            .await;
        if random.random() {
            // It dies while it splits: nothing but the declaration is known to be done.
            eventually_within(limit() * 2, "the parts are declared", async || {
                let work = bench.platform.work(&work);
                expect_that(work.expected > 0, || format!("{work:?}"))
            })
            .await;
        } else {
            bench.until_imported(kill * 8).await;
        }
        worker.kill().await;
    }
    let mut worker = bench.worker(&[]);
    let all = (each * 2) as usize + kills * parts as usize;
    bench.until_imported(all).await;
    for queue in ["push_a", "push_b", "push_c"] {
        bench.vhost.until_ready(queue, 0).await;
    }
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
    let imports = bench.imports();
    assert_eq!(imports.len(), all);
    let repeats: usize = imports.iter().map(|times| times - 1).sum();
    eprintln!("{kills} kills, {all} objects: {repeats} imported again");
    // At most what was in flight at each kill: one object for each queue, and a split with its parts.
    assert!(repeats <= kills * (3 + parts as usize), "{repeats}");
    for (name, work) in bench.platform.works() {
        assert!(work.processed > 0, "{name}: {work:?}");
        assert_eq!(work.errors, Vec::<String>::new(), "{name}");
    }
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

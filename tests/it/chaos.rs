//! A thousand messages with all sorts of outcomes, while every connection is cut again and again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tidegate::config::{BrokerSettings, NodeSettings, QueueType, Settings, Slots};
use tidegate::delivery::Delivery;
use tidegate::handler::{Context, Outcome};
use tidegate::internal::status::wire::DrainOutcome;
use tidegate::worker::Worker;

use crate::harness::proxy::Proxy;
use crate::harness::vhost::Vhost;
use crate::harness::wait::{eventually_within, expect_that, stretched, within};
use crate::harness::work::busy;

const MESSAGES: usize = 1_000;
const MAX_ATTEMPTS: u32 = 3;
/// Between two cuts.
const CUT_EVERY: Duration = Duration::from_millis(200);

/// How long the connections are cut: `TIDEGATE_TEST_CHAOS_SECONDS`, by default long enough for dozens of cuts.
fn chaos() -> Duration {
    let seconds = std::env::var("TIDEGATE_TEST_CHAOS_SECONDS");
    let seconds = seconds.map_or(8, |text| text.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// What becomes of message `number`: in run `attempt` it is done, retried or dead.
fn outcome(number: usize, attempt: u32) -> Outcome {
    match number % 10 {
        // Fails once, or twice.
        5 | 6 if attempt == 1 => Outcome::retry("not yet"),
        7 if attempt < MAX_ATTEMPTS => Outcome::retry("not yet"),
        // Fails in every run.
        8 => Outcome::retry("never"),
        9 => Outcome::dead("refused"),
        _ => Outcome::Done,
    }
}

/// The runs that message `number` has in all, and whether it is dead in the end.
fn expected(number: usize) -> (u32, bool) {
    match number % 10 {
        0..=4 => (1, false),
        5 | 6 => (2, false),
        7 => (MAX_ATTEMPTS, false),
        8 => (MAX_ATTEMPTS, true),
        _ => (1, true),
    }
}

type Runs = Arc<Mutex<BTreeMap<(usize, u32), usize>>>;

async fn settled_whatever_happens(kind: QueueType) {
    let vhost = Vhost::new().await;
    let proxy = Proxy::start(vhost.url()).await;
    let runs = Runs::default();
    let seen = Arc::clone(&runs);
    let handler = move |delivery: Arc<Delivery>, _: Context| {
        let id = delivery.properties.message_id.as_deref();
        let number: usize = id.expect("each has one").parse().expect("a number");
        let attempt = delivery.attempt;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry((number, attempt)).or_default() += 1;
        async move {
            busy(Duration::from_millis((number % 40) as u64)).await;
            outcome(number, attempt)
        }
    };
    let mut node = NodeSettings::new("orders");
    node.kind = kind;
    node.slots = Slots::Own(8);
    node.prefetch = 32;
    node.retry.max_attempts = MAX_ATTEMPTS;
    node.retry.min = Duration::from_millis(100);
    node.retry.max = Duration::from_millis(400);
    let broker = BrokerSettings::from_url(proxy.url(vhost.url()).as_str()).unwrap();
    let mut settings = Settings::new(broker);
    settings.worker.http = None;
    settings.drain.grace = Duration::from_secs(60);
    settings.nodes = vec![node];
    let mut worker = Worker::from_settings(settings)
        .handler("orders", handler)
        .start()
        .await
        .unwrap();
    vhost.until_consumers("orders", 1).await;

    // The messages come over the whole time, so that every cut finds work under way.
    let cuts = u32::try_from(chaos().as_millis() / CUT_EVERY.as_millis()).expect("a few hundred");
    let mut beat = tokio::time::interval(CUT_EVERY);
    let begun = Instant::now();
    for cut in 0..cuts {
        let part = |cut: u32| MESSAGES * cut as usize / cuts as usize;
        let ids = (part(cut)..part(cut + 1)).map(|number| number.to_string());
        vhost.publish_all("orders", ids).await;
        beat.tick().await;
        proxy.cut();
    }
    let took = begun.elapsed();

    let all: BTreeMap<(usize, u32), usize> = (0..MESSAGES)
        .flat_map(|number| (1..=expected(number).0).map(move |attempt| ((number, attempt), 1)))
        .collect();
    eventually_within(
        stretched(Duration::from_secs(120)),
        "every run was run",
        async || {
            let runs = runs.lock().unwrap_or_else(PoisonError::into_inner);
            let missing: Vec<_> = all.keys().filter(|run| !runs.contains_key(run)).collect();
            expect_that(missing.is_empty(), || {
                format!(
                    "{} of {} missing: {:?}",
                    missing.len(),
                    all.len(),
                    &missing[..missing.len().min(10)]
                )
            })
        },
    )
    .await;
    let dead = (0..MESSAGES).filter(|number| expected(*number).1).count();
    eventually_within(
        stretched(Duration::from_secs(60)),
        "the dead are in their queue",
        async || {
            let ready = vhost.ready("orders.dead").await as usize;
            expect_that(ready >= dead, || format!("{ready} of {dead}"))
        },
    )
    .await;
    worker.handle().drain("test").await;
    let report = within("the end", worker.finished()).await.unwrap();
    assert_eq!(report.outcome, DrainOutcome::Clean);
    assert_eq!(report.unconfirmed, 0);

    let runs = runs.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let repeated: Vec<_> = runs.iter().filter(|(_, count)| **count > 1).collect();
    assert!(
        repeated.is_empty(),
        "run again after {cuts} cuts in {took:?}: {repeated:?}"
    );
    assert_eq!(runs, all, "nothing else was run");
    assert_eq!(vhost.take_all("orders").await.len(), 0, "all is settled");
    for step in [100, 200, 400] {
        if let Some((waiting, _)) = vhost.facts(&format!("orders.retry.{step}")).await {
            assert_eq!(waiting, 0, "nothing waits");
        }
    }
    // A dead letter whose confirm was lost is there twice, under one id of its copy: it is one.
    let mut copies = BTreeSet::new();
    let mut found: Vec<usize> = Vec::new();
    for message in vhost.take_all("orders.dead").await {
        if !copies.insert(message.header("x-tidegate-copy")) {
            continue;
        }
        let number = message.id.parse().unwrap();
        let (runs, _) = expected(number);
        assert_eq!(message.header("x-tidegate-attempts"), runs.to_string());
        found.push(number);
    }
    found.sort_unstable();
    let wanted: Vec<_> = (0..MESSAGES).filter(|number| expected(*number).1).collect();
    assert_eq!(
        found, wanted,
        "the dead letters are those that ought to be, once each"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_of_a_quorum_queue_are_settled_as_decided_and_run_once() {
    settled_whatever_happens(QueueType::Quorum).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_messages_of_a_classic_queue_are_settled_as_decided_and_run_once() {
    settled_whatever_happens(QueueType::Classic).await;
}

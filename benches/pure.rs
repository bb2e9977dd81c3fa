//! What the pure parts cost, one call at a time: `cargo bench --bench pure`.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use jiff::Timestamp;
use tidegate::config::{HeartbeatSettings, RetrySettings};
use tidegate::delivery::{Delivery, HeaderValue, Properties};
use tidegate::handler::{Outcome, Reason};
use tidegate::internal::broker::Guard;
use tidegate::internal::retry::{self, Received, Target, Why};
use tidegate::internal::settlement::{DecisionInput, Identity, Ledger, Settlement, decide};
use tidegate::internal::status::heartbeat::Heartbeat;
use ulid::Ulid;

/// Deliveries in one run of the ledger.
const DELIVERIES: u64 = 1_000;

/// A message as an application might publish it.
fn received(size: usize) -> Received {
    let headers = [
        (
            "traceparent",
            HeaderValue::from("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ),
        ("tenant", HeaderValue::from("north")),
        ("priority-class", HeaderValue::I32(3)),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value));
    let mut delivery = Delivery::new("orders", vec![b'x'; size]);
    delivery.exchange = "shop".into();
    delivery.routing_key = "order.created".into();
    delivery.properties = Properties {
        content_type: Some("application/json".into()),
        message_id: Some(Ulid::new().to_string()),
        delivery_mode: Some(2),
        headers: BTreeMap::from(headers),
        ..Properties::default()
    };
    retry::receive(delivery.into(), false, Timestamp::UNIX_EPOCH)
}

/// Settles `DELIVERIES` in the given order, `batch` decisions to a flush.
fn settle(order: &[u64], batch: usize) -> usize {
    let mut ledger = Ledger::new();
    for tag in 1..=DELIVERIES {
        ledger.deliver(tag).expect("tags come in order");
    }
    let mut calls = Vec::new();
    let mut count = 0;
    for tags in order.chunks(batch) {
        for &tag in tags {
            let decided = ledger.decide(tag, Settlement::Ack);
            decided.expect("each is decided once");
        }
        ledger.next_batch(&mut calls);
        count += calls.len();
        calls.clear();
    }
    count
}

fn ledger(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ledger");
    group.throughput(Throughput::Elements(DELIVERIES));
    let in_order: Vec<u64> = (1..=DELIVERIES).collect();
    // The worst that eight slots do: within each eight the last one finishes first.
    let reversed: Vec<u64> = in_order
        .chunks(8)
        .flat_map(|eight| eight.iter().rev().copied())
        .collect();
    for batch in [1, 10, 100] {
        group.bench_function(BenchmarkId::new("in order", batch), |bencher| {
            bencher.iter(|| settle(black_box(&in_order), batch));
        });
    }
    group.bench_function(BenchmarkId::new("eight at a time reversed", 1), |bencher| {
        bencher.iter(|| settle(black_box(&reversed), 1));
    });
    group.finish();
}

fn decisions(criterion: &mut Criterion) {
    let case = DecisionInput {
        attempt: 1,
        max_attempts: 5,
        delayed_by_broker: false,
    };
    criterion.bench_function("decide done", |bencher| {
        bencher.iter(|| decide(black_box(Outcome::Done), black_box(case)));
    });
    criterion.bench_function("decide retry", |bencher| {
        let retry = || Outcome::retry("the service answered 503");
        bencher.iter_batched(
            retry,
            |outcome| decide(outcome, case),
            BatchSize::SmallInput,
        );
    });
    let policy = RetrySettings::default();
    criterion.bench_function("retry delay", |bencher| {
        bencher.iter(|| retry::delay(black_box(&policy), black_box(3), black_box(0.3)));
    });
}

fn heartbeats(criterion: &mut Criterion) {
    let mut settings = HeartbeatSettings::default();
    settings.busy = Duration::from_secs(10);
    settings.idle = Duration::from_mins(1);
    let now = Instant::now().into();
    criterion.bench_function("heartbeat, one beat", |bencher| {
        let mut heartbeat = Heartbeat::new(&settings);
        bencher.iter(|| {
            heartbeat.observe(black_box(0.4), now);
            let due = heartbeat.due(now);
            let promise = heartbeat.promise(now, black_box(0.5));
            heartbeat.sent(promise);
            due
        });
    });
}

fn identities(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("identity");
    for size in [256, 16 * 1024, 1024 * 1024] {
        let received = received(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| Identity::of(black_box(&received), None));
        });
    }
    group.finish();
}

fn messages(criterion: &mut Criterion) {
    let received = received(256);
    let why = Why {
        reason: Reason::Handler,
        error: "the service answered 503".into(),
        attempts: 1,
    };
    let target = Target::Delay {
        step: Duration::from_secs(1),
        not_before: None,
    };
    criterion.bench_function("copy for a retry", |bencher| {
        let at = Timestamp::UNIX_EPOCH;
        let copy = Ulid::new();
        bencher.iter(|| retry::copy(black_box(&received), &target, &why, "web-1", at, copy));
    });
}

/// What a broker sends for one message of 256 bytes: `basic.deliver`, a content header, a body frame.
fn delivered(tag: u64) -> Vec<u8> {
    let short =
        |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let long = |bytes: &[u8]| {
        let length = u32::try_from(bytes.len()).expect("small");
        [&length.to_be_bytes(), bytes].concat()
    };
    let frame = |kind: u8, payload: &[u8]| [&[kind, 0, 1], &long(payload)[..], &[0xce]].concat();
    let deliver = [
        &[0, 60, 0, 60][..],
        &short("orders-1-01KAXJ5D3W8ZQ4"),
        &tag.to_be_bytes(),
        &[0],
        &short("orders"),
        &short("orders.created.north"),
    ];
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [
        &short("traceparent")[..],
        b"S",
        &long(trace.as_bytes()),
        &short("tenant"),
        b"S",
        &long(b"north"),
        &short("priority-class"),
        b"I\x00\x00\x00\x03",
    ];
    let flags = 1_u16 << 15 | 1 << 13 | 1 << 12 | 1 << 7;
    let header = [
        &[0, 60, 0, 0][..],
        &256_u64.to_be_bytes(),
        &flags.to_be_bytes(),
        &short("application/json"),
        &long(&headers.concat()),
        &[2],
        &short("01KAXJ5D3W8ZQ4T6V9B2C7E0FG"),
    ];
    [
        frame(1, &deliver.concat()),
        frame(2, &header.concat()),
        frame(3, &[b'x'; 256]),
    ]
    .concat()
}

fn guard(criterion: &mut Criterion) {
    let bytes: Vec<u8> = (0..DELIVERIES).flat_map(delivered).collect();
    let mut group = criterion.benchmark_group("guard");
    group.throughput(Throughput::Elements(DELIVERIES));
    group.bench_function("check", |bench| {
        bench.iter(|| {
            let mut guard = Guard::new(131_072);
            let verdict = guard.check(black_box(&bytes)).expect("nothing is wrong");
            assert_eq!(verdict.pass, bytes.len());
        });
    });
    group.finish();
}

criterion_group!(
    pure, ledger, decisions, heartbeats, identities, messages, guard
);
criterion_main!(pure);

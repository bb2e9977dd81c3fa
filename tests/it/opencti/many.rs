//! Many connectors at once.

use std::time::Instant;

use serde_json::json;

use super::bench::{Bench, messages};

/// As many connectors as a large platform has.
const CONNECTORS: u32 = 100;

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_connectors_share_two_connections_and_end_together() {
    let names: Vec<_> = (0..CONNECTORS).map(|number| format!("c{number}")).collect();
    let connectors: Vec<_> = names.iter().map(String::as_str).collect();
    let Some(bench) = Bench::new(&connectors).await else {
        return;
    };
    let begun = Instant::now();
    let mut worker = bench.worker(&[]);
    worker.until_ready().await;
    for connector in &connectors {
        let queue = format!("push_{connector}");
        bench.vhost.until_consumers(&queue, 1).await;
    }
    let started = begun.elapsed();
    for (first, connector) in (0..).step_by(10).zip(&connectors) {
        bench.platform.declare(connector, 3);
        let more = json!({"work_id": connector});
        bench
            .send(connector, &messages(first..first + 3, &more))
            .await;
    }
    // A drain in the middle of it repeats nothing, either.
    bench.until_imported(connectors.len()).await;
    assert_eq!(bench.connections().await, 2);
    let begun = Instant::now();
    worker.terminate();
    let ended = worker.ended().await;
    assert_eq!(ended.code, Some(0), "{}", worker.log().text());
    let exit = begun.elapsed();
    let mut worker = bench.worker(&[]);
    // There may be nothing left to do, and a signal ends a process that has not begun yet.
    worker.until_ready().await;
    bench.until_works_complete(connectors.len()).await;
    assert_eq!(bench.imports(), [1; CONNECTORS as usize * 3]);
    bench.expect_exact_reports();
    eprintln!("{CONNECTORS} connectors: all consumed after {started:?}; SIGTERM to exit {exit:?}");
    worker.terminate();
    assert_eq!(worker.ended().await.code, Some(0));
}

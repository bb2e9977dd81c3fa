//! The stand-in as a program, for benchmarks. Usage: `platform LATENCY_MS`, with `connectorsForWorker` as JSON in a line
//! on standard input for each time it changes. It prints its URL, and answers each line with its counts.

#![expect(clippy::print_stdout, reason = "the benchmark reads what it prints")]

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_platform_stub::Platform;
use tokio::io::{AsyncBufReadExt as _, BufReader, stdin};

#[tokio::main]
async fn main() {
    let latency = std::env::args().nth(1).and_then(|text| text.parse().ok());
    let platform = Platform::start().await;
    platform.set_latency(Duration::from_millis(latency.unwrap_or(0)));
    println!("{}", platform.url());
    let mut lines = BufReader::new(stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(connectors) = serde_json::from_str::<Value>(&line) {
            platform.set_connectors(connectors);
        }
        let imports = platform.imports();
        let counts = json!({
            "calls": platform.calls().len(),
            "objects": imports.len(),
            "imports": imports.values().sum::<usize>(),
        });
        println!("{counts}");
    }
}

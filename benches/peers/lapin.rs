//! A plain loop over the client library that Tidegate uses, for `scripts/bench` to compare with.
//!
//! `bench-lapin URL QUEUE COUNT PREFETCH BATCH` acknowledges each delivery and awaits that (BATCH 1), or every
//! BATCH-th with `multiple`. It closes the channel after COUNT and prints one JSON object: when the first delivery
//! came, when close-ok did, and its peak of resident memory.

#![expect(clippy::print_stdout, reason = "the benchmark reads its output")]

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, queue, count, prefetch, batch] = &arguments[..] else {
        anyhow::bail!("usage: bench-lapin URL QUEUE COUNT PREFETCH BATCH");
    };
    let count: u64 = count.parse().context("COUNT")?;
    let prefetch: u16 = prefetch.parse().context("PREFETCH")?;
    let batch: u64 = batch.parse().context("BATCH")?;
    ensure!(count > 0 && prefetch > 0 && batch > 0, "from 1 on");

    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(prefetch, BasicQosOptions::default())
        .await?;
    let mut consumer = channel
        .basic_consume(
            queue.as_str().into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    let mut first = 0.0;
    let mut bytes = 0;
    for number in 1..=count {
        let delivery = consumer.next().await.context("the consumer ended")??;
        if number == 1 {
            first = now();
        }
        bytes += delivery.data.len();
        if batch == 1 {
            delivery.ack(BasicAckOptions::default()).await?;
        } else if number % batch == 0 || number == count {
            let multiple = BasicAckOptions { multiple: true };
            channel.basic_ack(delivery.delivery_tag, multiple).await?;
        }
    }
    channel.close(200, "OK".into()).await?;
    let closed = now();
    connection.close(200, "OK".into()).await?;
    let peak = peak_kib()?;
    println!(
        r#"{{"first": {first:.6}, "closed": {closed:.6}, "messages": {count}, "bytes": {bytes}, "peak_kib": {peak}}}"#
    );
    Ok(())
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("the clock is past 1970").as_secs_f64()
}

/// The most memory that was resident so far.
fn peak_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let line = line.context("no VmHWM in /proc/self/status")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

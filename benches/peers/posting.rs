//! A consumer as one writes it with the client library alone, for `scripts/chaos --peer lapin` to compare with.
//!
//! `peer-lapin URL QUEUE SERVICE LABEL` runs eight deliveries at a time. It posts each to `http://SERVICE/LABEL` and then
//! acknowledges it. It connects again a second after a loss. At SIGTERM it cancels its consumer, finishes what
//! runs, acknowledges that and closes the connection.

#![expect(clippy::print_stderr, reason = "the suite reads its log")]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;

const SLOTS: usize = 8;
const PREFETCH: u16 = 16;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, queue, service, label] = &arguments[..] else {
        anyhow::bail!("usage: peer-lapin URL QUEUE SERVICE LABEL");
    };
    let mut stop = signal(SignalKind::terminate())?;
    let target = (service.clone(), label.clone());
    loop {
        match consume(url, queue, &target, &mut stop).await {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("{error:#}"),
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
            _ = stop.recv() => return Ok(()),
        }
    }
}

/// Consumes until SIGTERM, or until the connection is lost.
async fn consume(
    url: &str,
    queue: &str,
    target: &(String, String),
    stop: &mut Signal,
) -> anyhow::Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel
        .basic_qos(PREFETCH, BasicQosOptions::default())
        .await?;
    let mut consumer = channel
        .basic_consume(
            queue.into(),
            "peer".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        )
        .await?;
    eprintln!("ready");
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            delivery = consumer.next(), if running.len() < SLOTS => {
                running.spawn(work(delivery.context("the consumer ended")??, target.clone()));
            }
            Some(ended) = running.join_next() => ended??,
            _ = stop.recv() => break,
        }
    }
    channel
        .basic_cancel("peer".into(), BasicCancelOptions::default())
        .await?;
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    connection.close(200, "OK".into()).await?;
    Ok(())
}

/// Posts a delivery, and acknowledges it if that went well.
async fn work(delivery: Delivery, (service, label): (String, String)) -> anyhow::Result<()> {
    let id = delivery.properties.message_id().clone();
    let id = id.context("the message has no id")?;
    let mut stream = TcpStream::connect(&service).await?;
    let length = delivery.data.len();
    let head = format!(
        "POST /{label} HTTP/1.1\r\ntidegate-message-id: {id}\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(&delivery.data).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await?;
    ensure!(answer.ends_with(b"200"), "the service refused {id}");
    ensure!(
        delivery.ack(BasicAckOptions::default()).await?,
        "the channel of {id} is gone"
    );
    Ok(())
}

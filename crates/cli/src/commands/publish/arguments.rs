//! The arguments of `tidegate publish`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{ArgGroup, Args};

use crate::commands::connection::{BROKER_HELP, BrokerArgs};
use crate::publish::{BODY_LIMIT, BodySource, Pace, PublishPlan, SourceError};
use tidegate::delivery::{HeaderValue, Properties};

fn after_help() -> String {
    format!(
        "{BROKER_HELP}\n\
         Exit code: 0 every message is confirmed, 1 not every one, 2 wrong usage, 78 bad configuration."
    )
}

/// Arguments of `publish`.
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("what").required(true).args(["body", "file", "lines", "count"]),
    after_help = after_help()
)]
#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
pub(crate) struct PublishArgs {
    /// The queue, which must exist
    #[arg(required_unless_present = "exchange", value_parser = name)]
    queue: Option<String>,
    /// One message: this text
    #[arg(long, value_name = "TEXT")]
    body: Option<String>,
    /// One message: all of this file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// A message for each line of this file, without the line's end; `-` is standard input
    #[arg(long, value_name = "FILE")]
    lines: Option<PathBuf>,
    /// Generate N messages, the same ones in each run
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// The size of each generated message, such as 512, 4KiB or 1MB
    #[arg(long, conflicts_with_all = ["body", "file", "lines"], default_value = "256B", value_parser = size)]
    size: ByteSize,
    /// Leave out the first N lines or messages, because an earlier run has sent them
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with_all = ["body", "file"])]
    skip: u64,
    /// Send at most R messages a second
    #[arg(long, value_name = "R", value_parser = rate)]
    rate: Option<f64>,
    /// Publish to this exchange instead of straight to the queue
    #[arg(long, value_name = "NAME", value_parser = name)]
    exchange: Option<String>,
    /// The routing key for the exchange; by default the queue's name
    #[arg(long, value_name = "KEY", requires = "exchange")]
    routing_key: Option<String>,
    #[command(flatten)]
    pub(super) broker: BrokerArgs,
    /// Have the broker keep the messages on disk (the default)
    #[arg(long, conflicts_with = "transient")]
    persistent: bool,
    /// Allow the broker to lose the messages when it restarts
    #[arg(long)]
    transient: bool,
    /// A header of each message; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The MIME type of the bodies, such as application/json
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// Send messages without an identifier (by default each gets a ULID)
    #[arg(long)]
    no_message_id: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl PublishArgs {
    /// Destination and properties.
    pub(super) fn plan(&self) -> PublishPlan {
        let headers = self.headers.iter();
        let headers: BTreeMap<_, _> = headers
            .map(|(name, value)| (name.clone(), HeaderValue::Text(value.clone())))
            .collect();
        let routing_key = self.routing_key.as_ref().or(self.queue.as_ref());
        PublishPlan {
            queue: self.queue.clone(),
            exchange: self.exchange.clone().unwrap_or_default(),
            routing_key: routing_key.cloned().unwrap_or_default(),
            properties: Properties {
                content_type: self.content_type.clone(),
                headers,
                delivery_mode: Some(if self.transient { 1 } else { 2 }),
                ..Properties::default()
            },
            skip: self.skip,
            identify: !self.no_message_id,
        }
    }

    /// The source of the bodies.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub(super) async fn source(&self) -> Result<BodySource, SourceError> {
        if let Some(body) = &self.body {
            Ok(BodySource::body(body.clone()))
        } else if let Some(path) = &self.file {
            BodySource::file(path).await
        } else if let Some(path) = &self.lines {
            BodySource::lines(path, self.skip).await
        } else {
            let size = usize::try_from(self.size.as_u64()).unwrap_or(BODY_LIMIT);
            Ok(BodySource::made(self.count.unwrap_or(0), size, self.skip))
        }
    }

    /// The pace asked for.
    pub(super) fn pace(&self) -> Option<Pace> {
        self.rate.map(Pace::new)
    }
}

/// A name in AMQP: a short string, and not the empty one, which means the default exchange.
fn name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("must not be empty".to_owned()),
        1..=255 => Ok(text.to_owned()),
        bytes => Err(format!("has {bytes} bytes; AMQP allows 255")),
    }
}

fn size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse()?;
    if size.as_u64() > BODY_LIMIT as u64 {
        return Err(format!(
            "no broker takes more than {}",
            ByteSize::b(BODY_LIMIT as u64)
        ));
    }
    Ok(size)
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if f64::is_finite(rate) && rate > 0.0 => Ok(rate),
        _ => Err("must be a number of messages a second, above 0".to_owned()),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((header, value)) => Ok((name(header)?, value.to_owned())),
        None => Err("must be NAME=VALUE".to_owned()),
    }
}

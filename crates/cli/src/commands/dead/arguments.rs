//! The arguments of `tidegate dead`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::commands::connection::{BROKER_HELP, BrokerArgs, UsageError};
use tidegate::config::BrokerSettings;
use tidegate_fleet::dead::{Filter, InDoubt, ReplayOptions};

/// How many letters `list` lists by default.
const LIST_LIMIT: u64 = 1_000;
/// How many letters `show` shows by default.
const SHOW_LIMIT: u64 = 20;

/// The queue name that the letters of OpenCTI's worker belong to: they are in `tidegate.opencti.dead`.
const OPENCTI: &str = "tidegate.opencti";

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List dead letters, one a line; removes nothing
    List(ListArgs),
    /// Show everything about dead letters: properties, headers, bodies; removes nothing
    Show(ListArgs),
    /// Send dead letters where they came from, and remove each one when its destination has confirmed it
    Replay(ReplayArgs),
    /// Remove dead letters for good
    Drop(DropArgs),
}

fn after_help() -> String {
    format!(
        "{BROKER_HELP}\n\
         Exit code: 0 everything that was picked is dealt with, 1 not everything, 2 wrong usage, 78 bad configuration."
    )
}

/// Which dead letters.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(super) struct PickArgs {
    #[command(flatten)]
    pub(super) broker: BrokerArgs,
    /// The work queues: `orders` stands for the dead letters in `orders.dead`. By default all queues of --config
    #[arg(value_name = "QUEUE", value_parser = queue)]
    queues: Vec<String>,
    /// A work queue, as an option; may be given several times
    #[arg(long = "queue", value_name = "QUEUE", value_parser = queue)]
    more_queues: Vec<String>,
    /// Only letters with this reason: handler, timeout, crash, `too_large`, undecodable, expired, or a reason of
    /// RabbitMQ's (rejected, expired, maxlen, `delivery_limit`); may be given several times
    #[arg(long, value_name = "REASON")]
    reason: Vec<String>,
    /// Only letters of this OpenCTI connector, by its id or its name; may be given several times. Without a QUEUE the
    /// letters are those of OpenCTI's worker, and without a broker it is the one that the platform names
    #[arg(long, value_name = "ID|NAME")]
    connector: Vec<String>,
    /// Only letters that died since then: 2h, or 2026-11-23T10:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Timestamp>,
    /// Only the message with this identifier; may be given several times
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// At most N letters, the oldest first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Print JSON: one line for each letter (list, show), or one object (replay, drop)
    #[arg(long)]
    pub(super) json: bool,
}

/// `list` and `show`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(super) pick: PickArgs,
    /// Changes nothing: `list` and `show` never do. Accepted so that every subcommand has it
    #[arg(long, hide = true)]
    dry_run: bool,
}

/// `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(super) pick: PickArgs,
    /// Send each letter to its work queue alone. Otherwise every queue bound to the original exchange gets the message
    #[arg(long)]
    pub(super) to_queue: bool,
    /// What to do with letters that an interrupted replay may have sent already
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = DoubtArg::Leave)]
    in_doubt: DoubtArg,
    /// Only say what would be sent
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What to do with letters in doubt.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DoubtArg {
    /// Leave them where they are, and name them
    Leave,
    /// Send them, perhaps a second time
    Replay,
    /// Remove them, although they may never have been sent
    Drop,
}

/// `drop`.
#[derive(Debug, Args)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    pub(super) pick: PickArgs,
    /// Append the letters to this file first, as JSON lines
    #[arg(long, value_name = "FILE")]
    pub(super) to: Option<PathBuf>,
    /// Do not ask
    #[arg(long)]
    pub(super) yes: bool,
    /// Only say what would be dropped
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl PickArgs {
    /// The filter.
    pub(super) fn filter(&self) -> Filter {
        let set = |words: &[String]| words.iter().cloned().collect();
        Filter {
            reasons: set(&self.reason),
            ids: set(&self.id),
            connectors: self.connector.clone(),
            since: self.since,
            ..Filter::default()
        }
    }

    /// The limit of a command that changes something.
    pub(super) fn limit(&self) -> Option<u64> {
        self.limit
    }

    /// The limit of `list`.
    pub(super) fn list_limit(&self) -> u64 {
        self.limit.unwrap_or(LIST_LIMIT)
    }

    /// The limit of `show`.
    pub(super) fn show_limit(&self) -> u64 {
        self.limit.unwrap_or(SHOW_LIMIT)
    }

    /// The broker, and the work queues: each once, in the order they were named.
    ///
    /// # Errors
    /// The outer error is a wrong configuration, the inner one a wrong command line.
    pub(super) async fn broker_and_queues(
        &self,
    ) -> anyhow::Result<Result<(BrokerSettings, Vec<String>), UsageError>> {
        let mut queues: Vec<String> = [&self.queues[..], &self.more_queues].concat();
        if queues.iter().all(|queue| queue == OPENCTI)
            && let Some(broker) = self.broker.of_platform().await?
        {
            return Ok(Ok((broker, vec![OPENCTI.to_owned()])));
        }
        if queues.is_empty() && !self.connector.is_empty() {
            queues.push(OPENCTI.to_owned());
        }
        if queues.is_empty() && !self.broker.has_config() {
            let expected =
                "expected a QUEUE, or --config FILE to take every queue of a configuration";
            return Ok(Err(UsageError(expected.to_owned())));
        }
        let settings = if queues.is_empty() {
            self.broker.settings_with_nodes()?
        } else {
            self.broker.settings()?
        };
        let settings = match settings {
            Ok(settings) => settings,
            Err(usage) => return Ok(Err(usage)),
        };
        if queues.is_empty() {
            queues.extend(settings.nodes.iter().map(|node| node.queue.clone()));
        }
        let mut seen = BTreeSet::new();
        queues.retain(|queue| seen.insert(queue.clone()));
        Ok(Ok((settings.broker, queues)))
    }
}

impl ReplayArgs {
    /// How to replay.
    pub(super) fn options(&self) -> ReplayOptions {
        ReplayOptions {
            to_queue: self.to_queue,
            dry_run: self.dry_run,
            in_doubt: match self.in_doubt {
                DoubtArg::Leave => InDoubt::Leave,
                DoubtArg::Replay => InDoubt::Replay,
                DoubtArg::Drop => InDoubt::Drop,
            },
        }
    }
}

/// Checks the name of a work queue. `.replay.lock` is the longest suffix that it gets; AMQP allows 255 bytes in all.
fn queue(text: &str) -> Result<String, String> {
    let longest = 255 - ".replay.lock".len();
    match text.len() {
        0 => Err("must not be empty".to_owned()),
        bytes if bytes > longest => {
            Err(format!("has {bytes} bytes; at most {longest} are possible"))
        }
        _ => match text.strip_suffix(".dead") {
            Some(work) if !work.is_empty() => Err(format!(
                "name the work queue: {work:?} stands for the dead letters in {text:?}"
            )),
            _ => Ok(text.to_owned()),
        },
    }
}

fn since(text: &str) -> Result<Timestamp, String> {
    super::since::since(text, Timestamp::now())
}

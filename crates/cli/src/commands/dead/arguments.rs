//! The arguments of `tidegate dead`.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use crate::commands::connection::{BrokerArgs, Source, Usage};
use crate::dead::{self, Filter, InDoubt};

/// How many letters are listed where nothing says otherwise.
const LIST_LIMIT: u64 = 1_000;
/// How many letters are shown where nothing says otherwise.
const SHOW_LIMIT: u64 = 20;

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadCommand {
    /// List them, a line each; nothing is removed
    List(ListArgs),
    /// Show everything about them: properties, headers, bodies; nothing is removed
    Show(ListArgs),
    /// Send them where they came from, and remove each once its destination has it
    Replay(ReplayArgs),
    /// Remove them for good
    Drop(DropArgs),
}

/// Which dead letters.
#[derive(Debug, Args)]
#[command(
    after_help = "The broker is the one of --url, else of --config, else of the environment variable \
                  TIDEGATE__BROKER__URL, else amqp://guest:guest@localhost:5672/%2f.\n\
                  Exit status: 0 all that was picked is dealt with, 1 not so, 2 wrong usage, 78 bad configuration."
)]
pub(super) struct PickArgs {
    #[command(flatten)]
    pub(super) broker: BrokerArgs,
    /// The work queues: `orders` stands for the dead letters in `orders.dead`. By default all of --config
    #[arg(value_name = "QUEUE", value_parser = queue)]
    queues: Vec<String>,
    /// A work queue, as an option; may be given several times
    #[arg(long = "queue", value_name = "QUEUE", value_parser = queue)]
    more_queues: Vec<String>,
    /// Only those that died of this: handler, timeout, crash, `too_large`, undecodable, attempts, or a reason of
    /// RabbitMQ's (rejected, expired, maxlen, `delivery_limit`); may be given several times
    #[arg(long, value_name = "REASON")]
    reason: Vec<String>,
    /// Only those that died since then: 2h, or 2026-11-23T10:00:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Timestamp>,
    /// Only the message with this identifier; may be given several times
    #[arg(long, value_name = "ID")]
    id: Vec<String>,
    /// At most so many, the oldest first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Say it in JSON: a line for each letter (list, show) or one object (replay, drop)
    #[arg(long)]
    pub(super) json: bool,
}

/// `list` and `show`.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(super) pick: PickArgs,
    /// Accepted for symmetry: nothing is ever changed
    #[arg(long, hide = true)]
    dry_run: bool,
}

/// `replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(super) pick: PickArgs,
    /// Straight to the work queue. Otherwise every queue bound to the original exchange gets the message again
    #[arg(long)]
    pub(super) to_queue: bool,
    /// What to do with letters that an earlier replay, cut off, may have sent
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Doubt::Leave)]
    in_doubt: Doubt,
    /// Only say what would be sent
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What to do with letters in doubt.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Doubt {
    /// Leave them, and say so
    Leave,
    /// Send them: perhaps a second time
    Replay,
    /// Remove them: perhaps without ever having sent them
    Drop,
}

/// `drop`.
#[derive(Debug, Args)]
pub(crate) struct DropArgs {
    #[command(flatten)]
    pub(super) pick: PickArgs,
    /// Write them to this file first, as JSON lines; it is appended to
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
            since: self.since,
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

    /// The work queues, each once, in the order they were named.
    pub(super) fn queues(&self, source: &Source) -> Result<Vec<String>, Usage> {
        let mut named: Vec<String> = [&self.queues[..], &self.more_queues].concat();
        if named.is_empty()
            && let Source::Config(settings) = source
        {
            named.extend(settings.nodes.iter().map(|node| node.queue.clone()));
        }
        if named.is_empty() {
            let expected =
                "expected a QUEUE, or --config FILE to take every queue of a configuration";
            return Err(Usage(expected.to_owned()));
        }
        let mut seen = BTreeSet::new();
        named.retain(|queue| seen.insert(queue.clone()));
        Ok(named)
    }
}

impl ReplayArgs {
    /// How to replay.
    pub(super) fn how(&self) -> dead::Replay {
        dead::Replay {
            to_queue: self.to_queue,
            dry_run: self.dry_run,
            in_doubt: match self.in_doubt {
                Doubt::Leave => InDoubt::Leave,
                Doubt::Replay => InDoubt::Replay,
                Doubt::Drop => InDoubt::Drop,
            },
        }
    }
}

/// The name of a work queue. `.replay.lock` is the longest ending that is put to it; AMQP allows 255 bytes in all.
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
    dead::since(text, Timestamp::now())
}

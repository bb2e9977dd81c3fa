//! `tidegate drain`, `pause` and `resume`: commands workers by the control exchange.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::connection::BrokerArgs;
use super::table::plain;
use super::{Exit, signals};
use crate::rollout::{How, Picked, Report, pick, run as say};
use tidegate::config::Settings;
use tidegate::internal::broker::AmqpRuntime;
use tidegate::internal::status::control::Command;
use tidegate_fleet::{Guest, Stay};

/// Workers commanded at a time, where nothing says otherwise.
const AT_ONCE: usize = 100;
/// How long it may take until it is known who is there.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);

const AFTER_HELP: &str = "WORKER is a worker's id, the beginning of one, or a name, which means every worker that lives \
    under it.\n\
    The broker is the one of --url, else of --config, else of the environment variable TIDEGATE__BROKER__URL, else \
    amqp://guest:guest@localhost:5672/%2f; whoever may publish to its control exchange may command.\n\
    Exit status: 0 every worker did as told; 3 all have drained, but something was interrupted; 1 otherwise; 2 wrong \
    usage; 78 bad configuration.";

/// Whom to command, and why.
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct CommandArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// The workers
    #[arg(
        value_name = "WORKER",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    workers: Vec<String>,
    /// Every worker that lives
    #[arg(long)]
    all: bool,
    /// Print what came of it as one JSON object
    #[arg(long)]
    json: bool,
}

/// `pause`.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    whom: CommandArgs,
    /// Why; the worker's state says it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// `drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    whom: CommandArgs,
    /// Why; the worker's state and its drain report say it
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until each has stopped
    #[arg(long)]
    wait: bool,
    /// Drain so many at a time: the next begins when one has stopped, and none after one that went wrong
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_at_once: Option<u16>,
    /// How long to wait for each
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Drains workers.
pub(crate) async fn drain(args: DrainArgs) -> anyhow::Result<Exit> {
    let command = Command::Drain {
        reason: args.reason,
    };
    let how = How {
        wait: args.wait || args.max_at_once.is_some(),
        timeout: args.timeout,
        at_once: args.max_at_once.map_or(AT_ONCE, usize::from),
    };
    run(&args.whom, "drain", &command, how).await
}

/// Pauses workers.
pub(crate) async fn pause(args: PauseArgs) -> anyhow::Result<Exit> {
    let command = Command::Pause {
        reason: args.reason,
    };
    run(&args.whom, "pause", &command, at_once()).await
}

/// Resumes workers.
pub(crate) async fn resume(args: CommandArgs) -> anyhow::Result<Exit> {
    run(&args, "resume", &Command::Resume, at_once()).await
}

fn at_once() -> How {
    How {
        wait: false,
        timeout: Duration::ZERO,
        at_once: AT_ONCE,
    }
}

async fn run(
    args: &CommandArgs,
    word: &'static str,
    command: &Command,
    how: How,
) -> anyhow::Result<Exit> {
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    signals::listen([stop.clone(), abort.clone()])?;
    let settings = match args.broker.fleet_settings()? {
        Ok(settings) => settings,
        Err(usage) => return Ok(usage.told()),
    };
    tokio::select! {
        exit = commanded(args, word, command, how, settings, &stop) => exit,
        () = abort.cancelled() => anyhow::bail!("ended by a second signal; workers that were told go on as told"),
    }
}

async fn commanded(
    args: &CommandArgs,
    word: &'static str,
    command: &Command,
    how: How,
    settings: Settings,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let runtime = Arc::new(AmqpRuntime::start().context("cannot start the AMQP thread")?);
    let started = Guest::start(settings, Stay::Command, runtime).await;
    let mut guest = started.map_err(super::status::explained)?;
    tokio::select! {
        settled = guest.settled(SETTLE_LIMIT) => settled?,
        () = stop.cancelled() => anyhow::bail!("stopped by a signal; nobody was commanded"),
    }
    let picked = {
        let now = guest.now();
        let workers: Vec<_> = guest.fleet().all(now).collect();
        pick(&args.workers, &workers)
    };
    let report = said(&guest, args, word, command, how, picked, stop).await;
    guest.leave().await;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else if report.workers.is_empty() {
        println!("no worker is there");
    }
    if stop.is_cancelled() {
        eprintln!("tidegate: stopped by a signal; workers that were told go on as told");
    }
    Ok(if report.ok && !stop.is_cancelled() {
        Exit::Clean
    } else if report.only_interrupted() {
        Exit::Interrupted
    } else {
        Exit::Failure
    })
}

async fn said(
    guest: &Guest,
    args: &CommandArgs,
    word: &'static str,
    command: &Command,
    how: How,
    picked: Picked,
    stop: &CancellationToken,
) -> Report {
    for note in &picked.notes {
        eprintln!("tidegate: {note}");
    }
    let mut results = picked.failed;
    if !results.is_empty() {
        // Who does not know all of them should not begin with some.
        let left = picked.targets.iter();
        results.extend(
            left.map(|target| {
                crate::rollout::Result::of(target, crate::rollout::Outcome::NotTried)
            }),
        );
        tell_all(&results, args.json);
        return Report::new(word, results);
    }
    let bar = bar(picked.targets.len(), args.json || !how.wait);
    let told = say(
        guest,
        &picked.targets,
        command,
        how,
        stop,
        |ended, under_way| {
            if let Some(result) = ended {
                bar.inc(1);
                if !args.json {
                    bar.suspend(|| println!("{}", plain(&result.to_string())));
                }
            }
            bar.set_message(format!("{under_way} under way"));
        },
    )
    .await;
    bar.finish_and_clear();
    let not_tried =
        |result: &&crate::rollout::Result| result.outcome == crate::rollout::Outcome::NotTried;
    let left: Vec<_> = told.iter().filter(not_tried).cloned().collect();
    tell_all(&left, args.json);
    results.extend(told);
    Report::new(word, results)
}

fn tell_all(results: &[crate::rollout::Result], json: bool) {
    if !json {
        for result in results {
            println!("{}", plain(&result.to_string()));
        }
    }
}

fn bar(workers: usize, hidden: bool) -> ProgressBar {
    let target = if hidden || !std::io::stderr().is_terminal() {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    };
    let bar = ProgressBar::with_draw_target(Some(workers as u64), target);
    let template = "{bar:30} {pos} of {len} ended, {msg}  {elapsed} elapsed";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well formed"));
    bar
}

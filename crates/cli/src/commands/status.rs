//! `tidegate status`: the fleet in a terminal, from the broker itself.

mod live;
mod queues;
mod render;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use console::Term;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::connection::{BROKER_HELP, BrokerArgs, SETTLE_LIMIT, explain_client_error};
use super::{Exit, signals};
use crate::output::{is_output_closed, print_aside, usage_error};
use tidegate::internal::broker::AmqpRuntime;
use tidegate_fleet::api::{Overview, Worker};
use tidegate_fleet::clock::Moment;
use tidegate_fleet::{ClientMode, FleetClient};

/// Workers that have ended are shown for this long.
const ENDED_SHOWN: Duration = Duration::from_mins(10);

fn after_help() -> String {
    format!(
        "Everything comes from the broker: the log of states, beats, and the workers' answers. No fleet program need \
         run. But without the log, which a fleet program declares, only live workers are known.\n\
         {BROKER_HELP}\n\
         Exit code: 0, 1 if the broker or the workers cannot be asked, 2 wrong usage, 78 bad configuration."
    )
}

/// Show the workers on a broker, and their states
#[derive(Debug, Args)]
#[command(after_help = after_help())]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Keep showing the workers as they change, until Ctrl-C
    #[arg(long)]
    pub(super) watch: bool,
    /// Show the queues that the workers work, and how many messages wait in each
    #[arg(long, conflicts_with_all = ["watch", "all"])]
    queues: bool,
    /// Show every worker that has ended; by default only those that ended in the last 10 minutes
    #[arg(long)]
    all: bool,
    /// Print JSON: one document, or with --watch one line at each change
    #[arg(long)]
    json: bool,
}

/// The fleet at one moment.
#[derive(Debug, Serialize)]
struct FleetSnapshot {
    at: Moment,
    /// The broker has a log of states. Without one only live workers are known.
    log: bool,
    /// Whether every status message arrives now.
    connected: bool,
    /// Why the workers cannot be asked now, so that more of them may run than are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    summary: Overview,
    workers: Vec<Worker>,
    /// The number of ended workers that are left out.
    left_out: usize,
}

/// Shows the fleet.
pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<Exit> {
    // Before signals are listened for: one that comes while a file is read ends the process at once.
    let settings = match args.broker.settings()? {
        Ok(settings) => settings,
        Err(usage) => return Ok(usage.report()),
    };
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    signals::listen([stop.clone(), abort])?;
    if args.watch && !args.json && !std::io::stdout().is_terminal() {
        return Ok(usage_error(
            "--watch draws on a terminal; elsewhere add --json",
        ));
    }
    let broker = settings.broker.clone();
    let runtime = Arc::new(AmqpRuntime::start().context("cannot start the AMQP thread")?);
    let mode = if args.watch {
        ClientMode::Watch
    } else {
        ClientMode::Look
    };
    let started = tokio::select! {
        started = FleetClient::start(settings, mode, runtime) => started,
        () = stop.cancelled() => anyhow::bail!("stopped by a signal"),
    };
    let mut client = started.map_err(explain_client_error)?;
    let obstacle = tokio::select! {
        settled = client.settled(SETTLE_LIMIT) => settled.map_err(explain_client_error)?,
        () = stop.cancelled() => anyhow::bail!("stopped by a signal"),
    };
    let all = args.all;
    if args.queues {
        queues::print(&client, &broker, args.json, &stop).await?;
    } else if args.watch && args.json && !is_output_closed() {
        live::lines(&client, all, &stop).await?;
    } else if args.watch && !args.json {
        live::screen(&client, all, &stop).await?;
    } else {
        let snapshot = snapshot(&client, all);
        let text = if args.json {
            serde_json::to_string(&snapshot)?
        } else {
            render::lines(&snapshot, width(), console::colors_enabled()).join("\n")
        };
        tokio::select! {
            printed = print_aside(text + "\n") => printed?,
            () = stop.cancelled() => anyhow::bail!("stopped by a signal"),
        }
    }
    client.leave().await;
    // A watch has gone on until a signal ended it.
    if obstacle.is_some() && !args.watch {
        return Ok(Exit::Failure);
    }
    Ok(Exit::Clean)
}

/// The columns of the terminal, if there is one.
fn width() -> Option<usize> {
    let terminal = Term::stdout();
    terminal.is_term().then(|| usize::from(terminal.size().1))
}

fn snapshot(client: &FleetClient, all: bool) -> FleetSnapshot {
    let at = client.now();
    let obstacle = client.obstacle();
    let mut fleet = client.fleet();
    let summary = fleet.overview(at);
    let workers: Vec<Worker> = fleet.all(at).collect();
    drop(fleet);
    let known = workers.len();
    let shown = |worker: &Worker| {
        let ended = render::has_ended(worker.state);
        all || !ended || at.since(worker.since) <= ENDED_SHOWN
    };
    let mut workers: Vec<Worker> = workers.into_iter().filter(shown).collect();
    workers.sort_by(|one, other| render::order(one).cmp(&render::order(other)));
    FleetSnapshot {
        at,
        log: client.has_log(),
        connected: obstacle.is_none(),
        problem: obstacle.map(|obstacle| obstacle.to_string()),
        summary,
        left_out: known - workers.len(),
        workers,
    }
}

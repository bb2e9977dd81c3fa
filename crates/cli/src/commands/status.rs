//! `tidegate status`: the fleet in a terminal, from the broker itself.

mod live;
mod render;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use console::Term;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::connection::BrokerArgs;
use super::{Exit, signals};
use tidegate::internal::broker::{AmqpRuntime, BrokerError};
use tidegate_fleet::api::{Overview, Worker};
use tidegate_fleet::clock::Moment;
use tidegate_fleet::{Guest, Stay};

/// How long it may take until the picture is whole.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// How long a worker that has ended is shown.
const ENDED_SHOWN: Duration = Duration::from_mins(10);

/// Show the workers on a broker, and how they are
#[derive(Debug, Args)]
#[command(
    after_help = "What is shown comes from the broker: the log of states, beats, and the workers' answers. No fleet \
                  program is needed, but the log is one's: without it only workers that live are known.\n\
                  The broker is the one of --url, else of --config, else of the environment variable \
                  TIDEGATE__BROKER__URL, else amqp://guest:guest@localhost:5672/%2f.\n\
                  Exit status: 0, 1 where the broker cannot be asked, 2 wrong usage, 78 bad configuration."
)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Go on showing it, as it changes, until Ctrl-C
    #[arg(long)]
    pub(super) watch: bool,
    /// Show all workers that have ended, too; otherwise those of the last 10 minutes
    #[arg(long)]
    all: bool,
    /// Print JSON: one document, or with --watch one a line whenever something has changed
    #[arg(long)]
    json: bool,
}

/// The fleet at a moment.
#[derive(Debug, Serialize)]
struct Picture {
    at: Moment,
    /// Whether the broker has a log: without one, only workers that live are known.
    log: bool,
    /// Whether everything that is said now is heard.
    connected: bool,
    summary: Overview,
    workers: Vec<Worker>,
    /// Workers that have ended and are left out.
    left_out: usize,
}

/// Shows the fleet.
pub(crate) async fn run(args: StatusArgs) -> anyhow::Result<Exit> {
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    signals::listen([stop.clone(), abort])?;
    let settings = match args.broker.fleet_settings()? {
        Ok(settings) => settings,
        Err(usage) => return Ok(usage.told()),
    };
    if args.watch && !args.json && !std::io::stdout().is_terminal() {
        eprintln!("error: --watch draws on a terminal; elsewhere add --json");
        return Ok(Exit::Usage);
    }
    let runtime = Arc::new(AmqpRuntime::start().context("cannot start the AMQP thread")?);
    let stay = if args.watch { Stay::Long } else { Stay::Look };
    let started = tokio::select! {
        started = Guest::start(settings, stay, runtime) => started,
        () = stop.cancelled() => anyhow::bail!("stopped by a signal"),
    };
    let mut guest = started.map_err(explained)?;
    tokio::select! {
        settled = guest.settled(SETTLE_LIMIT) => settled?,
        () = stop.cancelled() => anyhow::bail!("stopped by a signal"),
    }
    let all = args.all;
    if args.watch && args.json {
        live::lines(&guest, all, &stop).await?;
    } else if args.watch {
        live::screen(&guest, all, &stop).await?;
    } else {
        let picture = picture(&guest, all);
        if args.json {
            println!("{}", serde_json::to_string(&picture)?);
        } else {
            let terminal = Term::stdout();
            let width = terminal.is_term().then(|| usize::from(terminal.size().1));
            for line in render::lines(&picture, width, console::colors_enabled()) {
                println!("{line}");
            }
        }
    }
    guest.leave().await;
    Ok(Exit::Clean)
}

fn picture(guest: &Guest, all: bool) -> Picture {
    let at = guest.now();
    let mut fleet = guest.fleet();
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
    Picture {
        at,
        log: guest.has_log(),
        connected: guest.is_connected(),
        summary,
        left_out: known - workers.len(),
        workers,
    }
}

/// An error of the first look, in words.
pub(super) fn explained(error: BrokerError) -> anyhow::Error {
    if error.code() == Some(404) {
        return anyhow::anyhow!("no worker has ever said anything on this virtual host: {error}");
    }
    error.into()
}

//! `tidegate drain`, `pause` and `resume`: command workers through the control exchange.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::connection::{BROKER_HELP, BrokerArgs, SETTLE_LIMIT, explain_client_error};
use super::table::plain;
use super::{Exit, signals};
use crate::output::{OutputError, Printer, conclude, note, print_aside};
use tidegate::config::Settings;
use tidegate::internal::broker::AmqpRuntime;
use tidegate::internal::status::control::Command;
use tidegate_fleet::rollout::{
    RolloutOptions, RolloutReport, Selection, Target, WorkerOutcome, WorkerResult, roll_out, select,
};
use tidegate_fleet::{ClientMode, FleetClient};

/// Workers commanded at a time by default.
const MAX_AT_ONCE: usize = 100;

fn after_help() -> String {
    format!(
        "WORKER is a worker's id, the beginning of one, or a name, which means every live worker with that name.\n\
         {BROKER_HELP} The broker's permissions decide who may command: see \"Permissions\" in docs/status-protocol.md.\n\
         Exit code: 0 every worker did as told; 3 every worker drained, but something was interrupted; 1 otherwise; \
         2 wrong usage; 78 bad configuration."
    )
}

/// The workers to command.
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct TargetArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// The workers
    #[arg(
        value_name = "WORKER",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    workers: Vec<String>,
    /// Every live worker
    #[arg(long)]
    all: bool,
    /// Print the results as one JSON object
    #[arg(long)]
    json: bool,
}

/// `pause`.
#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    #[command(flatten)]
    targets: TargetArgs,
    /// The reason, which the worker's state shows
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// `drain`.
#[derive(Debug, Args)]
pub(crate) struct DrainArgs {
    #[command(flatten)]
    targets: TargetArgs,
    /// The reason, which the worker's state and its drain report show
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Wait until each worker has stopped
    #[arg(long)]
    wait: bool,
    /// Drain at most N workers at a time. The next drain begins when one has stopped, and none begins after a failure
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    max_at_once: Option<u16>,
    /// After each drain, wait until another worker of the same name runs; one at a time unless --max-at-once says more.
    /// Nothing more is drained if that worker is lost or does not come
    #[arg(long)]
    wait_replaced: bool,
    /// The time limit for each worker, with the wait for its replacement
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// One command for a number of workers.
struct Rollout<'a> {
    args: &'a TargetArgs,
    name: &'static str,
    command: Command,
    options: RolloutOptions,
}

/// Drains workers.
pub(crate) async fn drain(args: DrainArgs) -> anyhow::Result<Exit> {
    let most = if args.wait_replaced { 1 } else { MAX_AT_ONCE };
    let options = RolloutOptions {
        wait: args.wait || args.wait_replaced || args.max_at_once.is_some(),
        wait_replaced: args.wait_replaced,
        timeout: args.timeout,
        max_at_once: args.max_at_once.map_or(most, usize::from),
        all: args.targets.all,
    };
    let rollout = Rollout {
        args: &args.targets,
        name: "drain",
        command: Command::Drain {
            reason: args.reason,
        },
        options,
    };
    rollout.run().await
}

/// Pauses workers.
pub(crate) async fn pause(args: PauseArgs) -> anyhow::Result<Exit> {
    let command = Command::Pause {
        reason: args.reason,
    };
    Rollout::without_wait(&args.targets, "pause", command)
        .run()
        .await
}

/// Resumes workers.
pub(crate) async fn resume(args: TargetArgs) -> anyhow::Result<Exit> {
    Rollout::without_wait(&args, "resume", Command::Resume)
        .run()
        .await
}

impl<'a> Rollout<'a> {
    fn without_wait(args: &'a TargetArgs, name: &'static str, command: Command) -> Self {
        let options = RolloutOptions {
            wait: false,
            wait_replaced: false,
            timeout: Duration::ZERO,
            max_at_once: MAX_AT_ONCE,
            all: args.all,
        };
        Self {
            args,
            name,
            command,
            options,
        }
    }

    async fn run(&self) -> anyhow::Result<Exit> {
        // Before signals are listened for: one that comes while a file is read ends the process at once.
        let settings = match self.args.broker.settings()? {
            Ok(settings) => settings,
            Err(usage) => return Ok(usage.report()),
        };
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        signals::listen([stop.clone(), abort.clone()])?;
        tokio::select! {
            exit = self.run_until(settings, &stop) => exit,
            () = abort.cancelled() => {
                anyhow::bail!("ended by a second signal; workers that got the command carry it out")
            }
        }
    }

    async fn run_until(
        &self,
        settings: Settings,
        stop: &CancellationToken,
    ) -> anyhow::Result<Exit> {
        let runtime = Arc::new(AmqpRuntime::start().context("cannot start the AMQP thread")?);
        let started = FleetClient::start(settings, ClientMode::Command, runtime).await;
        let mut client = started.map_err(explain_client_error)?;
        let obstacle = tokio::select! {
            settled = client.settled(SETTLE_LIMIT) => settled.map_err(explain_client_error)?,
            () = stop.cancelled() => anyhow::bail!("stopped by a signal; no worker was commanded"),
        };
        // Workers that could not be asked may run, so nothing can be said about them.
        if let Some(obstacle) = obstacle {
            client.leave().await;
            anyhow::bail!("workers can be neither asked nor commanded: {obstacle}");
        }
        let selection = {
            let now = client.now();
            let workers: Vec<_> = client.fleet().all(now).collect();
            select(&self.args.workers, &workers)
        };
        let (report, printed) = self.command(&client, selection, stop).await;
        client.leave().await;
        if stop.is_cancelled() {
            note("stopped by a signal; workers that got the command carry it out");
        }
        let exit = if report.ok && !stop.is_cancelled() {
            Exit::Clean
        } else if report.only_interrupted() {
            Exit::Interrupted
        } else {
            Exit::Failure
        };
        let summary = if self.args.json {
            serde_json::to_string(&report)? + "\n"
        } else if report.workers.is_empty() {
            "no live worker\n".to_owned()
        } else {
            return Ok(conclude(printed, exit)?);
        };
        Ok(conclude(print_aside(summary).await, exit)?)
    }

    /// Commands the selected workers, and prints each result when it is there. The work does not depend on whether
    /// the results can be printed.
    async fn command(
        &self,
        client: &FleetClient,
        selection: Selection,
        stop: &CancellationToken,
    ) -> (RolloutReport, Result<(), OutputError>) {
        for text in &selection.notes {
            note(text);
        }
        let printer = Printer::start();
        let print = |result: &WorkerResult| {
            if !self.args.json {
                printer.line(plain(&result.to_string()));
            }
        };
        let Selection {
            targets,
            failed: mut results,
            ..
        } = selection;
        if results.is_empty() {
            results = self.roll_out(client, &targets, stop, &print).await;
        } else {
            // An argument that names no worker may be a mistake, so that no worker is commanded at all.
            let not_tried = |target| WorkerResult::of(target, WorkerOutcome::NotTried);
            results.extend(targets.iter().map(not_tried));
            results.iter().for_each(print);
        }
        let report = RolloutReport::new(self.name, results);
        (report, printer.finish().await)
    }

    async fn roll_out(
        &self,
        client: &FleetClient,
        targets: &[Target],
        stop: &CancellationToken,
        print: &impl Fn(&WorkerResult),
    ) -> Vec<WorkerResult> {
        let hidden = self.args.json || !self.options.wait;
        let bar = progress_bar(targets.len(), hidden);
        let observe = |ended: Option<&WorkerResult>, under_way| {
            if let Some(result) = ended {
                bar.inc(1);
                bar.suspend(|| print(result));
            }
            bar.set_message(format!("{under_way} under way"));
        };
        let commander = client.commander();
        let results = roll_out(
            &commander,
            targets,
            &self.command,
            self.options,
            stop,
            observe,
        )
        .await;
        bar.finish_and_clear();
        let not_tried = |result: &&WorkerResult| result.outcome == WorkerOutcome::NotTried;
        results.iter().filter(not_tried).for_each(print);
        results
    }
}

fn progress_bar(workers: usize, hidden: bool) -> ProgressBar {
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

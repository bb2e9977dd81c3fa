//! `tidegate simulate`: a fleet that is not there, for trying out a fleet program and a broker.

use std::io::IsTerminal as _;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio_util::sync::CancellationToken;

use super::connection::{BROKER_HELP, BrokerArgs, CLOSE_LIMIT};
use super::{Exit, signals};
use crate::output::{conclude, print_aside, usage_error};
use crate::simulate::{
    FleetShape, SimulationPlan, SimulationReport, SimulationStop, WORKERS_PER_CONNECTION,
    run as simulate,
};
use tidegate::config::BrokerSettings;
use tidegate::internal::broker::{self, AmqpRuntime, Link};

/// The most workers that one process simulates.
const WORKERS_LIMIT: usize = 20_000;

fn after_help() -> String {
    format!(
        "States, beats, drain reports and control queues are real; no queue is consumed and no handler runs. The \
         workers are named sim-0, sim-1, …; at the end they drain.\n\
         {BROKER_HELP}\n\
         Exit code: 0 every message is confirmed, 1 not every one, 2 wrong usage, 78 bad configuration."
    )
}

/// Publish the status messages of a simulated fleet of workers
#[derive(Debug, Args)]
#[command(after_help = after_help())]
pub(crate) struct SimulateArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Workers
    #[arg(long, value_name = "N", default_value = "100", value_parser = workers)]
    workers: usize,
    /// Nodes of each worker
    #[arg(long, value_name = "N", default_value = "10", value_parser = nodes)]
    nodes: usize,
    /// The duration, from when all of them run
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Mean load of a worker, from 0 (idle) to 1 (all slots taken)
    #[arg(long, value_name = "LOAD", default_value_t = 0.0, value_parser = load)]
    load: f64,
    /// Workers that crash, in a minute, over the whole fleet; each comes back under another id
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = rate)]
    crash_rate: f64,
    /// Workers that drain, in a minute, over the whole fleet; each comes back under another id
    #[arg(long, value_name = "N", default_value_t = 0.0, value_parser = rate)]
    drain_rate: f64,
    /// Workers that have a control queue; by default all. The fleet takes a worker without one for lost
    #[arg(long, value_name = "N")]
    control_queues: Option<usize>,
    /// The seed of the random numbers
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Allow a broker that is not on this machine
    #[arg(long)]
    not_only_here: bool,
    /// Print the summary as one JSON object
    #[arg(long)]
    json: bool,
}

/// Simulates. The first SIGINT or SIGTERM drains the workers, a second one does not wait.
pub(crate) async fn run(args: SimulateArgs) -> anyhow::Result<Exit> {
    let (stop, abort) = (SimulationStop::default(), CancellationToken::new());
    signals::listen([stop.draining.clone(), abort.clone()])?;
    let (settings, heartbeat, status) = match args.broker.settings()? {
        Ok(settings) => (settings.broker, settings.heartbeat, settings.status),
        Err(usage) => return Ok(usage.report()),
    };
    if !args.not_only_here && !is_here(&settings.host) {
        return Ok(usage_error(format_args!(
            "{:?} is not this machine: a made-up fleet would appear among real workers. If that is wanted, say \
             --not-only-here",
            settings.host
        )));
    }
    let plan = SimulationPlan {
        shape: FleetShape {
            exchange: status.exchange,
            nodes: args.nodes,
            load: args.load,
            heartbeat,
        },
        control: status.control,
        workers: args.workers,
        control_queues: args
            .control_queues
            .unwrap_or(args.workers)
            .min(args.workers),
        duration: args.duration,
        crashes: args.crash_rate,
        drains: args.drain_rate,
        seed: args.seed,
    };
    let report = tokio::select! {
        report = simulated(&args, &settings, &plan, &stop) => report?,
        () = abort.cancelled() => bail!("ended by a second signal; the simulated workers are gone without a word"),
    };
    let text = if args.json {
        serde_json::to_string(&report)?
    } else {
        report.to_string()
    };
    let exit = if report.unconfirmed == 0 {
        Exit::Clean
    } else {
        Exit::Failure
    };
    Ok(conclude(print_aside(text + "\n").await, exit)?)
}

async fn simulated(
    args: &SimulateArgs,
    settings: &BrokerSettings,
    plan: &SimulationPlan,
    stop: &SimulationStop,
) -> anyhow::Result<SimulationReport> {
    let runtime = AmqpRuntime::start().context("cannot start the AMQP thread")?;
    let link = broker::connect(settings, "tidegate simulate", &runtime).await?;
    let mut links: Vec<Link> = Vec::new();
    for number in 0..plan.control_queues.div_ceil(WORKERS_PER_CONNECTION) {
        let name = format!("tidegate simulate control {number}");
        links.push(broker::connect(settings, &name, &runtime).await?);
    }
    let bar = bar(args);
    let all = links.clone();
    let report = simulate(&link, links, plan, stop, |running, totals| {
        let beats = totals.beat.count;
        bar.set_message(format!("{running} workers run, {beats} beats"));
    })
    .await;
    bar.finish_and_clear();
    for link in all.iter().chain([&link]) {
        // Everything is confirmed; a goodbye that fails changes nothing.
        let _ = link.close(CLOSE_LIMIT).await;
    }
    Ok(report?)
}

fn bar(args: &SimulateArgs) -> ProgressBar {
    let shown = !args.json && std::io::stderr().is_terminal();
    let target = if shown {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(None, target);
    let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed} elapsed");
    bar.set_style(style.expect("the template is well formed"));
    bar
}

fn is_here(host: &str) -> bool {
    let address = host.parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn workers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(workers @ 1..=WORKERS_LIMIT) => Ok(workers),
        _ => Err(format!("must be a number from 1 to {WORKERS_LIMIT}")),
    }
}

fn nodes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(nodes @ 1..=1_000) => Ok(nodes),
        _ => Err("must be a number from 1 to 1000".to_owned()),
    }
}

fn load(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(load @ 0.0..=1.0) => Ok(load),
        _ => Err("must be a number from 0 to 1".to_owned()),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if f64::is_finite(rate) && rate >= 0.0 => Ok(rate),
        _ => Err("must be a number of 0 or more".to_owned()),
    }
}

//! `tidegate publish`: sends messages, each confirmed by the broker.

mod arguments;
mod progress;

use std::time::Duration;

use anyhow::Context as _;

pub(crate) use arguments::PublishArgs;

use super::{Exit, signals};
use crate::publish::{Outcome, Plan, Report, Source, Stop, check_destination, send};
use progress::Progress;
use tidegate::config::BrokerSettings;
use tidegate::internal::broker::{self, AmqpRuntime, Link};

/// How long the broker has to answer the last goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Publishes what `args` say. Exit 0 only where every message is confirmed.
///
/// The first SIGINT or SIGTERM ends the sending and waits for the answers under way, a second one does not wait.
pub(crate) async fn run(args: PublishArgs) -> anyhow::Result<Exit> {
    let stop = Stop::default();
    signals::listen([stop.sending.clone(), stop.waiting.clone()])?;
    let settings = match args.broker.settings()? {
        Ok(source) => source.into_broker(),
        Err(usage) => return Ok(usage.told()),
    };
    let plan = args.plan();
    let report = match publish(&args, &settings, &plan, &stop).await {
        Ok(report) => report,
        Err(error) => Report::before_the_first(&plan, format!("{error:#}")),
    };
    let complete = report.outcome == Outcome::Complete;
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else if complete {
        println!("{report}");
    }
    if !complete {
        let error = report.error.as_deref().unwrap_or("stopped by a signal");
        if args.json {
            eprintln!("tidegate: {error}");
        } else if report.error.is_some() {
            eprintln!("tidegate: {report}");
        } else {
            eprintln!("tidegate: {error}\n{report}");
        }
    }
    Ok(if complete { Exit::Clean } else { Exit::Failure })
}

async fn publish(
    args: &PublishArgs,
    settings: &BrokerSettings,
    plan: &Plan,
    stop: &Stop,
) -> anyhow::Result<Report> {
    let runtime = AmqpRuntime::start().context("cannot start the AMQP thread")?;
    let prepared = async {
        // The input first: a file that is not there needs no broker.
        let source = args.source().await?;
        let link = connect(settings, plan, &runtime).await?;
        anyhow::Ok((source, link))
    };
    let (source, link) = tokio::select! {
        prepared = prepared => prepared?,
        () = stop.sending.cancelled() => anyhow::bail!("stopped by a signal"),
    };
    let report = publish_on(&link, args, plan, source, stop).await;
    // Everything is decided by the confirms; a goodbye that fails changes nothing.
    let _ = link.close(CLOSE_LIMIT).await;
    Ok(report)
}

async fn connect(
    settings: &BrokerSettings,
    plan: &Plan,
    runtime: &AmqpRuntime,
) -> anyhow::Result<Link> {
    let link = broker::connect(settings, "tidegate publish", runtime).await?;
    if let Err(cause) = check_destination(&link, plan).await {
        let _ = link.close(CLOSE_LIMIT).await;
        anyhow::bail!(cause);
    }
    Ok(link)
}

async fn publish_on(
    link: &Link,
    args: &PublishArgs,
    plan: &Plan,
    source: Source,
    stop: &Stop,
) -> Report {
    let mut progress = Progress::new(source.extent(), args.json);
    let pace = args.pace();
    let report = send(link, plan, source, pace, stop, |tally| progress.show(tally)).await;
    progress.finish();
    report
}

//! `tidegate publish`: sends messages, each confirmed by the broker.

mod arguments;
mod progress;

use anyhow::Context as _;

pub(crate) use arguments::PublishArgs;

use super::connection::CLOSE_LIMIT;
use super::{Exit, signals};
use crate::output::{conclude, note, print_aside};
use crate::publish::{
    BodySource, PublishOutcome, PublishPlan, PublishReport, PublishStop, check_destination, send,
};
use progress::Progress;
use tidegate::config::BrokerSettings;
use tidegate::internal::broker::{self, AmqpRuntime, Link};

/// Publishes what `args` say. It exits with 0 only if every message is confirmed.
///
/// The first SIGINT or SIGTERM ends the sending and waits for outstanding answers, unless the broker is in an alarm. A
/// second one does not wait.
pub(crate) async fn run(args: PublishArgs) -> anyhow::Result<Exit> {
    // Before signals are listened for: one that comes while a file is read ends the process at once.
    let settings = match args.broker.settings()? {
        Ok(settings) => settings.broker,
        Err(usage) => return Ok(usage.report()),
    };
    let stop = PublishStop::default();
    signals::listen([stop.sending.clone(), stop.waiting.clone()])?;
    let plan = args.plan();
    let report = match publish(&args, &settings, &plan, &stop).await {
        Ok(report) => report,
        Err(error) => PublishReport::before_the_first(&plan, format!("{error:#}")),
    };
    let complete = report.outcome == PublishOutcome::Complete;
    let printed = if args.json {
        print_aside(serde_json::to_string(&report)? + "\n").await
    } else if complete {
        print_aside(format!("{report}\n")).await
    } else {
        Ok(())
    };
    if !complete {
        let error = report.error.as_deref().unwrap_or("stopped by a signal");
        if args.json {
            note(error);
        } else if report.error.is_some() {
            note(report);
        } else {
            note(format_args!("{error}\n{report}"));
        }
    }
    let exit = if complete { Exit::Clean } else { Exit::Failure };
    Ok(conclude(printed, exit)?)
}

async fn publish(
    args: &PublishArgs,
    settings: &BrokerSettings,
    plan: &PublishPlan,
    stop: &PublishStop,
) -> anyhow::Result<PublishReport> {
    let runtime = AmqpRuntime::start().context("cannot start the AMQP thread")?;
    let prepared = async {
        // The input first: if the file does not exist, no broker is needed.
        let source = args.source().await?;
        let link = connect(settings, plan, &runtime).await?;
        anyhow::Ok((source, link))
    };
    let (source, link) = tokio::select! {
        prepared = prepared => prepared?,
        () = stop.sending.cancelled() => anyhow::bail!("stopped by a signal"),
    };
    let report = publish_on(&link, args, plan, source, stop).await;
    // The confirms decide everything, so that a failing close changes nothing.
    let _ = link.close(CLOSE_LIMIT).await;
    Ok(report)
}

async fn connect(
    settings: &BrokerSettings,
    plan: &PublishPlan,
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
    plan: &PublishPlan,
    source: BodySource,
    stop: &PublishStop,
) -> PublishReport {
    let mut progress = Progress::new(source.extent(), args.json);
    let pace = args.pace();
    let report = send(link, plan, source, pace, stop, |done| progress.show(done)).await;
    progress.finish();
    report
}

//! `tidegate dead`: looks at dead letters, replays them, drops them.

mod arguments;
mod progress;
mod prompt;
mod render;
mod show;
mod since;

use anyhow::Context as _;
use console::Term;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub(crate) use arguments::DeadCommand;

use super::connection::CLOSE_LIMIT;
use super::{Exit, signals};
use crate::output::{OutputError, conclude, note, print_aside, usage_error};
use arguments::{DropArgs, ListArgs, PickArgs, ReplayArgs};
use progress::Progress;
use render::List;
use show::Shown;
use tidegate::config::BrokerSettings;
use tidegate::internal::broker::{AmqpRuntime, Link, connect};
use tidegate_fleet::dead::{
    self, DeadAction, DeadOutcome, DeadReport, Export, Filter, Letter, Picking, QueueReport, Record,
};

/// Runs the command. It exits with 0 only if everything that was picked is dealt with.
///
/// The first SIGINT or SIGTERM ends the pass after the current letter and puts the rest back. A second one ends it at
/// once. Neither loses a letter, and neither sends one twice.
pub(crate) async fn run(command: DeadCommand) -> anyhow::Result<Exit> {
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    signals::listen([stop.clone(), abort.clone()])?;
    tokio::select! {
        biased;
        exit = run_until(command, stop) => exit,
        () = abort.cancelled() => {
            note("ended by a second signal; the broker has back what was held");
            Ok(Exit::Failure)
        }
    }
}

async fn run_until(command: DeadCommand, stop: CancellationToken) -> anyhow::Result<Exit> {
    let pick = match &command {
        DeadCommand::List(args) | DeadCommand::Show(args) => &args.pick,
        DeadCommand::Replay(args) => &args.pick,
        DeadCommand::Drop(args) => &args.pick,
    };
    let (broker, queues) = match pick.broker_and_queues().await? {
        Ok(found) => found,
        Err(usage) => return Ok(usage.report()),
    };
    if let DeadCommand::Drop(args) = &command
        && !args.may_ask()
    {
        return Ok(usage_error(
            "drop needs --yes: there is no terminal to ask on",
        ));
    }
    let runtime = AmqpRuntime::start().context("cannot start the AMQP thread")?;
    let link = connect_until(&broker, &runtime, &stop).await?;
    let work = Work {
        link: &link,
        queues,
        filter: pick.filter(),
        stop,
    };
    let exit = match &command {
        DeadCommand::List(args) => work.list(args).await,
        DeadCommand::Show(args) => work.show(args).await,
        DeadCommand::Replay(args) => work.replay(args).await,
        DeadCommand::Drop(args) => work.drop(args).await,
    };
    // Every letter is settled or back by now, so that a failing close changes nothing.
    let _ = link.close(CLOSE_LIMIT).await;
    exit
}

async fn connect_until(
    broker: &BrokerSettings,
    runtime: &AmqpRuntime,
    stop: &CancellationToken,
) -> anyhow::Result<Link> {
    tokio::select! {
        link = connect(broker, "tidegate dead", runtime) => Ok(link?),
        () = stop.cancelled() => anyhow::bail!("stopped by a signal"),
    }
}

/// What every subcommand needs.
struct Work<'a> {
    link: &'a Link,
    queues: Vec<String>,
    filter: Filter,
    stop: CancellationToken,
}

impl Work<'_> {
    fn picking(&self, left: Option<u64>) -> Picking<'_> {
        Picking {
            filter: &self.filter,
            left,
        }
    }

    async fn list(&self, args: &ListArgs) -> anyhow::Result<Exit> {
        let json = args.pick.json;
        let mut list = List::new(Timestamp::now());
        let mut shown = Shown::default();
        let limit = args.pick.list_limit();
        let report = self
            .look(DeadAction::List, limit, &mut |letter| {
                if json {
                    shown.add_json(&Record::summary(letter));
                } else {
                    list.add(letter);
                }
            })
            .await;
        if !json && report.queues.iter().any(|queue| queue.matched > 0) {
            let terminal = Term::stdout();
            let width = terminal.is_term().then(|| usize::from(terminal.size().1));
            for line in list.lines(width, console::colors_enabled()) {
                shown.add(&line);
            }
            shown.add("");
        }
        Self::conclude_look(shown, &report, json, limit).await
    }

    async fn show(&self, args: &ListArgs) -> anyhow::Result<Exit> {
        let json = args.pick.json;
        let limit = args.pick.show_limit();
        let colours = console::colors_enabled();
        // Printed after the pass: a reader that stalls or goes must not keep letters out of their place.
        let mut shown = Shown::default();
        let report = self
            .look(DeadAction::Show, limit, &mut |letter| {
                if json {
                    shown.add_json(&Record::full(letter, dead::BODY_SHOWN));
                } else {
                    shown.add(&render::whole(letter, colours));
                }
            })
            .await;
        Self::conclude_look(shown, &report, json, limit).await
    }

    async fn look(
        &self,
        action: DeadAction,
        limit: u64,
        each: &mut (dyn FnMut(&Letter) + Send),
    ) -> DeadReport {
        let mut picking = self.picking(Some(limit));
        let mut queues = Vec::new();
        for queue in &self.queues {
            if self.goes_on(&picking) {
                queues.push(dead::list(self.link, queue, &mut picking, &self.stop, each).await);
            }
        }
        DeadReport::new(action, false, self.stop.is_cancelled(), queues)
    }

    /// Prints what was found, and says what is not among it.
    async fn conclude_look(
        mut shown: Shown,
        report: &DeadReport,
        json: bool,
        limit: u64,
    ) -> anyhow::Result<Exit> {
        if !json {
            shown.add(&report.to_string());
        }
        let printed = shown.print().await?;
        if json {
            for queue in &report.queues {
                for text in queue.warnings.iter().chain(&queue.error) {
                    note(format_args!("{}: {text}", queue.dead_queue));
                }
            }
        }
        let picked: u64 = report.queues.iter().map(|queue| queue.matched).sum();
        if picked >= limit {
            note(format_args!("the first {limit}; --limit N for more"));
        }
        if report.outcome == DeadOutcome::Stopped {
            note("stopped by a signal");
        }
        Ok(conclude(printed, exit(report))?)
    }

    fn goes_on(&self, picking: &Picking<'_>) -> bool {
        !self.stop.is_cancelled() && picking.left != Some(0)
    }

    async fn replay(&self, args: &ReplayArgs) -> anyhow::Result<Exit> {
        let mut picking = self.picking(args.pick.limit());
        let mut progress = Progress::new(args.pick.json);
        let mut queues = Vec::new();
        for queue in &self.queues {
            if self.goes_on(&picking) {
                let mut observe = |report: &QueueReport| progress.show(report);
                let replayed = dead::replay(
                    self.link,
                    queue,
                    &mut picking,
                    args.options(),
                    &self.stop,
                    &mut observe,
                );
                queues.push(replayed.await);
            }
        }
        progress.finish();
        let stopped = self.stop.is_cancelled();
        let report = DeadReport::new(DeadAction::Replay, args.dry_run, stopped, queues);
        print_report(&report, args.pick.json).await
    }

    async fn drop(&self, args: &DropArgs) -> anyhow::Result<Exit> {
        let mut limit = args.pick.limit();
        if !args.yes && !args.dry_run {
            let rehearsal = self.drop_pass(&args.pick, limit, true, None).await;
            let count: u64 = rehearsal.queues.iter().map(|queue| queue.dropped).sum();
            if count == 0 || rehearsal.outcome != DeadOutcome::Complete {
                return print_report(&rehearsal, args.pick.json).await;
            }
            if !prompt::agrees_to_drop(count, &self.queues, &self.stop).await? {
                note("nothing was dropped");
                return Ok(Exit::Failure);
            }
            // Drop no more letters than the user has agreed to.
            limit = Some(count);
        }
        let export = args.to.as_deref().filter(|_| !args.dry_run);
        let mut export = export.map(Export::open).transpose()?;
        let report = self
            .drop_pass(&args.pick, limit, args.dry_run, export.as_mut())
            .await;
        print_report(&report, args.pick.json).await
    }

    async fn drop_pass(
        &self,
        pick: &PickArgs,
        limit: Option<u64>,
        dry_run: bool,
        mut export: Option<&mut Export>,
    ) -> DeadReport {
        let mut picking = self.picking(limit);
        let mut progress = Progress::new(pick.json);
        let mut queues = Vec::new();
        for queue in &self.queues {
            if self.goes_on(&picking) {
                let mut observe = |report: &QueueReport| progress.show(report);
                let dropped = dead::drop_letters(
                    self.link,
                    queue,
                    &mut picking,
                    dry_run,
                    export.as_deref_mut(),
                    &self.stop,
                    &mut observe,
                );
                queues.push(dropped.await);
            }
        }
        progress.finish();
        let stopped = self.stop.is_cancelled();
        DeadReport::new(DeadAction::Drop, dry_run, stopped, queues)
    }
}

async fn print_report(report: &DeadReport, json: bool) -> anyhow::Result<Exit> {
    let text = if json {
        serde_json::to_string(report)?
    } else {
        report.to_string()
    };
    let printed: Result<(), OutputError> = print_aside(text + "\n").await;
    if report.outcome == DeadOutcome::Stopped {
        note("stopped by a signal; the other letters are where they were");
    }
    Ok(conclude(printed, exit(report))?)
}

fn exit(report: &DeadReport) -> Exit {
    match report.outcome {
        DeadOutcome::Complete => Exit::Clean,
        DeadOutcome::Stopped | DeadOutcome::Failed => Exit::Failure,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_connector_is_named_as_opencti_s_worker_names_it() {
        use tidegate_fleet::dead;
        use tidegate_opencti::dead_letter;
        assert_eq!(dead::CONNECTOR, dead_letter::CONNECTOR);
        assert_eq!(dead::CONNECTOR_NAME, dead_letter::CONNECTOR_NAME);
    }
}

//! `tidegate dead`: looks at dead letters, sends them again, drops them.

mod arguments;
mod progress;
mod render;

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use anyhow::Context as _;
use console::Term;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

pub(crate) use arguments::DeadCommand;

use super::{Exit, signals};
use crate::dead::{
    self, BODY_SHOWN, Command, Export, Filter, Letter, Outcome, Picking, QueueReport, Record,
    Report,
};
use arguments::{DropArgs, ListArgs, PickArgs, ReplayArgs};
use progress::Progress;
use render::List;
use tidegate::config::BrokerSettings;
use tidegate::internal::broker::{self, AmqpRuntime, Link};

/// How long the broker has to answer the last goodbye.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Runs the command. Exit 0 only where everything that was picked is dealt with.
///
/// The first SIGINT or SIGTERM ends the pass after the letter at hand and puts the rest back, a second one ends at
/// once; nothing is lost or doubled by either.
pub(crate) async fn run(command: DeadCommand) -> anyhow::Result<Exit> {
    let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
    signals::listen([stop.clone(), abort.clone()])?;
    tokio::select! {
        biased;
        exit = run_until(command, stop) => exit,
        () = abort.cancelled() => {
            eprintln!("tidegate: ended by a second signal; what was held is the broker's again");
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
    let source = match pick.broker.settings()? {
        Ok(source) => source,
        Err(usage) => return Ok(usage.told()),
    };
    let queues = match pick.queues(&source) {
        Ok(queues) => queues,
        Err(usage) => return Ok(usage.told()),
    };
    if let DeadCommand::Drop(args) = &command
        && !args.may_ask()
    {
        eprintln!("error: dropping for good needs --yes where nobody can be asked");
        return Ok(Exit::Usage);
    }
    let runtime = AmqpRuntime::start().context("cannot start the AMQP thread")?;
    let link = connect(&source.into_broker(), &runtime, &stop).await?;
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
    // What was held is back, and what was removed is: a goodbye that fails changes nothing.
    let _ = link.close(CLOSE_LIMIT).await;
    exit
}

async fn connect(
    settings: &BrokerSettings,
    runtime: &AmqpRuntime,
    stop: &CancellationToken,
) -> anyhow::Result<Link> {
    tokio::select! {
        link = broker::connect(settings, "tidegate dead", runtime) => Ok(link?),
        () = stop.cancelled() => anyhow::bail!("stopped by a signal"),
    }
}

/// What every command has.
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
        let mut records = Vec::new();
        let limit = args.pick.list_limit();
        let report = self
            .look(Command::List, limit, &mut |letter| {
                if json {
                    records.push(Record::summary(letter));
                } else {
                    list.add(letter);
                }
            })
            .await;
        for record in &records {
            println!("{}", serde_json::to_string(record)?);
        }
        if !json && report.queues.iter().any(|queue| queue.matched > 0) {
            let terminal = Term::stdout();
            let width = terminal.is_term().then(|| usize::from(terminal.size().1));
            for line in list.lines(width, console::colors_enabled()) {
                println!("{line}");
            }
            println!();
        }
        Self::conclude(&report, json, limit);
        Ok(exit(&report))
    }

    async fn show(&self, args: &ListArgs) -> anyhow::Result<Exit> {
        let json = args.pick.json;
        let limit = args.pick.show_limit();
        let colours = console::colors_enabled();
        let mut failed = None;
        let report = self
            .look(Command::Show, limit, &mut |letter| {
                let text = if json {
                    serde_json::to_string(&Record::full(letter, BODY_SHOWN))
                } else {
                    Ok(render::whole(letter, colours))
                };
                match text {
                    Ok(text) => println!("{text}"),
                    Err(error) => failed = Some(error),
                }
            })
            .await;
        if let Some(error) = failed {
            return Err(error.into());
        }
        Self::conclude(&report, json, limit);
        Ok(exit(&report))
    }

    async fn look(
        &self,
        command: Command,
        limit: u64,
        each: &mut (dyn FnMut(&Letter) + Send),
    ) -> Report {
        let mut picking = self.picking(Some(limit));
        let mut queues = Vec::new();
        for queue in &self.queues {
            if self.goes_on(&picking) {
                queues.push(dead::list(self.link, queue, &mut picking, &self.stop, each).await);
            }
        }
        Report::new(command, false, self.stop.is_cancelled(), queues)
    }

    /// Says at the end of a list what is not in it.
    fn conclude(report: &Report, json: bool, limit: u64) {
        if json {
            for queue in &report.queues {
                for text in queue.warnings.iter().chain(&queue.error) {
                    eprintln!("tidegate: {}: {text}", queue.dead_queue);
                }
            }
        } else {
            println!("{report}");
        }
        let picked: u64 = report.queues.iter().map(|queue| queue.matched).sum();
        if picked >= limit {
            eprintln!("tidegate: the first {limit}; --limit N for more");
        }
        if report.outcome == Outcome::Stopped {
            eprintln!("tidegate: stopped by a signal");
        }
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
                    args.how(),
                    &self.stop,
                    &mut observe,
                );
                queues.push(replayed.await);
            }
        }
        progress.finish();
        let stopped = self.stop.is_cancelled();
        let report = Report::new(Command::Replay, args.dry_run, stopped, queues);
        told(&report, args.pick.json)
    }

    async fn drop(&self, args: &DropArgs) -> anyhow::Result<Exit> {
        let mut limit = args.pick.limit();
        if !args.yes && !args.dry_run {
            let rehearsal = self.drop_pass(&args.pick, limit, true, None).await;
            let count: u64 = rehearsal.queues.iter().map(|queue| queue.dropped).sum();
            if count == 0 || rehearsal.outcome != Outcome::Complete {
                return told(&rehearsal, args.pick.json);
            }
            if !asked(count, &self.queues)? {
                eprintln!("tidegate: nothing was dropped");
                return Ok(Exit::Failure);
            }
            // No more than were agreed to.
            limit = Some(count);
        }
        let export = args.to.as_deref().filter(|_| !args.dry_run);
        let mut export = export.map(Export::open).transpose()?;
        let report = self
            .drop_pass(&args.pick, limit, args.dry_run, export.as_mut())
            .await;
        told(&report, args.pick.json)
    }

    async fn drop_pass(
        &self,
        pick: &PickArgs,
        limit: Option<u64>,
        dry_run: bool,
        mut export: Option<&mut Export>,
    ) -> Report {
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
        Report::new(Command::Drop, dry_run, self.stop.is_cancelled(), queues)
    }
}

impl DropArgs {
    /// Whether the command may run: nothing need be asked, or there is somebody to ask.
    fn may_ask(&self) -> bool {
        let somebody = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        self.yes || self.dry_run || (somebody && !self.pick.json)
    }
}

/// Asks whether to drop `count` letters.
fn asked(count: u64, queues: &[String]) -> anyhow::Result<bool> {
    let noun = if count == 1 {
        "dead letter"
    } else {
        "dead letters"
    };
    let queues = queues.join(", ");
    eprint!("drop {count} {noun} of {queues} for good? [y/N] ");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn told(report: &Report, json: bool) -> anyhow::Result<Exit> {
    if json {
        println!("{}", serde_json::to_string(report)?);
    } else {
        println!("{report}");
    }
    if report.outcome == Outcome::Stopped {
        eprintln!("tidegate: stopped by a signal; the rest is where it was");
    }
    Ok(exit(report))
}

fn exit(report: &Report) -> Exit {
    match report.outcome {
        Outcome::Complete => Exit::Clean,
        Outcome::Stopped | Outcome::Failed => Exit::Failure,
    }
}

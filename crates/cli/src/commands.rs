//! The command line: arguments, and one module for each command.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::output::{OutputError, note, print};
use crate::telemetry::{LevelControl, Log, LogFilter};
use connection::warn_of_misspelt_variables;
use tidegate::config::{ConfigErrors, HandlersFrom, Settings};
use tidegate::internal::process::{fix_allocator, hold_signals};
use tokio::runtime::Runtime;
use worker::WorkerStart;

mod check;
mod connection;
pub(crate) mod dead;
mod declare;
mod fleet;
mod health;
mod opencti;
pub(crate) mod publish;
pub(crate) mod rollout;
pub(crate) mod schema;
mod signals;
pub(crate) mod simulate;
pub(crate) mod status;
mod table;
mod worker;

/// A RabbitMQ worker that can be stopped at any moment without losing, interrupting or repeating anything.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    log: LogArgs,
    #[command(subcommand)]
    command: Command,
}

/// The program's log, on standard error.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// The log filter: a level (`off`, `error`, `warn`, `info`, `debug`, `trace`) or directives such as `tidegate=debug`.
    /// By default `info` for programs that run for long, and `warn` for other commands
    #[arg(long, global = true, env = "TIDEGATE_LOG")]
    pub log: Option<LogFilter>,
    /// The form of log lines. By default `text`; for OpenCTI's worker `json`, unless `OPENCTI_JSON_LOGGING` is false
    #[arg(long, global = true, env = "TIDEGATE_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The configuration of a command.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file: TOML, YAML or JSON by its extension
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a worker on the queues of a configuration, until a signal ends it
    Worker(worker::WorkerArgs),
    /// Show the state of every worker on a page and through an API, until a signal ends it
    Fleet(ConfigArgs),
    /// Check the configuration, the shutdown budget, the broker and the queues; starts nothing
    Check(check::CheckArgs),
    /// Create the queues and exchanges that a worker needs, so that the worker itself needs no right to
    Declare(declare::DeclareArgs),
    /// Send messages to a queue, each confirmed by the broker
    Publish(publish::PublishArgs),
    /// Look at dead letters, replay them, drop them
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    Status(status::StatusArgs),
    /// Have workers drain and stop
    Drain(rollout::DrainArgs),
    /// Have workers stop consuming until they are told to resume
    Pause(rollout::PauseArgs),
    /// Have paused workers consume again
    Resume(rollout::TargetArgs),
    #[command(hide = true)]
    Simulate(simulate::SimulateArgs),
    /// Print the JSON Schemas of status messages, commands and replies
    Schema(schema::SchemaArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    Health(health::HealthArgs),
}

impl Command {
    /// Whether it runs until a signal ends it.
    const fn runs_for_long(&self) -> bool {
        matches!(self, Self::Worker(_) | Self::Fleet(_))
    }

    /// The default log filter.
    fn default_log(&self) -> LogFilter {
        LogFilter::level(match self {
            Self::Worker(_) | Self::Fleet(_) => "info",
            // Log lines would be written over what is drawn.
            Self::Status(args) if args.watch => "off",
            _ => "warn",
        })
    }
}

/// The end of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything went well.
    Clean,
    /// Something failed.
    Failure,
    /// The command line was wrong.
    Usage,
    /// The worker drained, but something was interrupted.
    Interrupted,
    /// A second signal ended the drain.
    Aborted,
    /// The configuration is wrong (`EX_CONFIG`).
    Config,
}

impl Exit {
    /// The exit code.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Interrupted => 3,
            Self::Aborted => 4,
            Self::Config => 78,
        }
    }
}

/// Runs the command that the process's arguments name.
pub(crate) fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => run(cli),
        Err(message) => refused(&message),
    };
    ExitCode::from(exit.code())
}

/// Prints a usage error, or the help or version that was asked for.
fn refused(message: &clap::Error) -> Exit {
    let exit = if message.use_stderr() {
        Exit::Usage
    } else {
        Exit::Clean
    };
    match message.print() {
        Err(error) if exit == Exit::Clean && error.kind() != ErrorKind::BrokenPipe => {
            note(OutputError::from(error));
            Exit::Failure
        }
        _ => exit,
    }
}

fn run(cli: Cli) -> Exit {
    if cli.command.runs_for_long() {
        // If it fails, a signal in the first milliseconds is not waited for.
        let _ = hold_signals();
        fix_allocator();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            note(format_args!("cannot start the runtime: {error}"));
            return Exit::Failure;
        }
    };
    let exit = run_on(&runtime, cli);
    // Neither a handler that ignores its cancellation nor a file that cannot be read may keep the process.
    runtime.shutdown_background();
    exit
}

fn run_on(runtime: &Runtime, cli: Cli) -> Exit {
    let filter = cli.log.log.filter(|filter| !filter.is_empty());
    let default = cli.command.default_log();
    // A worker's configuration may say how to log.
    let start = match &cli.command {
        Command::Worker(args) => Some(runtime.block_on(WorkerStart::read(args))),
        _ => None,
    };
    // If the settings are wrong, people read the errors.
    let format = cli.log.log_format.unwrap_or(match &start {
        Some(Ok(start)) if start.logs_json() => LogFormat::Json,
        _ => LogFormat::Text,
    });
    let log = match Log::start(filter, default, format) {
        Ok(log) => log,
        Err(error) => {
            note(error);
            return Exit::Failure;
        }
    };
    let exit = match start {
        Some(start) => runtime.block_on(worker::run(start, log.level())),
        None => runtime.block_on(run_logged(cli.command, log.level())),
    };
    let exit = exit.unwrap_or_else(|error| {
        // Whoever does not read any more asks for no more.
        let output = error.downcast_ref::<OutputError>();
        if output.is_some_and(OutputError::is_closed) {
            return Exit::Clean;
        }
        log.fail(&error);
        if error.is::<ConfigErrors>() || error.is::<tidegate_opencti::settings::SettingErrors>() {
            Exit::Config
        } else {
            Exit::Failure
        }
    });
    log.flush();
    exit
}

async fn run_logged(command: Command, level: LevelControl) -> anyhow::Result<Exit> {
    match command {
        // Its configuration is read before the log starts, so that a worker does not come this way.
        Command::Worker(args) => worker::run(WorkerStart::read(&args).await, level).await,
        Command::Fleet(args) => fleet::run(args, &level).await,
        Command::Publish(args) => publish::run(args).await,
        Command::Dead(command) => dead::run(command).await,
        Command::Status(args) => status::run(args).await,
        Command::Drain(args) => rollout::drain(args).await,
        Command::Pause(args) => rollout::pause(args).await,
        Command::Resume(args) => rollout::resume(args).await,
        Command::Simulate(args) => simulate::run(args).await,
        Command::Health(args) => health::run(&args).await,
        Command::Check(args) => check::run(args).await,
        Command::Declare(args) => declare::run(args).await,
        Command::Schema(args) => schema::run(&args),
        Command::Completions { shell } => completions(shell),
    }
}

fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut command = <Cli as clap::CommandFactory>::command();
    // Into memory first: the generator panics if it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "tidegate", &mut script);
    print(script)?;
    Ok(Exit::Clean)
}

/// Reads the configuration file that `args` names and the environment. `handlers`: who brings the handlers of nodes.
fn load_for(args: &ConfigArgs, handlers: HandlersFrom) -> Result<Settings, ConfigErrors> {
    warn_of_misspelt_variables();
    tidegate::config::load(&args.config, variables(), handlers)
}

/// The environment.
fn variables() -> impl Iterator<Item = (String, String)> {
    // What is not UTF-8 is wrong, and is to be refused by the key's rule or the broker, not left out in silence.
    let text = |(name, value): (OsString, OsString)| {
        Some((
            name.into_string().ok()?,
            value.to_string_lossy().into_owned(),
        ))
    };
    std::env::vars_os().filter_map(text)
}

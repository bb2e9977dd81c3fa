//! The command line: arguments, and one module for each command.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::telemetry;
use tidegate::config::{ConfigErrors, HandlersFrom, Settings};

mod check;
pub(crate) mod command;
mod connection;
pub(crate) mod dead;
mod fleet;
mod health;
pub(crate) mod publish;
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

/// How the program logs; on standard error.
#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// What to log: a level (`error`, `warn`, `info`, `debug`, `trace`) or directives such as `tidegate=debug`.
    /// By default `info` where a program runs for long, and `warn` where a command does its work
    #[arg(long, global = true, env = "TIDEGATE_LOG")]
    pub log: Option<String>,
    /// How to write it
    #[arg(long, global = true, env = "TIDEGATE_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// The form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file: TOML, YAML or JSON by its extension
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Work on the queues of a configuration until a signal ends it
    Worker(ConfigArgs),
    /// Show every worker's state, on a page and by an API, until a signal ends it
    Fleet(ConfigArgs),
    /// Say what would go wrong: configuration, shutdown budget, broker, queues; starts nothing
    Check(check::CheckArgs),
    /// Send messages to a queue, each confirmed by the broker
    Publish(publish::PublishArgs),
    /// Look at dead letters, send them again, drop them
    #[command(subcommand)]
    Dead(dead::DeadCommand),
    Status(status::StatusArgs),
    /// Have workers stop in order
    Drain(command::DrainArgs),
    /// Have workers consume nothing until they are told to resume
    Pause(command::PauseArgs),
    /// Have paused workers consume again
    Resume(command::CommandArgs),
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
    /// What is logged where nothing says so.
    fn default_log(&self) -> &'static str {
        match self {
            Self::Worker(_) | Self::Fleet(_) => "info",
            // It would be written over what is drawn.
            Self::Status(args) if args.watch => "off",
            _ => "warn",
        }
    }
}

/// What the process exits with.
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
    /// The exit status.
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
    let cli = Cli::parse();
    let exit = match run(cli) {
        Ok(exit) => exit,
        Err(error) => {
            eprintln!("tidegate: {error:#}");
            if error.is::<ConfigErrors>() {
                Exit::Config
            } else {
                Exit::Failure
            }
        }
    };
    ExitCode::from(exit.code())
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    let log = cli.log.log.as_deref().unwrap_or(cli.command.default_log());
    telemetry::init(log, cli.log.log_format)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let exit = runtime.block_on(async {
        match cli.command {
            Command::Worker(args) => worker::run(args).await,
            Command::Fleet(args) => fleet::run(args).await,
            Command::Publish(args) => publish::run(args).await,
            Command::Dead(command) => dead::run(command).await,
            Command::Status(args) => status::run(args).await,
            Command::Drain(args) => command::drain(args).await,
            Command::Pause(args) => command::pause(args).await,
            Command::Resume(args) => command::resume(args).await,
            Command::Simulate(args) => simulate::run(args).await,
            Command::Health(args) => health::run(&args),
            Command::Check(args) => check::run(args).await,
            Command::Schema(args) => schema::run(&args),
            Command::Completions { shell } => {
                let mut command = <Cli as clap::CommandFactory>::command();
                clap_complete::generate(shell, &mut command, "tidegate", &mut std::io::stdout());
                Ok(Exit::Clean)
            }
        }
    });
    // A handler that ignores its cancellation must not keep the process.
    runtime.shutdown_background();
    exit
}

/// Reads the configuration that `args` names, and what the environment says beside it.
fn load(args: &ConfigArgs) -> Result<Settings, ConfigErrors> {
    load_for(args, HandlersFrom::Configuration)
}

/// As [`load`], for what is done with the nodes.
fn load_for(args: &ConfigArgs, handlers: HandlersFrom) -> Result<Settings, ConfigErrors> {
    // What is not UTF-8 is wrong, and is to be refused by the key's rule or the broker, not left out in silence.
    let text = |(name, value): (OsString, OsString)| {
        Some((
            name.into_string().ok()?,
            value.to_string_lossy().into_owned(),
        ))
    };
    let variables = std::env::vars_os().filter_map(text);
    tidegate::config::load(&args.config, variables, handlers)
}

//! The `exec` handler: runs a command for each delivery; its exit code is the outcome.

mod capture;
mod environment;
mod process;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;

use nix::sys::signal::Signal;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::process::Command;

use self::capture::Capture;
use super::outcome::ERROR_LIMIT;
use super::{Context, Handler, HandlerError, Outcome, Reason};
use crate::config::ExecSettings;
use crate::delivery::Delivery;

/// The exit code that asks for another attempt: `EX_TEMPFAIL` of `sysexits.h`.
const TEMPORARY_FAILURE: i32 = 75;

/// How much of stderr's end goes into the error, in bytes: what the error's limit leaves beside the words
/// that this handler puts before it.
const STDERR_LIMIT: usize = ERROR_LIMIT - 100;

/// How much of stdout is kept for the log, in bytes.
const STDOUT_LIMIT: usize = 8 * 1024;

/// Runs a command for each delivery: the body on stdin, everything else in `TIDEGATE_*` variables.
///
/// Exit code 0 is done, 75 is retried, any other is dead, with the end of stderr as the error. A child that a
/// signal killed, or that could not be started, is retried: neither is the message's fault. stdout is read
/// and logged at level `debug`. The child leads a process group of its own, so a signal to the worker's group
/// (Ctrl-C) does not reach it; dropping the future kills that group with SIGKILL and reaps the child.
pub struct ExecHandler {
    program: String,
    arguments: Vec<String>,
    directory: Option<PathBuf>,
    /// The whole environment but for what the delivery adds.
    inherited: Vec<(OsString, OsString)>,
    configured: Vec<(String, SecretString)>,
}

impl ExecHandler {
    /// A handler as `settings` describe it. The environment is taken from this process now, without any
    /// `TIDEGATE_*` of its own. Whether the program exists is seen at each delivery, since it may be installed
    /// or repaired while messages wait.
    ///
    /// # Errors
    /// `command` names no program; an argument or a variable cannot be given to a program.
    pub fn new(settings: &ExecSettings) -> Result<Self, HandlerError> {
        Self::with_environment(settings, std::env::vars_os())
    }

    fn with_environment(
        settings: &ExecSettings,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, HandlerError> {
        validate(settings)?;
        let (program, arguments) = settings
            .command
            .split_first()
            .ok_or(HandlerError::NoProgram)?;
        Ok(Self {
            program: program.clone(),
            arguments: arguments.to_vec(),
            directory: settings.directory.clone(),
            inherited: environment::inherited(variables),
            configured: settings
                .env
                .iter()
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        })
    }

    fn command(&self, delivery: &Delivery) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.inherited.iter().map(|(name, value)| (name, value)))
            .envs(environment::variables(delivery));
        // What is configured wins over what the message says.
        for (name, value) in &self.configured {
            command.env(name, value.expose_secret());
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }

    /// Names the directory too: when it is missing, the system says no more than that something is.
    fn not_run(&self, error: &std::io::Error) -> String {
        let place = match &self.directory {
            Some(directory) => format!(" in {}", directory.display()),
            None => String::new(),
        };
        format!("cannot run `{}`{place}: {error}", self.program)
    }
}

fn validate(settings: &ExecSettings) -> Result<(), HandlerError> {
    if settings.command.first().is_none_or(String::is_empty) {
        return Err(HandlerError::NoProgram);
    }
    let refused = |what, rule| Err(HandlerError::Exec { what, rule });
    for (index, argument) in settings.command.iter().enumerate() {
        if argument.contains('\0') {
            return refused(format!("command[{index}]"), "must not contain NUL");
        }
    }
    for (name, value) in &settings.env {
        if name.is_empty() || name.contains(['=', '\0']) {
            return refused(
                format!("env {name:?}"),
                "a variable's name must not be empty or contain `=` or NUL",
            );
        }
        if value.expose_secret().contains('\0') {
            return refused(format!("env {name}"), "its value must not contain NUL");
        }
    }
    Ok(())
}

impl Handler for ExecHandler {
    async fn handle(&self, delivery: Arc<Delivery>, _context: Context) -> Outcome {
        let run = process::run(
            self.command(&delivery),
            &delivery.body,
            Capture::first(STDOUT_LIMIT),
            Capture::last(STDERR_LIMIT),
        );
        match run.await {
            Ok(exit) => {
                let stderr = exit.stderr.text();
                tracing::debug!(
                    queue = %delivery.queue,
                    status = %exit.status,
                    stdout = exit.stdout.text(),
                    stdout_bytes_dropped = exit.stdout.dropped(),
                    stderr,
                    "a command has ended"
                );
                outcome(exit.status, &stderr)
            }
            Err(error) => crashed(self.not_run(&error)),
        }
    }
}

impl std::fmt::Debug for ExecHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Arguments are left out with the variables: a password is often among them.
        f.debug_struct("ExecHandler")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

/// The table of the contract: exit code or signal to outcome.
fn outcome(status: ExitStatus, stderr: &str) -> Outcome {
    let with_stderr = |what: String| match stderr {
        "" => what,
        stderr => format!("{what}: {stderr}"),
    };
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Done,
        (Some(TEMPORARY_FAILURE), _) => {
            Outcome::retry(with_stderr(format!("exit code {TEMPORARY_FAILURE}")))
        }
        (Some(code), _) => Outcome::dead(with_stderr(format!("exit code {code}"))),
        (None, Some(signal)) => {
            let name = Signal::try_from(signal).map_or_else(
                |_unnamed| format!("signal {signal}"),
                |signal| signal.as_str().to_owned(),
            );
            crashed(with_stderr(format!("killed by {name}")))
        }
        (None, None) => crashed(with_stderr(format!("ended with {status}"))),
    }
}

fn crashed(error: String) -> Outcome {
    Outcome::Retry {
        delay: None,
        reason: Reason::Crash,
        error,
    }
    .bounded()
}

#[cfg(test)]
mod tests;

//! The `exec` handler: runs a command for each delivery; its exit code is the outcome.

mod capture;
pub(super) mod command;
mod environment;
mod process;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;

use nix::sys::signal::Signal;
use tokio::runtime::Handle;

use self::capture::Capture;
use self::process::{Exit, Failure};
use super::outcome::ERROR_LIMIT;
use super::{Context, Handler, HandlerError, Outcome, Reason};
use crate::config::ExecSettings;
use crate::delivery::Delivery;
use crate::process::{Program, Starter, Variables, is_shortage};

/// The exit code that asks for another attempt: `EX_TEMPFAIL` of `sysexits.h`.
const TEMPORARY_FAILURE: i32 = 75;

/// How much of stderr's end goes into the error, in bytes: what the error's limit leaves beside the words
/// that this handler puts before it.
const STDERR_LIMIT: usize = ERROR_LIMIT - 100;

/// Bytes of stdout that are kept for the log.
const STDOUT_LIMIT: usize = 8 * 1024;

/// Runs a command for each delivery: the body on stdin, everything else in `TIDEGATE_*` variables.
///
/// Exit code 0 is done, 75 is retried, any other is dead, with the end of stderr as the error. A child that a
/// signal killed, or whose program cannot be run, is retried with reason `crash`. If the worker itself lacks
/// what a child needs (descriptors, memory, processes), the delivery waits in its slot, and nothing is counted.
///
/// stdout is read and logged at level `debug`. The child leads a process group of its own, so a signal to the
/// worker's group (Ctrl-C) does not reach it. Dropping the future kills that group with SIGKILL and reaps the
/// child. If the worker dies, the kernel kills the child.
pub struct ExecHandler {
    name: String,
    directory: Option<PathBuf>,
    program: Arc<Program>,
    /// What is configured wins over what the message says.
    configured: BTreeSet<String>,
    starter: Starter,
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
        command::validate("exec", settings)?;
        Ok(Self {
            name: settings.command[0].clone(),
            directory: settings.directory.clone(),
            program: Arc::new(command::program("exec", settings, variables)?),
            configured: settings.env.keys().cloned().collect(),
            starter: Starter::default(),
        })
    }

    fn variables(&self, delivery: &Delivery) -> Variables {
        let variables = environment::variables(delivery).into_iter();
        Variables::new(variables.filter(|(name, _)| !self.configured.contains(name)))
            .expect("variables with NUL are left out")
    }

    async fn attempt(&self, delivery: &Delivery) -> Result<Exit, Failure> {
        process::run(
            &self.starter,
            &self.program,
            self.variables(delivery),
            &delivery.body,
            (Capture::first(STDOUT_LIMIT), Capture::last(STDERR_LIMIT)),
        )
        .await
    }

    /// Names the directory too: when it is missing, the system says no more than that something is.
    fn not_run(&self, error: &std::io::Error) -> String {
        let place = match &self.directory {
            Some(directory) => format!(" in {}", directory.display()),
            None => String::new(),
        };
        format!("cannot run `{}`{place}: {error}", self.name)
    }
}

impl Handler for ExecHandler {
    /// That of the thread that starts the children: a child is started and awaited without a switch between threads.
    fn runtime(&self) -> Option<Handle> {
        self.starter.runtime()
    }

    async fn handle(&self, delivery: Arc<Delivery>, context: Context) -> Outcome {
        let mut wait = context.shortage_wait();
        let exit = loop {
            match self.attempt(&delivery).await {
                Err(Failure::NotStarted(error)) if is_shortage(&error) => {
                    if wait.pause("a command", &error).await.is_break() {
                        return Outcome::HandBack;
                    }
                }
                other => break other,
            }
        };
        wait.end();
        match exit {
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
            Err(Failure::NotStarted(error)) => crashed(self.not_run(&error)),
            Err(Failure::Lost(error)) => crashed(format!(
                "the exit code of `{}` was lost: {error}",
                self.name
            )),
        }
    }
}

impl std::fmt::Debug for ExecHandler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Arguments are left out with the variables: a password is often among them.
        f.debug_struct("ExecHandler")
            .field("program", &self.name)
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

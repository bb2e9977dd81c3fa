//! From a configured command to a program: shared by the handlers that start processes.

use std::ffi::OsString;

use secrecy::ExposeSecret as _;

use super::environment;
use crate::config::ExecSettings;
use crate::handler::HandlerError;
use crate::process::Program;

/// The program that `settings` name, with the worker's environment but for its own `TIDEGATE_*`, and what is
/// configured. `handler` is the kind's word, for errors.
///
/// # Errors
/// See [`ExecHandler::new`](super::ExecHandler::new).
pub(in crate::handler) fn program(
    handler: &'static str,
    settings: &ExecSettings,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Program, HandlerError> {
    let configured = settings.env.iter();
    let configured =
        configured.map(|(name, value)| (name.into(), value.expose_secret().to_owned().into()));
    let variables = environment::inherited(environment)
        .into_iter()
        .chain(configured);
    let directory = settings.directory.as_deref();
    Program::new(&settings.command, directory, variables).map_err(|_nul| HandlerError::Command {
        handler,
        what: "directory".into(),
        rule: "must not contain NUL",
    })
}

/// Refuses what no program can be given, without showing it.
///
/// # Errors
/// As [`program`].
pub(in crate::handler) fn validate(
    handler: &'static str,
    settings: &ExecSettings,
) -> Result<(), HandlerError> {
    if settings.command.first().is_none_or(String::is_empty) {
        return Err(HandlerError::NoProgram { handler });
    }
    let refused = |what, rule| {
        Err(HandlerError::Command {
            handler,
            what,
            rule,
        })
    };
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

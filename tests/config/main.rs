//! Configuration as a user gives it: files, variables, and what is said about wrong ones. Needs no broker.

use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tidegate::config::{self, ConfigErrors, HandlersFrom, Settings};

mod environment;
mod fleet;
mod formats;
mod nodes;
mod rules;
mod sample;
mod secrets;
mod trees;

/// A directory for one test's files.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// Writes a file and returns its path.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path
    }
}

/// Loads `path` with variables over it.
fn load_with(path: &Path, variables: &[(&str, &str)]) -> Result<Settings, ConfigErrors> {
    let variables = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    config::load(path, variables, HandlersFrom::Configuration)
}

/// Loads TOML text with variables over it.
fn toml(text: &str, variables: &[(&str, &str)]) -> Result<Settings, ConfigErrors> {
    let place = Place::new();
    load_with(&place.file("worker.toml", text), variables)
}

/// A configuration with one node and the lines `more` in it.
fn node(more: &str) -> String {
    format!(
        "broker.url = \"amqp://localhost\"\n[[node]]\nqueue = \"orders\"\nhandler.log = {{}}\n{more}"
    )
}

/// A right configuration with the lines `more` before its node.
fn with(more: &str) -> String {
    format!("{more}\n[[node]]\nqueue = \"orders\"\nhandler.log = {{}}\n")
}

/// The lines that say what is wrong, without the headline.
fn errors(result: Result<Settings, ConfigErrors>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(errors) => errors.errors().iter().map(ToString::to_string).collect(),
    }
}

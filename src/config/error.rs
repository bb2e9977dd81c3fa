//! The errors of a configuration, all of them at once.

use std::fmt;
use std::path::Path;

/// A rule that a value breaks, in words.
pub(super) type Rule = String;

/// One error: the key, its value where that may be shown, and the rule that it breaks.
///
/// Its text is one line, such as `drain.grace = "2d": must be from 1s to 24h`. The values of URLs, headers,
/// commands and variables are never part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    key: String,
    value: Option<String>,
    variable: Option<String>,
    rule: String,
    order: usize,
}

impl ConfigError {
    /// An error that belongs to no key: the file cannot be read, or is not what its extension says.
    pub(super) fn of_file(rule: impl Into<String>) -> Self {
        Self::at(String::new(), rule, 0)
    }

    /// An error at `key`, which stands at the place `order` of the configuration.
    pub(super) fn at(key: String, rule: impl Into<String>, order: usize) -> Self {
        Self {
            key,
            value: None,
            variable: None,
            rule: rule.into(),
            order,
        }
    }

    /// Shows the value as it was given.
    pub(super) fn showing(mut self, value: String) -> Self {
        self.value = Some(value);
        self
    }

    /// Names the environment variable that the value came from.
    pub(super) fn of_variable(mut self, variable: Option<&str>) -> Self {
        self.variable = variable.map(str::to_owned);
        self
    }

    /// Where the key is: `node[0].retry.max`; empty if the whole file is meant.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The rule that is broken.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return f.write_str(&self.rule);
        }
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(variable) = &self.variable {
            write!(f, " (from {variable})")?;
        }
        write!(f, ": {}", self.rule)
    }
}

/// All errors of one configuration, in the order of its file; at least one. Settings made in code have the name
/// `settings` in place of the file's.
///
/// Its text has a line that names the file and counts the errors, then one indented line for each.
///
/// ```
/// use std::path::Path;
/// use tidegate::config::{self, HandlersFrom};
///
/// let path = Path::new("missing.toml");
/// let errors = config::load(path, [], HandlersFrom::Program).unwrap_err();
/// assert_eq!(errors.errors().len(), 1);
/// assert!(errors.to_string().starts_with("missing.toml: 1 error"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    file: String,
    errors: Vec<ConfigError>,
}

impl ConfigErrors {
    /// Sorts the errors by their place.
    pub(super) fn new(file: &Path, mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| error.order);
        Self {
            file: file.display().to_string(),
            errors,
        }
    }

    pub(super) fn into_errors(self) -> Vec<ConfigError> {
        self.errors
    }

    /// Each of them.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.errors.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(
            f,
            "{}: {count} error{plural} in the configuration",
            self.file
        )?;
        for error in &self.errors {
            write!(f, "\n  {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

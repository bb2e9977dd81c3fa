//! What is wrong with the settings: everything at once.

use std::fmt;

/// One error: the key, its value if it may be shown, and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingError {
    /// Where the value stands: a variable, or a key of a file.
    pub key: String,
    /// The value, unless it is or may hold a secret.
    pub value: Option<String>,
    /// The rule that it breaks.
    pub rule: String,
}

/// All errors of the settings; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingErrors(pub Vec<SettingError>);

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        write!(f, ": {}", self.rule)
    }
}

impl fmt::Display for SettingErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(
            f,
            "{count} error{plural} in the settings of the OpenCTI worker"
        )?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for SettingErrors {}

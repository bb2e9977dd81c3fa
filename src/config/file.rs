//! The file: its format by its extension, and its text as a tree.

use std::io::Read as _;
use std::path::Path;

use ::config::{File, FileFormat, Source as _, Value};

use super::error::ConfigError;
use super::tree::Tree;

/// Largest configuration file and largest secret file, in bytes; more is a mistake, such as the path of a device.
pub(super) const FILE_LIMIT: u64 = 1 << 20;

/// Reads the file as the format that its extension names.
pub(super) fn read(path: &Path) -> Result<Tree, ConfigError> {
    let format = format(path)?;
    let text =
        text(path).map_err(|cause| ConfigError::of_file(format!("cannot be read: {cause}")))?;
    // Not through a builder: that takes every key of the top level for a path, where `node[9999999]` makes a
    // list of as many elements.
    let sections = File::from_str(&text, format)
        .collect()
        .map_err(|error| ConfigError::of_file(syntax(&error, format, &text)))?;
    Ok(Tree::of_file(Value::new(None, sections)))
}

/// The text of a file of at most [`FILE_LIMIT`]; on failure, the cause in words.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| cause(&error))?;
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| cause(&error))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err("larger than 1 MiB".into());
    }
    // The bytes are not kept in the error: they may be a secret.
    String::from_utf8(bytes).map_err(|error| format!("not UTF-8: {}", error.utf8_error()))
}

/// An I/O error without the number that Rust adds to it.
pub(super) fn cause(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

fn format(path: &Path) -> Result<FileFormat, ConfigError> {
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    match extension.as_deref() {
        Some("toml") => Ok(FileFormat::Toml),
        #[cfg(feature = "yaml")]
        Some("yaml" | "yml") => Ok(FileFormat::Yaml),
        Some("json") => Ok(FileFormat::Json),
        _ => Err(ConfigError::of_file(if cfg!(feature = "yaml") {
            "the file's name must end in .toml, .yaml, .yml or .json, which says how to read it"
        } else {
            "the file's name must end in .toml or .json, which says how to read it"
        })),
    }
}

/// Where and why the text cannot be understood, without the text itself: what stands there may be a secret.
fn syntax(error: &::config::ConfigError, format: FileFormat, text: &str) -> String {
    let ::config::ConfigError::FileParse { cause, .. } = error else {
        return "cannot be read as a table of sections".into();
    };
    if let Some(error) = cause.downcast_ref::<toml::de::Error>() {
        let message = error.message().replace('\n', ", ");
        return match error.span() {
            Some(span) => format!("not TOML at {}: {message}", place(text, span.start)),
            None => format!("not TOML: {message}"),
        };
    }
    if let Some(error) = cause.downcast_ref::<serde_json::Error>() {
        return format!("not JSON: {error}");
    }
    match format {
        #[cfg(feature = "yaml")]
        FileFormat::Yaml if cause.to_string().starts_with("Got ") => {
            "more than one YAML document".into()
        }
        #[cfg(feature = "yaml")]
        FileFormat::Yaml if has_position(&cause.to_string()) => {
            format!("not YAML: {}", cause.to_string().replace('\n', " "))
        }
        FileFormat::Toml => "a number is too large".into(),
        _ => "the top level must be a table of sections with plain keys and values".into(),
    }
}

#[cfg(feature = "yaml")]
fn has_position(message: &str) -> bool {
    message.contains(" line ") && message.contains(" column ")
}

fn place(text: &str, offset: usize) -> String {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    format!("line {line}, column {column}")
}

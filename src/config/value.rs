//! Single values: what each sort of key takes. Every function returns the rule that is broken, in words.

use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::error::Rule;
use super::rules::Bounds;
use super::tree::{Kind, Tree};

/// A string.
pub(super) fn text(tree: &Tree) -> Result<String, Rule> {
    match &tree.kind {
        Kind::Text(text) => Ok(text.clone()),
        _ => Err("must be a string".into()),
    }
}

/// A string with a length in bytes.
pub(super) fn bytes(bounds: Bounds<usize>) -> impl Fn(&Tree) -> Result<String, Rule> {
    move |tree| bounds.text(text(tree)?)
}

/// A path, not empty.
pub(super) fn path(tree: &Tree) -> Result<PathBuf, Rule> {
    match text(tree)?.as_str() {
        "" => Err("must name a file".into()),
        path => Ok(path.into()),
    }
}

/// `true` or `false`.
pub(super) fn boolean(tree: &Tree) -> Result<bool, Rule> {
    match &tree.kind {
        Kind::Bool(value) => Ok(*value),
        Kind::Text(text) if tree.variable.is_some() && text.eq_ignore_ascii_case("true") => {
            Ok(true)
        }
        Kind::Text(text) if tree.variable.is_some() && text.eq_ignore_ascii_case("false") => {
            Ok(false)
        }
        _ => Err("must be true or false".into()),
    }
}

/// A whole number.
pub(super) fn integer<T>(bounds: Bounds<T>) -> impl Fn(&Tree) -> Result<T, Rule>
where
    T: TryFrom<i128> + PartialOrd + Display + Copy,
{
    move |tree| {
        let number = match &tree.kind {
            Kind::Integer(number) => Some(*number),
            Kind::Text(text) if tree.variable.is_some() => text.trim().parse().ok(),
            _ => None,
        };
        let number = number.and_then(|number| T::try_from(number).ok());
        bounds.number(number.ok_or_else(|| bounds.number_rule())?)
    }
}

/// A duration with its unit.
pub(super) fn duration(bounds: Bounds<Duration>) -> impl Fn(&Tree) -> Result<Duration, Rule> {
    move |tree| bounds.duration(any_duration(tree)?)
}

/// A duration with its unit, of any length.
pub(super) fn any_duration(tree: &Tree) -> Result<Duration, Rule> {
    let text = with_unit(tree, "25s")?;
    humantime::parse_duration(text)
        .map_err(|_words| "must be a duration such as \"25s\", \"5m\" or \"100ms\"".into())
}

/// A number of bytes with its unit.
pub(super) fn size(bounds: Bounds<u64>) -> impl Fn(&Tree) -> Result<u64, Rule> {
    move |tree| {
        let text = with_unit(tree, "16MiB")?;
        let size: ByteSize = text
            .parse()
            .map_err(|_words| "must be a size such as \"16MiB\", \"512kB\" or \"1B\"")?;
        bounds.size(size.as_u64())
    }
}

fn with_unit<'t>(tree: &'t Tree, example: &str) -> Result<&'t str, Rule> {
    match &tree.kind {
        Kind::Integer(_) | Kind::Float(_) => {
            Err(format!("needs a unit: a string such as {example:?}"))
        }
        Kind::Text(text) if text.trim().parse::<f64>().is_ok() => {
            Err(format!("needs a unit, such as {example:?}"))
        }
        Kind::Text(text) => Ok(text.trim()),
        _ => Err(format!("must be a string with a unit, such as {example:?}")),
    }
}

/// A duration in the largest unit that leaves no fraction: `24h`, `5m`, `90s`, `100ms`.
pub(super) fn words(duration: Duration) -> String {
    let ms = duration.as_millis();
    let units = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
    units
        .into_iter()
        .find(|(_, unit)| {
            ms >= *unit
                && ms.is_multiple_of(*unit)
                && duration.subsec_nanos().is_multiple_of(1_000_000)
        })
        .map_or_else(
            || humantime::format_duration(duration).to_string(),
            |(name, unit)| format!("{}{name}", ms / unit),
        )
}
